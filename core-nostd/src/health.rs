//! The health of a whole, from the health of its named parts.
//!
//! Rules:
//! 1. A component is [`Required`](Need::Required) or [`Optional`](Need::Optional). It is
//!    [`Unknown`](Status::Unknown) until it is first heard of.
//! 2. The whole is unhealthy if a required component is; else it is degraded if a required one is
//!    degraded or unknown, or an optional one degraded or unhealthy; else it is healthy. A whole
//!    without components is healthy.
//! 3. The whole is ready if every required component is healthy. Otherwise it is *degraded* in the
//!    sense of `/readyz`: answer 503, name the required components that are *missing*, and say after
//!    how long to ask again. Optional components never take readiness away.
//! 4. Counts and status are kept with every report: asking costs the same however many there are.

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::probe;
use crate::wire::link::NAME_BYTES_MAX;

/// How a component is, or the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nothing was heard of it yet.
    #[default]
    Unknown,
    /// It does its work.
    Healthy,
    /// It does its work with less than it should have, or is about to fail.
    Degraded,
    /// It does not do its work.
    Unhealthy,
}

impl From<probe::Health> for Status {
    /// Of a daemon whose checks fail, but fewer times than its threshold, it is only known that it
    /// may fail: degraded. At the threshold its supervisor condemns it; that is the one to report
    /// [`Status::Unhealthy`].
    fn from(health: probe::Health) -> Self {
        match health {
            probe::Health::Unknown => Self::Unknown,
            probe::Health::Healthy => Self::Healthy,
            probe::Health::Failing { .. } => Self::Degraded,
        }
    }
}

/// Whether the whole can do without a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// It can't.
    Required,
    /// It can, with less than it should have.
    Optional,
}

/// Names a component of one registry. A slot that is used again has another generation, so an
/// identifier that is kept too long is refused instead of naming a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ComponentId {
    slot: usize,
    generation: u32,
}

/// A place for one component.
#[derive(Clone, Debug)]
pub struct Slot {
    generation: u32,
    component: Option<Component>,
}

impl Slot {
    /// Without a component.
    pub const EMPTY: Self = Self { generation: 0, component: None };
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[derive(Clone, Debug)]
struct Component {
    name: heapless::String<NAME_BYTES_MAX>,
    need: Need,
    status: Status,
}

/// Why a component was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddError {
    /// Every place is taken.
    #[error("health is kept of {capacity} components, and each place is taken")]
    Full {
        /// How many places there are.
        capacity: usize,
    },
    /// The name is empty or too long.
    #[error("a component's name has 1 to {NAME_BYTES_MAX} bytes, not {bytes}")]
    NameLength {
        /// How many it has.
        bytes: usize,
    },
    /// Another component has the name.
    #[error("another component has this name")]
    NameTaken,
}

/// The identifier names no component: it was removed, or is of another registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("there is no such component: it was removed, or is of another registry")]
pub struct NoSuchComponent;

/// How many components have which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Nothing was heard of them.
    pub unknown: usize,
    /// They do their work.
    pub healthy: usize,
    /// They do it with less than they should have.
    pub degraded: usize,
    /// They don't do it.
    pub unhealthy: usize,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> usize {
        // No more than there are places.
        self.unknown
            .saturating_add(self.healthy)
            .saturating_add(self.degraded)
            .saturating_add(self.unhealthy)
    }

    const fn of(&mut self, status: Status) -> &mut usize {
        match status {
            Status::Unknown => &mut self.unknown,
            Status::Healthy => &mut self.healthy,
            Status::Degraded => &mut self.degraded,
            Status::Unhealthy => &mut self.unhealthy,
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            unknown: self.unknown.saturating_add(other.unknown),
            healthy: self.healthy.saturating_add(other.healthy),
            degraded: self.degraded.saturating_add(other.degraded),
            unhealthy: self.unhealthy.saturating_add(other.unhealthy),
        }
    }
}

/// The answer to "are you ready?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// Every required component is healthy.
    Ready,
    /// Not every one is; [`Registry::missing`] names the others.
    Degraded {
        /// How many required components are not healthy.
        missing: usize,
        /// When to ask again, in whole seconds from now, at least 1: HTTP's `Retry-After`.
        retry_after_s: u32,
    },
}

/// The components of a whole, and how they are.
///
/// ```
/// use core::time::Duration;
/// use duende_core::health::{Need, Readiness, Registry, Slot, Status};
///
/// let mut registry = Registry::new([const { Slot::EMPTY }; 8], Duration::from_secs(5));
/// let bus = registry.add("bus_attached", Need::Required)?;
/// let cache = registry.add("cache", Need::Optional)?;
///
/// registry.report(cache, Status::Unhealthy)?;
/// let degraded = Readiness::Degraded { missing: 1, retry_after_s: 5 };
/// assert_eq!(registry.readiness(), degraded);
/// assert!(registry.missing().eq(["bus_attached"]));
///
/// registry.report(bus, Status::Healthy)?;
/// assert_eq!(registry.readiness(), Readiness::Ready);
/// assert_eq!(registry.status(), Status::Degraded); // without its cache
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry<S> {
    slots: S,
    required: Counts,
    optional: Counts,
    retry_after_s: u32,
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Registry<S> {
    /// Without components. Who asks while it is not ready is told to come back after
    /// `retry_after`, rounded up to whole seconds, at least one.
    pub fn new(mut slots: S, retry_after: Duration) -> Self {
        slots.as_mut().fill(Slot::EMPTY);
        let more = u64::from(retry_after.subsec_nanos() > 0);
        let retry_after_s = retry_after.as_secs().saturating_add(more).max(1);
        let retry_after_s = u32::try_from(retry_after_s).unwrap_or(u32::MAX);
        let none = Counts::default();
        Self { slots, required: none, optional: none, retry_after_s }
    }

    /// Takes in a component, of which nothing is known yet.
    ///
    /// # Errors
    /// [`AddError`], when there is no place or the name won't do.
    pub fn add(&mut self, name: &str, need: Need) -> Result<ComponentId, AddError> {
        let bytes = name.len();
        let text = heapless::String::try_from(name).ok().filter(|_| bytes > 0);
        let text = text.ok_or(AddError::NameLength { bytes })?;
        if self.components().any(|component| component.name == name) {
            return Err(AddError::NameTaken);
        }
        let slots = self.slots.as_mut();
        let capacity = slots.len();
        let free = slots.iter_mut().enumerate().find(|(_, slot)| slot.component.is_none());
        let (slot, place) = free.ok_or(AddError::Full { capacity })?;
        let status = Status::Unknown;
        place.component = Some(Component { name: text, need, status });
        let id = ComponentId { slot, generation: place.generation };
        self.count(need, None, Some(status));
        Ok(id)
    }

    /// Forgets a component.
    ///
    /// # Errors
    /// [`NoSuchComponent`].
    pub fn remove(&mut self, id: ComponentId) -> Result<(), NoSuchComponent> {
        let slot = self.slot(id)?;
        let Component { need, status, .. } = slot.component.take().ok_or(NoSuchComponent)?;
        slot.generation = slot.generation.wrapping_add(1);
        self.count(need, Some(status), None);
        Ok(())
    }

    /// Takes note of how a component is.
    ///
    /// # Errors
    /// [`NoSuchComponent`].
    pub fn report(&mut self, id: ComponentId, status: Status) -> Result<(), NoSuchComponent> {
        let component = self.slot(id)?.component.as_mut().ok_or(NoSuchComponent)?;
        let (need, before) = (component.need, component.status);
        component.status = status;
        self.count(need, Some(before), Some(status));
        Ok(())
    }

    /// How the whole is; never unknown.
    #[must_use]
    pub const fn status(&self) -> Status {
        let (required, optional) = (self.required, self.optional);
        if required.unhealthy > 0 {
            Status::Unhealthy
        } else if required.degraded > 0
            || required.unknown > 0
            || optional.degraded > 0
            || optional.unhealthy > 0
        {
            Status::Degraded
        } else {
            Status::Healthy
        }
    }

    /// Whether the whole is ready.
    #[must_use]
    pub const fn readiness(&self) -> Readiness {
        let missing = self.required.total().saturating_sub(self.required.healthy);
        if missing == 0 {
            return Readiness::Ready;
        }
        Readiness::Degraded { missing, retry_after_s: self.retry_after_s }
    }

    /// The names of the required components that are not healthy, in the order of their places.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let missing = |component: &&Component| {
            component.need == Need::Required && component.status != Status::Healthy
        };
        self.components().filter(missing).map(|component| component.name.as_str())
    }

    /// Every component's name, need and status, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Need, Status)> {
        self.components().map(|Component { name, need, status }| (name.as_str(), *need, *status))
    }

    /// How many components have which status.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.required.plus(self.optional)
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        for (need, counted) in [(Need::Required, self.required), (Need::Optional, self.optional)] {
            let mut found = Counts::default();
            for component in self.components().filter(|component| component.need == need) {
                let count = found.of(component.status);
                *count = count.saturating_add(1);
            }
            invariant!(found == counted, "health miscounts what is {need:?}");
        }
        let (ready, missing) = (self.readiness() == Readiness::Ready, self.missing().count());
        invariant!(ready == (missing == 0), "health is ready: {ready}, misses {missing}");
        Ok(())
    }

    fn components(&self) -> impl Iterator<Item = &Component> {
        self.slots.as_ref().iter().filter_map(|slot| slot.component.as_ref())
    }

    fn slot(&mut self, id: ComponentId) -> Result<&mut Slot, NoSuchComponent> {
        let slot = self.slots.as_mut().get_mut(id.slot);
        slot.filter(|slot| slot.generation == id.generation).ok_or(NoSuchComponent)
    }

    fn count(&mut self, need: Need, before: Option<Status>, after: Option<Status>) {
        let counts = match need {
            Need::Required => &mut self.required,
            Need::Optional => &mut self.optional,
        };
        if let Some(status) = before {
            let count = counts.of(status);
            *count = count.saturating_sub(1);
        }
        if let Some(status) = after {
            let count = counts.of(status);
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
