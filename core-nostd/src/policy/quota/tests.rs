//! The tree against every charge in one list, and its edges.

use core::time::Duration;
use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::time::Instant;

const SLOTS: usize = 6;
const PERIOD_NS: u64 = 10;
const SPEC: QuotaSpec =
    QuotaSpec { period: Duration::from_nanos(PERIOD_NS), grace: Duration::from_nanos(4) };

fn limits(of: u64) -> Limits {
    Limits { cpu_time_ns: of, memory_bytes: of, messages: of, log_bytes: of }
}

/// Every charge that was made, with all groups that it counts for.
struct Entry {
    path: Vec<GroupId>,
    resource: Resource,
    amount: u64,
    period: u64,
}

/// Keeps the entries, and adds them up whenever something is to be known.
#[derive(Default)]
struct Naive {
    groups: HashMap<GroupId, (Option<GroupId>, u64)>,
    entries: Vec<Entry>,
    /// Pressure, and since when.
    pressure: HashMap<(GroupId, Resource), (Pressure, u64)>,
    now: u64,
}

impl Naive {
    fn path(&self, id: GroupId) -> Vec<GroupId> {
        let mut path = std::vec![id];
        while let Some((Some(parent), _)) = path.last().and_then(|id| self.groups.get(id)) {
            path.push(*parent);
        }
        path
    }

    fn used(&self, id: GroupId, resource: Resource) -> u64 {
        let counts = |entry: &&Entry| {
            let now = resource.is_held() || entry.period == self.now / PERIOD_NS;
            now && entry.resource == resource && entry.path.contains(&id)
        };
        self.entries.iter().filter(counts).map(|entry| entry.amount).sum()
    }

    fn own(&self, id: GroupId, resource: Resource) -> u64 {
        let mine = |entry: &&Entry| {
            resource.is_held() && entry.path[0] == id && entry.resource == resource
        };
        self.entries.iter().filter(mine).map(|entry| entry.amount).sum()
    }

    fn press(&mut self, id: GroupId, resource: Resource, pressure: Pressure) {
        let now = self.now;
        let entry = self.pressure.entry((id, resource)).or_default();
        if entry.0 != pressure {
            *entry = (pressure, now);
        }
    }

    fn settle(&mut self, id: GroupId, resource: Resource) {
        let (used, limit) = (u128::from(self.used(id, resource)), u128::from(self.groups[&id].1));
        let before = self.pressure.get(&(id, resource)).copied().unwrap_or_default().0;
        let at_least = |percent: u128| used > 0 && used * 100 >= limit * percent;
        let pressure = match before {
            _ if limit == u128::from(u64::MAX) => Pressure::Calm,
            _ if at_least(95) => Pressure::Critical,
            Pressure::Critical if at_least(85) => Pressure::Critical,
            _ if at_least(80) => Pressure::Elevated,
            Pressure::Critical | Pressure::Elevated if at_least(70) => Pressure::Elevated,
            _ => Pressure::Calm,
        };
        self.press(id, resource, pressure);
    }

    fn pass(&mut self, now: u64) {
        let periods = (self.now / PERIOD_NS, now / PERIOD_NS);
        self.now = now;
        if periods.0 != periods.1 {
            let ids: Vec<GroupId> = self.groups.keys().copied().collect();
            for id in ids {
                self.press(id, Resource::CpuTime, Pressure::Calm);
                self.press(id, Resource::LogBytes, Pressure::Calm);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(usize, u64),
    Remove(usize),
    Charge(usize, Resource, u64),
    Refund(usize, Resource, u64),
    Limit(usize, u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let resource = || prop::sample::select(Resource::ALL.to_vec());
    let limit = || prop_oneof![4 => 0..60_u64, 1 => Just(u64::MAX)];
    let amount = || prop_oneof![8 => 0..30_u64, 1 => Just(u64::MAX)];
    let which = || 0..8_usize;
    prop_oneof![
        3 => (which(), limit()).prop_map(|(at, limit)| Op::Add(at, limit)),
        1 => which().prop_map(Op::Remove),
        8 => (which(), resource(), amount()).prop_map(|(at, r, a)| Op::Charge(at, r, a)),
        4 => (which(), resource(), amount()).prop_map(|(at, r, a)| Op::Refund(at, r, a)),
        1 => (which(), limit()).prop_map(|(at, limit)| Op::Limit(at, limit)),
    ]
}

proptest! {
    #[test]
    fn charges_as_a_ledger_would(
        history in prop::collection::vec((0..3_u64, ops()), 0..200),
    ) {
        let mut tree = QuotaTree::new(std::vec![Slot::default(); SLOTS], SPEC).unwrap();
        let mut naive = Naive::default();
        // Also those that are gone: their names are refused.
        let mut ids: Vec<GroupId> = Vec::new();
        let mut told: HashMap<(GroupId, Resource), Pressure> = HashMap::new();
        for (step, op) in history {
            naive.pass(naive.now + step);
            let now = Instant::from_ns(naive.now);
            let mut tell = |change: PressureChange| {
                let key = (change.group, change.resource);
                let before = told.insert(key, change.pressure).unwrap_or_default();
                assert_ne!(before, change.pressure, "told twice");
            };
            tree.tick(now, &mut tell);
            let known = |at: usize| ids.get(at % ids.len().max(1)).copied();
            match op {
                Op::Add(at, limit) => {
                    let parent = known(at).filter(|_| at != 7);
                    let real = tree.add(parent, limits(limit));
                    match parent {
                        Some(parent) if !naive.groups.contains_key(&parent) => {
                            prop_assert_eq!(real, Err(AddError::UnknownParent(parent)));
                        }
                        _ if naive.groups.len() == SLOTS => {
                            prop_assert_eq!(real, Err(AddError::Full { capacity: SLOTS }));
                        }
                        _ => {
                            let id = real.unwrap();
                            prop_assert!(!ids.contains(&id), "names are not used again");
                            naive.groups.insert(id, (parent, limit));
                            ids.push(id);
                        }
                    }
                }
                Op::Remove(at) => {
                    let Some(id) = known(at) else { continue };
                    let real = tree.remove(now, id, &mut tell);
                    let below = naive.groups.values().filter(|(parent, _)| *parent == Some(id));
                    let children = below.count();
                    if !naive.groups.contains_key(&id) {
                        prop_assert_eq!(real, Err(RemoveError::UnknownGroup(id)));
                    } else if children > 0 {
                        let children = u32::try_from(children).unwrap();
                        prop_assert_eq!(real, Err(RemoveError::HasChildren { id, children }));
                    } else {
                        prop_assert_eq!(real, Ok(()));
                        let path = naive.path(id);
                        naive.entries.retain(|e| !(e.path[0] == id && e.resource.is_held()));
                        naive.groups.remove(&id);
                        naive.pressure.retain(|(of, _), _| *of != id);
                        told.retain(|(of, _), _| *of != id);
                        for above in &path[1..] {
                            naive.settle(*above, Resource::Memory);
                            naive.settle(*above, Resource::Messages);
                        }
                    }
                }
                Op::Charge(at, resource, amount) => {
                    let Some(id) = known(at) else { continue };
                    let real = tree.charge(now, id, resource, amount, &mut tell);
                    if !naive.groups.contains_key(&id) {
                        prop_assert_eq!(real, Err(ChargeError::UnknownGroup(id)));
                        continue;
                    }
                    let path = naive.path(id);
                    let over = path.iter().copied().find(|at| {
                        let sum = u128::from(naive.used(*at, resource)) + u128::from(amount);
                        sum > u128::from(naive.groups[at].1)
                    });
                    if let Some(at) = over {
                        let before = naive.pressure.get(&(at, resource)).copied();
                        let (pressure, since) = before.unwrap_or_default();
                        let asked = pressure == Pressure::Critical && naive.now >= since + 4;
                        let remedy = if asked { Remedy::Stop } else { Remedy::BackOff };
                        let (used, limit) = (naive.used(at, resource), naive.groups[&at].1);
                        let error =
                            ChargeError::OverLimit { at, resource, amount, used, limit, remedy };
                        prop_assert_eq!(real, Err(error));
                        naive.press(at, resource, Pressure::Critical);
                    } else {
                        prop_assert_eq!(real, Ok(()));
                        let period = naive.now / PERIOD_NS;
                        naive.entries.push(Entry { path: path.clone(), resource, amount, period });
                        for at in path {
                            naive.settle(at, resource);
                        }
                    }
                }
                Op::Refund(at, resource, amount) => {
                    let Some(id) = known(at) else { continue };
                    let real = tree.refund(now, id, resource, amount, &mut tell);
                    let own = naive.own(id, resource);
                    if !naive.groups.contains_key(&id) {
                        prop_assert_eq!(real, Err(RefundError::UnknownGroup(id)));
                    } else if !resource.is_held() {
                        prop_assert_eq!(real, Err(RefundError::NotHeld(resource)));
                    } else if amount > own {
                        let error = RefundError::MoreThanHeld { resource, amount, own };
                        prop_assert_eq!(real, Err(error));
                    } else {
                        prop_assert_eq!(real, Ok(()));
                        let path = naive.path(id);
                        naive.entries.retain(|e| !(e.path[0] == id && e.resource == resource));
                        let entry = Entry { path: path.clone(), resource, amount: own - amount, period: 0 };
                        naive.entries.push(entry);
                        for at in path {
                            naive.settle(at, resource);
                        }
                    }
                }
                Op::Limit(at, limit) => {
                    let Some(id) = known(at) else { continue };
                    let real = tree.set_limits(now, id, limits(limit), &mut tell);
                    prop_assert_eq!(real, naive.groups.contains_key(&id));
                    if let Some(group) = naive.groups.get_mut(&id) {
                        group.1 = limit;
                        for resource in Resource::ALL {
                            naive.settle(id, resource);
                        }
                    }
                }
            }
            prop_assert_eq!(tree.check_invariants(), Ok(()));
            for id in &ids {
                for resource in Resource::ALL {
                    if !naive.groups.contains_key(id) {
                        prop_assert_eq!(tree.used(*id, resource), None);
                        prop_assert_eq!(tree.pressure(*id, resource), None);
                        continue;
                    }
                    prop_assert_eq!(tree.used(*id, resource), Some(naive.used(*id, resource)));
                    let of = |at: &GroupId| {
                        let key = (*at, resource);
                        let pressure = naive.pressure.get(&key).copied().unwrap_or_default().0;
                        assert_eq!(told.get(&key).copied().unwrap_or_default(), pressure);
                        pressure
                    };
                    let highest = naive.path(*id).iter().map(of).max();
                    prop_assert_eq!(tree.pressure(*id, resource), highest);
                }
            }
        }
    }
}

#[test]
fn a_daemon_is_asked_before_it_is_stopped() {
    let mut tree = QuotaTree::new([Slot::EMPTY], QuotaSpec::default()).unwrap();
    let id = tree.add(None, Limits { memory_bytes: 100, ..Limits::NONE }).unwrap();
    let mut told = Vec::new();
    let at = |seconds| Instant::ZERO.saturating_add(Duration::from_secs(seconds));
    let mut charge = |tree: &mut QuotaTree<_>, seconds, amount| {
        tree.charge(at(seconds), id, Resource::Memory, amount, &mut |change| {
            told.push(change.pressure);
        })
        .map_err(|error| match error {
            ChargeError::OverLimit { remedy, .. } => remedy,
            ChargeError::UnknownGroup(_) => panic!("{error}"),
        })
    };
    assert_eq!(charge(&mut tree, 0, 79), Ok(()));
    assert_eq!(charge(&mut tree, 1, 1), Ok(()));
    assert_eq!(charge(&mut tree, 2, 15), Ok(()));
    assert_eq!(charge(&mut tree, 3, 6), Err(Remedy::BackOff));
    assert_eq!(charge(&mut tree, 11, 6), Err(Remedy::BackOff));
    assert_eq!(charge(&mut tree, 12, 6), Err(Remedy::Stop));
    assert_eq!(told, [Pressure::Elevated, Pressure::Critical]);
    // It backed off after all, and is asked again.
    tree.refund(at(13), id, Resource::Memory, 40, &mut |_| {}).unwrap();
    assert_eq!(tree.pressure(id, Resource::Memory), Some(Pressure::Calm));
    let sudden = tree.charge(at(60), id, Resource::Memory, 90, &mut |_| {});
    assert!(matches!(sudden, Err(ChargeError::OverLimit { remedy: Remedy::BackOff, .. })));
}

#[test]
fn what_was_spent_is_forgotten_with_the_period_and_told() {
    let mut tree = QuotaTree::new([Slot::EMPTY], QuotaSpec::default()).unwrap();
    let id = tree.add(None, limits(10)).unwrap();
    for resource in Resource::ALL {
        tree.charge(Instant::ZERO, id, resource, 10, &mut |_| {}).unwrap();
    }
    assert_eq!(tree.next_deadline(), Instant::from_ns(1_000_000_000));
    let mut told = Vec::new();
    // Three periods late, and the next one ends when it would have.
    tree.tick(Instant::from_ns(3_500_000_000), &mut |change| told.push(change.resource));
    assert_eq!(told, [Resource::CpuTime, Resource::LogBytes]);
    assert_eq!(tree.next_deadline(), Instant::from_ns(4_000_000_000));
    let used = Resource::ALL.map(|resource| tree.used(id, resource));
    assert_eq!(used, [Some(0), Some(10), Some(10), Some(0)]);
    tree.tick(Instant::MAX, &mut |_| {});
    assert_eq!(tree.next_deadline(), Instant::MAX);
    tree.tick(Instant::MAX, &mut |_| {});
    assert_eq!(tree.check_invariants(), Ok(()));
}

#[test]
fn resources_have_names_with_their_units() {
    let names = Resource::ALL.map(Resource::name);
    assert_eq!(names, ["cpu time (ns)", "memory (bytes)", "messages", "log bytes"]);
}

#[test]
fn a_tree_has_its_bounds() {
    let none = QuotaSpec { period: Duration::ZERO, ..SPEC };
    assert_eq!(QuotaTree::new([Slot::EMPTY], none).err(), Some(PeriodIsZero));
    let mut tree = QuotaTree::new([const { Slot::EMPTY }; 10], SPEC).unwrap();
    let mut deepest = None;
    for _ in 0..DEPTH_MAX {
        deepest = Some(tree.add(deepest, Limits::default()).unwrap());
    }
    assert_eq!(tree.add(deepest, Limits::NONE), Err(AddError::TooDeep));
    // Unlimited is up to what can be counted.
    let id = deepest.unwrap();
    tree.charge(Instant::ZERO, id, Resource::Messages, u64::MAX, &mut |_| {}).unwrap();
    let error = tree.charge(Instant::ZERO, id, Resource::Messages, 1, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ChargeError::OverLimit { at, limit: u64::MAX, .. } if at == id));
    assert_eq!(tree.check_invariants(), Ok(()));
    let mut empty = QuotaTree::new([], SPEC).unwrap();
    assert_eq!(empty.add(None, Limits::NONE), Err(AddError::Full { capacity: 0 }));
}
