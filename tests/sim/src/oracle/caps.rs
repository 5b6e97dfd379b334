//! Of capabilities: every one that was ever given out, with the one that it comes from. Whether it may
//! be used is found out by walking up.

use std::collections::HashMap;
use std::time::Duration;

use duende_core::caps::{DelegateError, GrantError, Handle, Refusal, Rights};
use duende_core::supervise::Effect;
use duende_core::time::Instant;
use duende_world::{DAEMONS, HANDLES, Input, OWN, Seen, Step};

use super::Oracle;
use crate::failure::{Failure, hold};

/// What the world gives its table.
const SLOTS: usize = 16;
const LABELS: u8 = 3;
/// How often a capability can be handed on, the grant included.
const DEPTH_MAX: usize = 8;

/// A process: slot and incarnation.
type Holder = (u8, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everywhere,
    /// Two neighbours.
    Pair(u8),
    Process(Holder),
}

impl Scope {
    fn contains(self, process: Holder) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Pair(pair) => process.0 / 2 == pair,
            Self::Process(only) => process == only,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Capability {
    origin: Option<usize>,
    holder: Holder,
    rights: Rights,
    expires_at: Instant,
    scope: Scope,
    label: u8,
    revoked: bool,
}

/// Every capability there ever was.
#[derive(Debug, Default)]
pub(super) struct Caps {
    all: Vec<Capability>,
    /// Those that nobody revoked so far, not even by what they come from.
    live: Vec<usize>,
    by_handle: HashMap<Handle, usize>,
    pockets: [Option<Handle>; HANDLES],
    own: [Option<Handle>; DAEMONS],
    incarnations: [u32; DAEMONS],
    /// The daemon of the last effect.
    arriving: u8,
    now: Instant,
    /// The latest instant that the table was told.
    heard: Instant,
    input: Option<Input>,
}

impl Caps {
    fn process(&self, slot: u8) -> Holder {
        (slot, self.incarnations.get(usize::from(slot)).copied().unwrap_or(0))
    }

    fn handle(&self, slot: u8, pocket: u8) -> Option<Handle> {
        if pocket == OWN {
            return self.own.get(usize::from(slot)).copied().flatten();
        }
        self.pockets.get(usize::from(pocket)).copied().flatten()
    }

    fn find(&self, handle: Option<Handle>) -> Option<usize> {
        self.by_handle.get(&handle?).copied()
    }

    fn is_live(&self, index: usize) -> bool {
        let capability = &self.all[index];
        !capability.revoked && capability.origin.is_none_or(|origin| self.is_live(origin))
    }

    fn depth(&self, index: usize) -> usize {
        1 + self.all[index].origin.map_or(0, |origin| self.depth(origin))
    }

    fn check(&mut self, by: Holder, index: usize, needed: Rights) -> Result<(), Refusal> {
        self.heard = self.heard.max(self.now);
        let capability = self.all[index];
        if !self.is_live(index) {
            return Err(Refusal::Revoked);
        }
        if capability.holder != by {
            return Err(Refusal::NotHolder);
        }
        if !capability.scope.contains(by) {
            return Err(Refusal::OutOfScope);
        }
        let ends = capability.expires_at != Instant::MAX;
        if ends && self.heard >= capability.expires_at {
            return Err(Refusal::Expired);
        }
        let missing = needed.without(capability.rights);
        if missing == Rights::NONE { Ok(()) } else { Err(Refusal::MissingRights { missing }) }
    }

    fn add(&mut self, handle: Handle, capability: Capability) -> Result<(), Failure> {
        let fresh = self.by_handle.insert(handle, self.all.len()).is_none();
        hold!(fresh, "caps: no handle is given out twice", "{handle:?}");
        self.live.push(self.all.len());
        self.all.push(capability);
        Ok(())
    }

    fn sweep(&mut self) {
        let mut live = std::mem::take(&mut self.live);
        live.retain(|index| self.is_live(*index));
        self.live = live;
    }

    fn put(&mut self, into: u8, handle: Handle) {
        if let Some(pocket) = self.pockets.get_mut(usize::from(into)) {
            *pocket = Some(handle);
        }
    }

    fn granted(&mut self, granted: Result<Handle, GrantError>) -> Result<(), Failure> {
        let everywhere = Scope::Everywhere;
        let (holder, rights, label, expires_at, scope) = match self.input {
            Some(Input::Grant { slot, rights, label, valid_us, scoped, .. }) => {
                let expires_at = match valid_us {
                    0 => Instant::MAX,
                    us => self.now.saturating_add(Duration::from_micros(u64::from(us))),
                };
                let scope = if scoped { Scope::Pair(slot / 2) } else { everywhere };
                (self.process(slot), bits(rights), label, expires_at, scope)
            }
            _ => {
                let holder = self.process(self.arriving);
                let rights = Rights::SEND | Rights::DUPLICATE;
                (holder, rights, self.arriving % 2, Instant::MAX, everywhere)
            }
        };
        let expected = if label >= LABELS {
            "label"
        } else if self.live.len() >= SLOTS {
            "full"
        } else {
            "granted"
        };
        let found = match granted {
            Ok(_) => "granted",
            Err(GrantError::Label(_)) => "label",
            Err(GrantError::Full(_)) => "full",
            Err(GrantError::HolderOutOfScope) => "scope",
        };
        hold!(
            found == expected,
            "caps: a grant needs a slot and a label",
            "{found}, not {expected}, with {} live",
            self.live.len()
        );
        if let Ok(handle) = granted {
            let origin = None;
            let revoked = false;
            let capability =
                Capability { origin, holder, rights, expires_at, scope, label, revoked };
            self.add(handle, capability)?;
            if let Some(Input::Grant { into, .. }) = self.input {
                self.put(into, handle);
            }
        }
        if !matches!(self.input, Some(Input::Grant { .. }))
            && let Some(own) = self.own.get_mut(usize::from(self.arriving))
        {
            *own = granted.ok();
        }
        Ok(())
    }

    fn delegated(&mut self, delegated: Result<Handle, DelegateError>) -> Result<(), Failure> {
        let Some(Input::Delegate { from, handle, to, into, rights, scoped }) = self.input else {
            return Ok(());
        };
        let Some(index) = self.find(self.handle(from, handle)) else {
            return Err(Failure::new(
                "caps: delegated what is not there",
                format!("{delegated:?}"),
            ));
        };
        let (giver, taker, rights) = (self.process(from), self.process(to), bits(rights));
        let checked = self.check(giver, index, Rights::DUPLICATE);
        let origin = self.all[index];
        let scope = if scoped { Scope::Process(taker) } else { origin.scope };
        let expected = if checked.is_err() {
            "refused"
        } else if self.depth(index) >= DEPTH_MAX {
            "too deep"
        } else if !origin.rights.contains(rights) {
            "rights"
        } else if !origin.scope.contains(taker) {
            if scoped { "scope" } else { "recipient" }
        } else if self.live.len() >= SLOTS {
            "full"
        } else {
            "delegated"
        };
        let found = match delegated {
            Ok(_) => "delegated",
            Err(DelegateError::Refused(_)) => "refused",
            Err(DelegateError::TooDeep) => "too deep",
            Err(DelegateError::RightsExceed { .. }) => "rights",
            Err(DelegateError::ExpiryExceeds { .. }) => "expiry",
            Err(DelegateError::ScopeExceeds) => "scope",
            Err(DelegateError::RecipientOutOfScope) => "recipient",
            Err(DelegateError::Full(_)) => "full",
        };
        hold!(
            found == expected,
            "caps: delegation only reduces",
            "{found}, not {expected}, of {origin:?}"
        );
        if let Err(DelegateError::Refused(refusal)) = delegated {
            hold!(
                checked == Err(refusal),
                "caps: the first reason is told",
                "{refusal:?}, not {checked:?}"
            );
        }
        if let Ok(handle) = delegated {
            let capability =
                Capability { origin: Some(index), holder: taker, rights, scope, ..origin };
            self.add(handle, capability)?;
            self.put(into, handle);
        }
        Ok(())
    }

    fn used(&mut self, found: Result<(), Refusal>) -> Result<(), Failure> {
        let (slot, pocket, needed) = match self.input {
            Some(Input::Use { slot, handle, rights }) => (slot, handle, bits(rights)),
            Some(Input::Send { slot, handle, .. }) => (slot, handle, Rights::SEND),
            _ => return Ok(()),
        };
        let Some(index) = self.find(self.handle(slot, pocket)) else {
            return Err(Failure::new("caps: used what is not there", format!("{found:?}")));
        };
        let expected = self.check(self.process(slot), index, needed);
        hold!(
            found == expected,
            "caps: what was revoked, has expired or is another's can't be used",
            "{found:?} instead of {expected:?}, {:?}",
            self.all[index]
        );
        Ok(())
    }

    fn revoked(&mut self, handle: Handle, found: Result<(), Refusal>) -> Result<(), Failure> {
        let Some(index) = self.find(Some(handle)) else { return Ok(()) };
        let mut expected = if self.is_live(index) { Ok(()) } else { Err(Refusal::Revoked) };
        if let Some(Input::RevokeBy { slot, .. }) = self.input
            && expected.is_ok()
        {
            let by = self.process(slot);
            let mut at = Some(index);
            let mut holds = false;
            while let Some(index) = at {
                holds |= self.all[index].holder == by;
                at = self.all[index].origin;
            }
            if !holds {
                expected = Err(Refusal::NotHolder);
            }
        }
        hold!(
            found == expected,
            "caps: who gave may take back",
            "{found:?} instead of {expected:?}"
        );
        if found.is_ok() {
            self.all[index].revoked = true;
            self.sweep();
        }
        Ok(())
    }

    fn revoke_all(&mut self, falls: impl Fn(&Capability) -> bool) {
        for index in self.live.clone() {
            if falls(&self.all[index]) {
                self.all[index].revoked = true;
            }
        }
        self.sweep();
    }
}

fn bits(rights: u8) -> Rights {
    Rights::try_from(u32::from(rights)).unwrap_or(Rights::NONE)
}

impl Oracle for Caps {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.input = Some(step.input.clone());
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match seen {
            Seen::Effect(Effect::Spawn { id, incarnation }) => {
                let slot = usize::try_from(id.slot()).unwrap_or(usize::MAX);
                if let Some(place) = self.incarnations.get_mut(slot) {
                    *place = *incarnation;
                }
                Ok(())
            }
            Seen::Effect(Effect::Changed { id, from, to }) => {
                if (to.is_up() && !from.is_up()) || !to.has_process() {
                    self.arriving = u8::try_from(id.slot()).unwrap_or(0);
                }
                Ok(())
            }
            Seen::Granted(granted) => self.granted(*granted),
            Seen::Delegated(delegated) => self.delegated(*delegated),
            Seen::Used(used) => self.used(used.map(drop)),
            Seen::Sent { .. } => self.used(Ok(())),
            Seen::Denied(refusal) => self.used(Err(*refusal)),
            Seen::Revoked(handle, revoked) => self.revoked(*handle, *revoked),
            Seen::HolderRevoked(_) => {
                let gone = self.process(self.arriving);
                self.revoke_all(|capability| capability.holder == gone);
                Ok(())
            }
            Seen::LabelRevoked(revoked) => {
                let Some(Input::RevokeLabel { label }) = self.input else { return Ok(()) };
                hold!(
                    revoked.is_ok() == (label < LABELS),
                    "caps: a label that is there can be revoked",
                    "{label}: {revoked:?}"
                );
                self.revoke_all(|capability| capability.label == label);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
