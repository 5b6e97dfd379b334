//! The table against a naive one: a map of live capabilities, in which revoking removes a tree.

use std::collections::{HashMap, HashSet};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::sample::Index;

use super::arena::Node;
use super::*;
use crate::time::Instant;

const TABLE: u32 = 9;
const LABELS: u16 = 2;
const PROCESSES: u64 = 7;

type TestTable = Table<Vec<Slot>, Vec<LabelSlot>>;

fn table(capacity: usize) -> TestTable {
    let labels = vec![LabelSlot::EMPTY; usize::from(LABELS)];
    Table::new(TABLE, vec![Slot::EMPTY; capacity], labels)
}

/// Process `n` has the children `2n` and `2n + 1`; the first is 1.
fn path(process: u64) -> Vec<Holder> {
    let mut path: Vec<_> =
        std::iter::successors(Some(process), |n| (*n > 1).then_some(n / 2)).map(Holder).collect();
    path.reverse();
    path
}

#[derive(Clone, Copy, Debug)]
struct Held {
    parent: Option<Handle>,
    holder: u64,
    object: u64,
    rights: Rights,
    expires_ns: u64,
    below: Option<u64>,
    label: u16,
    depth: u8,
}

#[derive(Default)]
struct Model {
    live: HashMap<Handle, Held>,
    gone: HashSet<Handle>,
    /// In the order in which they were given out.
    given: Vec<Handle>,
    now_ns: u64,
}

fn is_below(process: u64, root: Option<u64>) -> bool {
    root.is_none_or(|root| path(process).contains(&Holder(root)))
}

impl Model {
    fn live(&self, handle: Handle) -> Result<Held, Refusal> {
        if handle.table != TABLE {
            return Err(Refusal::ForeignTable { table: handle.table, this: TABLE });
        }
        let gone = self.gone.contains(&handle);
        let refusal = if gone { Refusal::Revoked } else { Refusal::Unknown };
        self.live.get(&handle).copied().ok_or(refusal)
    }

    fn check(&self, caller: u64, handle: Handle, needed: Rights) -> Result<Held, Refusal> {
        let held = self.live(handle)?;
        let missing = needed.without(held.rights);
        if held.holder != caller {
            Err(Refusal::NotHolder)
        } else if !is_below(caller, held.below) {
            Err(Refusal::OutOfScope)
        } else if held.expires_ns != u64::MAX && held.expires_ns <= self.now_ns {
            Err(Refusal::Expired)
        } else if missing != Rights::NONE {
            Err(Refusal::MissingRights { missing })
        } else {
            Ok(held)
        }
    }

    fn descends(&self, mut handle: Handle, from: Handle) -> bool {
        while handle != from {
            match self.live.get(&handle).and_then(|held| held.parent) {
                Some(parent) => handle = parent,
                None => return false,
            }
        }
        true
    }

    fn revoke_if(&mut self, falls: impl Fn(&Self, Handle) -> bool) {
        let handles: Vec<_> = self.live.keys().copied().collect();
        let fallen: Vec<_> = handles.into_iter().filter(|handle| falls(self, *handle)).collect();
        for handle in fallen {
            self.live.remove(&handle);
            self.gone.insert(handle);
        }
    }

    fn give(&mut self, handle: Handle, held: Held) {
        assert!(!self.gone.contains(&handle), "{handle:?} was given out before");
        assert!(self.live.insert(handle, held).is_none(), "{handle:?} is in use");
        self.given.push(handle);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Grant {
        holder: u64,
        rights: Rights,
        expires_ns: u64,
        below: Option<u64>,
        label: u16,
    },
    Delegate {
        which: Index,
        caller: Option<u64>,
        to: u64,
        rights: Rights,
        expires_ns: Option<u64>,
        below: Option<u64>,
    },
    Check {
        which: Index,
        caller: Option<u64>,
        needed: Rights,
    },
    Clock(u64),
    Revoke(Index),
    RevokeBy(u64, Index),
    RevokeLabel(u16),
    RevokeHolder(u64),
    Reclaim(u32),
}

fn ops() -> impl Strategy<Value = Op> {
    let process = || 1..=PROCESSES;
    // Mostly broad, so that chains grow long.
    let rights = || {
        let any = (0..=0xff_u32).prop_map(|bits| Rights::try_from(bits).unwrap());
        prop_oneof![3 => Just(Rights::ALL), 1 => any]
    };
    let expiry = || prop_oneof![3 => Just(u64::MAX), 1 => 0..60_u64];
    let below = || prop_oneof![2 => Just(None), 1 => process().prop_map(Some)];
    // Mostly whoever holds it.
    let caller = || prop_oneof![4 => Just(None), 1 => process().prop_map(Some)];
    let which = any::<Index>;
    let maybe_expiry = prop_oneof![3 => Just(None), 1 => expiry().prop_map(Some)];
    let needed = (0..8_u32).prop_map(|bit| Rights::try_from(1 << bit).unwrap());
    prop_oneof![
        4 => (process(), rights(), expiry(), below(), 0..=LABELS).prop_map(
            |(holder, rights, expires_ns, below, label)| Op::Grant {
                holder, rights, expires_ns, below, label
            }
        ),
        12 => (which(), caller(), process(), rights(), maybe_expiry, below()).prop_map(
            |(which, caller, to, rights, expires_ns, below)| Op::Delegate {
                which, caller, to, rights, expires_ns, below
            }
        ),
        6 => (which(), caller(), needed)
            .prop_map(|(which, caller, needed)| Op::Check { which, caller, needed }),
        2 => prop_oneof![8 => 0..60_u64, 1 => Just(u64::MAX)].prop_map(Op::Clock),
        2 => which().prop_map(Op::Revoke),
        1 => (process(), which()).prop_map(|(caller, which)| Op::RevokeBy(caller, which)),
        1 => (0..=LABELS).prop_map(Op::RevokeLabel),
        1 => process().prop_map(Op::RevokeHolder),
        2 => (0..4_u32).prop_map(Op::Reclaim),
    ]
}

struct Pair {
    table: TestTable,
    model: Model,
    capacity: usize,
}

impl Pair {
    /// A handle that was given out, or one of another table.
    fn pick(&self, which: Index) -> Handle {
        let foreign = Handle::from_parts(TABLE + 1, 0, 1);
        let choice = which.index(self.model.given.len() + 1);
        self.model.given.get(choice).copied().unwrap_or(foreign)
    }

    fn caller(&self, caller: Option<u64>, handle: Handle) -> u64 {
        caller.or_else(|| Some(self.model.live.get(&handle)?.holder)).unwrap_or(1)
    }

    fn full(&self) -> Option<Full> {
        let capacity = self.capacity;
        (self.model.live.len() == capacity).then_some(Full { capacity })
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Grant { holder, rights, expires_ns, below, label } => {
                let (holder_path, below_path) = (path(holder), below.map(path));
                let scope = match &below_path {
                    Some(path) => Scope::below(Lineage::new(path).unwrap()),
                    None => Scope::Everywhere,
                };
                let object = self.model.given.len() as u64;
                let granted = self.table.grant(Grant {
                    object: Object(object),
                    rights,
                    holder: Lineage::new(&holder_path).unwrap(),
                    expires_at: Instant::from_ns(expires_ns),
                    scope,
                    label: Label(label),
                });
                let expected = if label >= LABELS {
                    let labels = usize::from(LABELS);
                    Err(LabelError::NoSuchLabel { label: Label(label), labels }.into())
                } else if !is_below(holder, below) {
                    Err(GrantError::HolderOutOfScope)
                } else {
                    self.full().map_or(Ok(()), |full| Err(full.into()))
                };
                assert_eq!(granted.map(drop), expected);
                if let Ok(handle) = granted {
                    let (parent, depth) = (None, 1);
                    let held =
                        Held { parent, holder, object, rights, expires_ns, below, label, depth };
                    self.model.give(handle, held);
                }
            }
            Op::Delegate { which, caller, to, rights, expires_ns, below } => {
                let origin = self.pick(which);
                let caller = self.caller(caller, origin);
                let (caller_path, to_path, below_path) = (path(caller), path(to), below.map(path));
                let delegated = self.table.delegate(
                    Instant::from_ns(self.model.now_ns),
                    Lineage::new(&caller_path).unwrap(),
                    origin,
                    Delegation {
                        to: Lineage::new(&to_path).unwrap(),
                        rights,
                        expires_at: expires_ns.map(Instant::from_ns),
                        below: below_path.as_ref().map(|path| Lineage::new(path).unwrap()),
                    },
                );
                let expected = self.expect_delegation(caller, origin, op);
                assert_eq!(delegated.map(drop), expected.map(drop));
                if let (Ok(handle), Ok(held)) = (delegated, expected) {
                    self.model.give(handle, held);
                }
            }
            Op::Check { which, caller, needed } => {
                let handle = self.pick(which);
                let caller = self.caller(caller, handle);
                let now = Instant::from_ns(self.model.now_ns);
                let caller_path = path(caller);
                let lineage = Lineage::new(&caller_path).unwrap();
                let expected = self.model.check(caller, handle, needed);
                let expected = expected.map(|held| Object(held.object));
                assert_eq!(self.table.check(now, lineage, handle, needed), expected);
            }
            Op::Clock(ns) => {
                // The table hears every time, and holds to the latest.
                let lineage = [Holder(1)];
                let foreign = Handle::from_parts(TABLE + 1, 0, 1);
                let caller = Lineage::new(&lineage).unwrap();
                let _ = self.table.check(Instant::from_ns(ns), caller, foreign, Rights::NONE);
                self.model.now_ns = self.model.now_ns.max(ns);
            }
            Op::Revoke(which) => {
                let handle = self.pick(which);
                assert_eq!(self.table.revoke(handle), self.model.live(handle).map(drop));
                self.model.revoke_if(|model, other| model.descends(other, handle));
            }
            Op::RevokeBy(caller, which) => {
                let handle = self.pick(which);
                let holds_origin = self.model.live.iter().any(|(origin, held)| {
                    held.holder == caller && self.model.descends(handle, *origin)
                });
                let expected = match self.model.live(handle) {
                    Ok(_) if !holds_origin => Err(Refusal::NotHolder),
                    other => other.map(drop),
                };
                assert_eq!(self.table.revoke_by(Holder(caller), handle), expected);
                if expected.is_ok() {
                    self.model.revoke_if(|model, other| model.descends(other, handle));
                }
            }
            Op::RevokeLabel(label) => {
                let labels = usize::from(LABELS);
                let missing = LabelError::NoSuchLabel { label: Label(label), labels };
                let expected = if label < LABELS { Ok(()) } else { Err(missing) };
                assert_eq!(self.table.revoke_label(Label(label)), expected);
                self.model.revoke_if(|model, other| model.live[&other].label == label);
            }
            Op::RevokeHolder(holder) => {
                self.table.revoke_holder(Holder(holder));
                self.model.revoke_if(|model, other| {
                    model.live.iter().any(|(origin, held)| {
                        held.holder == holder && model.descends(other, *origin)
                    })
                });
            }
            Op::Reclaim(budget) => {
                let free = self.table.free_slots();
                let freed = self.table.reclaim(budget);
                assert!(freed == budget || !self.table.has_garbage());
                assert_eq!(self.table.free_slots(), free + usize::try_from(freed).unwrap());
            }
        }
    }

    fn expect_delegation(
        &self,
        caller: u64,
        origin: Handle,
        op: &Op,
    ) -> Result<Held, DelegateError> {
        let Op::Delegate { to, rights, expires_ns, below, .. } = *op else { unreachable!() };
        let from = self.model.check(caller, origin, Rights::DUPLICATE)?;
        let beyond = rights.without(from.rights);
        let held = Held {
            parent: Some(origin),
            holder: to,
            rights,
            expires_ns: expires_ns.unwrap_or(from.expires_ns),
            below: below.or(from.below),
            depth: from.depth + 1,
            ..from
        };
        if from.depth == DEPTH_MAX {
            Err(DelegateError::TooDeep)
        } else if beyond != Rights::NONE {
            Err(DelegateError::RightsExceed { beyond })
        } else if held.expires_ns > from.expires_ns {
            Err(DelegateError::ExpiryExceeds { origin: Instant::from_ns(from.expires_ns) })
        } else if below.is_some_and(|below| !is_below(below, from.below)) {
            Err(DelegateError::ScopeExceeds)
        } else if !is_below(to, held.below) {
            Err(DelegateError::RecipientOutOfScope)
        } else {
            self.full().map_or(Ok(held), |full| Err(full.into()))
        }
    }

    /// Every handle that could be written down, given out or forged, is what the model says.
    fn compare(&self) {
        assert_eq!(self.table.check_invariants(), Ok(()));
        let slots = u32::try_from(self.capacity).unwrap() + 1;
        let newest = self.model.given.iter().map(|handle| handle.generation).max().unwrap_or(0);
        for slot in 0..slots {
            for generation in (0..newest + 3).chain([u32::MAX - 1, u32::MAX]) {
                let handle = Handle::from_parts(TABLE, slot, generation);
                let expected = self.model.live(handle).map(|held| {
                    let root = held.below.map(path);
                    View {
                        object: Object(held.object),
                        holder: Holder(held.holder),
                        rights: held.rights,
                        expires_at: Instant::from_ns(held.expires_ns),
                        scope: root.map_or(Scope::Everywhere, |root| {
                            Scope::below(Lineage::new(&root).unwrap())
                        }),
                        label: Label(held.label),
                        depth: held.depth,
                    }
                });
                assert_eq!(self.table.view(handle), expected);
            }
        }
    }
}

proptest! {
    #[test]
    fn answers_like_a_map_from_which_revoking_removes_trees(
        capacity in prop_oneof![1 => 0..3_usize, 4 => 8..16_usize],
        history in proptest::collection::vec(ops(), 0..120),
    ) {
        let mut pair = Pair { table: table(capacity), model: Model::default(), capacity };
        for op in &history {
            pair.step(op);
            pair.compare();
        }
        // Nothing is lost: with everything revoked, every slot comes back.
        for label in 0..LABELS {
            pair.step(&Op::RevokeLabel(label));
        }
        while pair.table.reclaim(1) == 1 {
            pair.compare();
        }
        prop_assert_eq!(pair.table.free_slots(), capacity);
    }
}

/// A table in which process 1 holds everything, and its grant.
fn granted(capacity: usize) -> (TestTable, Handle) {
    let mut table = table(capacity);
    let handle = table.grant(grant(&[Holder(1)])).unwrap();
    (table, handle)
}

fn grant(holder: &[Holder]) -> Grant<'_> {
    Grant {
        object: Object(5),
        rights: Rights::ALL,
        holder: Lineage::new(holder).unwrap(),
        expires_at: Instant::MAX,
        scope: Scope::Everywhere,
        label: Label(0),
    }
}

fn hand_on(table: &mut TestTable, origin: Handle) -> Result<Handle, DelegateError> {
    let own = Lineage::new(&[Holder(1)]).unwrap();
    let everything = Delegation { to: own, rights: Rights::ALL, expires_at: None, below: None };
    table.delegate(Instant::ZERO, own, origin, everything)
}

#[test]
fn whoever_stands_above_can_cut_a_chain_and_nobody_below_it_is_spared() {
    let own = Lineage::new(&[Holder(1)]).unwrap();
    for cut in 0..usize::from(DEPTH_MAX) {
        let (mut table, grant) = granted(usize::from(DEPTH_MAX));
        let mut chain = vec![grant];
        while chain.len() < usize::from(DEPTH_MAX) {
            chain.push(hand_on(&mut table, chain[chain.len() - 1]).unwrap());
        }
        let deepest = chain[chain.len() - 1];
        assert_eq!(hand_on(&mut table, deepest), Err(DelegateError::TooDeep));
        assert_eq!(table.view(deepest).unwrap().depth, DEPTH_MAX);
        table.revoke(chain[cut]).unwrap();
        for (place, handle) in chain.iter().enumerate() {
            let expected = if place < cut { Ok(Object(5)) } else { Err(Refusal::Revoked) };
            assert_eq!(table.check(Instant::ZERO, own, *handle, Rights::ALL), expected);
        }
        assert_eq!(table.revoke(chain[cut]), Err(Refusal::Revoked));
    }
}

#[test]
fn ten_thousand_descendants_fall_at_once_and_are_reclaimed_step_by_step() {
    let (mut table, root) = granted(10_001);
    let mut all = vec![root];
    for number in 0..10_000_usize {
        // Six children each: seven deep.
        let child = hand_on(&mut table, all[number / 6]).unwrap();
        all.push(child);
    }
    table.revoke(root).unwrap();
    assert_eq!(table.free_slots(), 0);
    assert!(all.iter().all(|handle| table.view(*handle) == Err(Refusal::Revoked)));
    // A new grant needs a slot and takes the first that is reclaimed.
    table.grant(grant(&[Holder(1)])).unwrap();
    let mut steps = 0;
    while table.has_garbage() {
        assert_eq!(table.reclaim(64), 64.min(10_000 - 64 * steps));
        steps += 1;
    }
    assert_eq!((steps, table.free_slots()), (157, 10_000));
    assert_eq!(table.check_invariants(), Ok(()));
}

#[test]
fn an_expired_capability_stays_so_and_the_last_instant_never_comes() {
    let own = Lineage::new(&[Holder(1)]).unwrap();
    let mut table = table(2);
    let expires_at = Instant::from_ns(u64::MAX - 1);
    let short = table.grant(Grant { expires_at, ..grant(&[Holder(1)]) }).unwrap();
    let long = table.grant(grant(&[Holder(1)])).unwrap();
    let mut check = |ns, handle| table.check(Instant::from_ns(ns), own, handle, Rights::READ);
    assert_eq!(check(u64::MAX - 2, short), Ok(Object(5)));
    assert_eq!(check(u64::MAX - 1, short), Err(Refusal::Expired));
    assert_eq!(check(u64::MAX, long), Ok(Object(5)));
    // The clock jumps back.
    assert_eq!(check(0, short), Err(Refusal::Expired));
}

#[test]
fn a_slot_whose_generations_are_used_up_is_not_used_again() {
    let mut table = table(1);
    table.arena.get_mut(0).unwrap().generation = u32::MAX - 3;
    let last = table.grant(grant(&[Holder(1)])).unwrap();
    assert_eq!(last.parts(), (TABLE, 0, u32::MAX - 2));
    table.revoke(last).unwrap();
    assert_eq!(table.check_invariants(), Ok(()));
    assert_eq!(table.grant(grant(&[Holder(1)])), Err(Full { capacity: 1 }.into()));
    assert_eq!(table.view(last), Err(Refusal::Revoked));
    assert_eq!((table.free_slots(), table.check_invariants()), (0, Ok(())));
}

#[test]
fn a_label_that_was_revoked_as_often_as_can_be_counted_is_refused() {
    let mut table = table(1);
    table.labels[0].epoch = u64::MAX - 1;
    let handle = table.grant(grant(&[Holder(1)])).unwrap();
    table.revoke_label(Label(0)).unwrap();
    assert_eq!(table.view(handle), Err(Refusal::Revoked));
    let worn_out = LabelError::WornOut { label: Label(0) };
    assert_eq!(table.revoke_label(Label(0)), Err(worn_out));
    assert_eq!(table.grant(grant(&[Holder(1)])), Err(worn_out.into()));
}

#[test]
fn a_table_without_slots_or_labels_refuses() {
    let mut no_slots = table(0);
    assert_eq!(no_slots.grant(grant(&[Holder(1)])), Err(Full { capacity: 0 }.into()));
    assert_eq!((no_slots.reclaim(u32::MAX), no_slots.revoke_holder(Holder(1))), (0, 0));
    let mut no_labels = Table::new(TABLE, [Slot::EMPTY], []);
    let missing = LabelError::NoSuchLabel { label: Label(0), labels: 0 };
    assert_eq!(no_labels.grant(grant(&[Holder(1)])), Err(missing.into()));
    assert_eq!(no_labels.revoke_label(Label(0)), Err(missing));
}

#[test]
fn the_invariants_notice_what_is_broken() {
    let broken = |damage: fn(&mut TestTable)| {
        let (mut table, root) = granted(4);
        let child = hand_on(&mut table, root).unwrap();
        hand_on(&mut table, root).unwrap();
        assert_eq!((table.check_invariants(), child.slot), (Ok(()), 1));
        damage(&mut table);
        assert!(table.check_invariants().is_err());
    };
    broken(|table| table.arena.free_len = 2);
    broken(|table| table.arena.free = None);
    broken(|table| table.arena.free = Some(1));
    broken(|table| table.arena.graves = Some(1));
    broken(|table| table.labels[0].grants = None);
    broken(|table| table.labels[0].epoch = 1);
    broken(|table| table.arena.get_mut(1).unwrap().generation = 2);
    broken(|table| table.arena.get_mut(0).unwrap().children = None);
    broken(|table| table.arena.get_mut(0).unwrap().capability.rights = Rights::READ);
    broken(|table| table.arena.get_mut(1).unwrap().capability.depth = 3);
    broken(|table| {
        table.arena.get_mut(1).unwrap().capability.path[0] = Node { slot: 2, generation: 1 };
    });
    broken(|table| table.arena.get_mut(1).unwrap().before = None);
}
