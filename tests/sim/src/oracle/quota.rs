//! Of the quota tree: what each group has charged itself, and sums over those below it.

use std::time::Duration;

use duende_core::policy::quota::{ChargeError, GroupId};
use duende_core::time::Instant;
use duende_world::{GROUPS, Input, Seen, Step};

use super::Oracle;
use crate::failure::{Failure, hold};

const PERIOD: Duration = Duration::from_millis(10);
const DEPTH_MAX: usize = 8;
const RESOURCES: usize = 4;
/// Memory and messages are held; processor time and log bytes are spent.
const HELD: [bool; RESOURCES] = [false, true, true, false];

#[derive(Debug)]
struct Group {
    id: GroupId,
    parent: Option<GroupId>,
    limit: u64,
    own: [u64; RESOURCES],
    /// What was spent by groups below it that are gone.
    bequeathed: [u64; RESOURCES],
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    now: Instant,
    ends: Option<Instant>,
    input: Option<Input>,
    groups: Vec<Group>,
    pockets: [Option<GroupId>; GROUPS],
}

impl Quotas {
    fn pocket(&self, pocket: u8) -> Option<GroupId> {
        self.pockets.get(usize::from(pocket)).copied().flatten()
    }

    fn find(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    fn find_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.id == id)
    }

    fn used(&self, id: GroupId, resource: usize) -> u64 {
        let own = self.find(id).map_or(0, |group| group.own[resource] + group.bequeathed[resource]);
        let below = self.groups.iter().filter(|group| group.parent == Some(id));
        own + below.map(|group| self.used(group.id, resource)).sum::<u64>()
    }

    /// The group and those above it.
    fn path(&self, id: GroupId) -> Vec<GroupId> {
        let mut path = Vec::new();
        let mut next = Some(id);
        while let Some(group) = next.and_then(|id| self.find(id)) {
            path.push(group.id);
            next = group.parent;
        }
        path
    }

    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let mut ends = self.ends.unwrap_or_else(|| Instant::ZERO.saturating_add(PERIOD));
        if self.now >= ends && ends != Instant::MAX {
            let period_ns = u64::try_from(PERIOD.as_nanos()).unwrap_or(u64::MAX);
            let whole = self.now.as_ns() / period_ns;
            ends = Instant::from_ns((whole + 1).saturating_mul(period_ns));
            for group in &mut self.groups {
                for resource in (0..RESOURCES).filter(|resource| !HELD[*resource]) {
                    (group.own[resource], group.bequeathed[resource]) = (0, 0);
                }
            }
        }
        self.ends = Some(ends);
    }

    fn charged(&mut self, charged: Result<(), ChargeError>) -> Result<(), Failure> {
        let Some(Input::Charge { group, resource, amount }) = self.input else { return Ok(()) };
        let Some(id) = self.pocket(group) else { return Ok(()) };
        let (resource, amount) = (usize::from(resource), u64::from(amount));
        self.tick(self.now);
        let path = self.path(id);
        let over = path.iter().find_map(|at| {
            let (used, limit) = (self.used(*at, resource), self.find(*at)?.limit);
            (limit > 0 && used + amount > limit).then_some((*at, used, limit))
        });
        let found = match charged {
            Ok(()) => None,
            Err(ChargeError::OverLimit { at, used, limit, .. }) => Some((at, used, limit)),
            Err(ChargeError::UnknownGroup(_)) => {
                hold!(path.is_empty(), "quota: a group that is there is known", "{id}");
                return Ok(());
            }
        };
        hold!(!path.is_empty(), "quota: what was removed can't be charged", "{id}");
        hold!(
            found == over,
            "quota: a charge is within every limit above, or refused",
            "{charged:?} instead of {over:?}"
        );
        if let Some(group) = self.find_mut(id).filter(|_| over.is_none()) {
            group.own[resource] += amount;
        }
        Ok(())
    }
}

impl Oracle for Quotas {
    fn step(&mut self, now: Instant, step: &Step) {
        self.input = Some(step.input.clone());
        match step.input {
            Input::Tick => self.tick(now),
            Input::Charge { group, resource, .. } | Input::Refund { group, resource, .. }
                if self.pocket(group).is_some() && usize::from(resource) < RESOURCES =>
            {
                self.tick(now);
            }
            Input::SetQuota { group, .. } | Input::RemoveGroup { from: group }
                if self.pocket(group).is_some() =>
            {
                self.tick(now);
            }
            _ => {}
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match (*seen, self.input.clone()) {
            (Seen::GroupAdded(added), Some(Input::AddGroup { into, parent, limit })) => {
                let parent = self.pocket(parent);
                let depth = parent.map_or(0, |parent| self.path(parent).len());
                let known = parent.is_none_or(|parent| self.find(parent).is_some());
                let sound = known && depth < DEPTH_MAX && self.groups.len() < GROUPS;
                hold!(
                    added.is_ok() == sound,
                    "quota: a group is added where there is room",
                    "{added:?}"
                );
                if let Ok(id) = added {
                    let (own, bequeathed) = ([0; RESOURCES], [0; RESOURCES]);
                    let limit = u64::from(limit);
                    self.groups.push(Group { id, parent, limit, own, bequeathed });
                    if let Some(pocket) = self.pockets.get_mut(usize::from(into)) {
                        *pocket = Some(id);
                    }
                }
            }
            (Seen::GroupRemoved(removed), Some(Input::RemoveGroup { from })) => {
                let Some(id) = self.pocket(from) else { return Ok(()) };
                let index = self.groups.iter().position(|group| group.id == id);
                let free = self.groups.iter().all(|group| group.parent != Some(id));
                hold!(
                    removed.is_ok() == (index.is_some() && free),
                    "quota: a group is removed once nothing stands below it",
                    "{removed:?}"
                );
                if let Some(index) = index.filter(|_| removed.is_ok()) {
                    let gone = self.groups.remove(index);
                    if let Some(above) = gone.parent.and_then(|parent| self.find_mut(parent)) {
                        for resource in (0..RESOURCES).filter(|resource| !HELD[*resource]) {
                            above.bequeathed[resource] +=
                                gone.own[resource] + gone.bequeathed[resource];
                        }
                    }
                }
            }
            (Seen::Charged(charged), _) => self.charged(charged)?,
            (Seen::Refunded(refunded), Some(Input::Refund { group, resource, amount })) => {
                let Some(id) = self.pocket(group) else { return Ok(()) };
                let (resource, amount) = (usize::from(resource), u64::from(amount));
                let Some(group) = self.find_mut(id) else {
                    hold!(refunded.is_err(), "quota: what was removed gives nothing back", "{id}");
                    return Ok(());
                };
                let sound = HELD[resource] && amount <= group.own[resource];
                hold!(
                    refunded.is_ok() == sound,
                    "quota: what is held can be given back, once",
                    "{refunded:?}"
                );
                if sound {
                    group.own[resource] -= amount;
                }
            }
            (Seen::QuotaSet(set), Some(Input::SetQuota { group, limit })) => {
                let Some(id) = self.pocket(group) else { return Ok(()) };
                let group = self.find_mut(id);
                hold!(set == group.is_some(), "quota: limits are set where a group is", "{id}");
                if let Some(group) = group {
                    group.limit = u64::from(limit);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
