//! What is told to whoever listens: the bus, the recorder, and the health of the whole.

use core::fmt;
use core::time::Duration;

use duende_core::bus::{self, Bus, SubscriberId};
use duende_core::caps::Refusal;
use duende_core::epitaph::Epitaph;
use duende_core::health::{self, ComponentId, Need, Registry, Status};
use duende_core::policy::andon::Alert;
use duende_core::recorder::{self, Clip, Recorder};
use duende_core::time::Instant;

use crate::input::{DAEMONS, LISTENERS, Process};
use crate::seen::{Out, Seen};

const EVENTS: usize = 8;
const RECORDS: usize = 8;
const NAMES: [&str; DAEMONS] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];

/// Something that somebody should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// A process failed.
    Crashed(u8, u32),
    /// A process was refused a capability.
    Refused(u8, Refusal),
    /// A lamp was lit or went out.
    Alert(Alert),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed(slot, incarnation) => write!(f, "crash of {slot}.{incarnation}"),
            Self::Refused(slot, refusal) => write!(f, "{slot} refused: {refusal}"),
            Self::Alert(Alert::Raised(violation)) => write!(f, "alert: {violation}"),
            Self::Alert(Alert::Cleared { metric, .. }) => write!(f, "{} is well", metric.name()),
        }
    }
}

/// The bus, the recorder and the registry of health.
#[derive(Debug)]
pub(crate) struct Newsroom {
    bus: Bus<News, [bus::Slot<News>; EVENTS], [bus::Seat; LISTENERS]>,
    /// Who sits in each pocket, and whether it has left: then its name is stale.
    listeners: [Option<(SubscriberId, bool)>; LISTENERS],
    recorder: Recorder<News, [recorder::Slot<News>; RECORDS]>,
    health: Registry<[health::Slot; DAEMONS]>,
    components: [Option<ComponentId>; DAEMONS],
}

impl Newsroom {
    pub(crate) fn new() -> Result<Self, Epitaph> {
        let bus = Bus::new(7, [const { bus::Slot::EMPTY }; EVENTS], [bus::Seat::EMPTY; LISTENERS]);
        let retry_after = Duration::from_secs(1);
        let mut health = Registry::new([const { health::Slot::EMPTY }; DAEMONS], retry_after);
        let mut components = [None; DAEMONS];
        for (index, (place, name)) in components.iter_mut().zip(NAMES).enumerate() {
            let need = if index % 2 == 0 { Need::Required } else { Need::Optional };
            *place = health.add(name, need).ok();
        }
        Ok(Self {
            bus: bus.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            listeners: [None; LISTENERS],
            recorder: Recorder::new([recorder::Slot::EMPTY; RECORDS]),
            health,
            components,
        })
    }

    /// Publishes and records.
    pub(crate) fn announce(&mut self, now: Instant, news: News, out: &mut Out<'_>) {
        self.recorder.record(now, news);
        let receivers = self.bus.publish(news);
        out.tell(&Seen::Published { news, receivers });
    }

    /// Reports how a daemon is.
    pub(crate) fn report(&mut self, of: Process, status: Status) {
        let component = self.components.get(usize::from(of.slot)).copied().flatten();
        if let Some(component) = component {
            // The world never removes one, so it is there.
            let _ = self.health.report(component, status);
        }
    }

    pub(crate) fn subscribe(&mut self, into: u8, out: &mut Out<'_>) {
        let pocket = self.listeners.get_mut(usize::from(into));
        let Some(pocket) = pocket.filter(|pocket| pocket.is_none_or(|(_, left)| left)) else {
            return out.tell(&Seen::Nothing);
        };
        let subscribed = self.bus.subscribe();
        if let Ok(id) = subscribed {
            *pocket = Some((id, false));
        }
        out.tell(&Seen::Subscribed(subscribed));
    }

    pub(crate) fn unsubscribe(&mut self, from: u8, out: &mut Out<'_>) {
        match self.listeners.get_mut(usize::from(from)) {
            Some(Some((id, left))) => {
                *left = true;
                out.tell(&Seen::Unsubscribed(self.bus.unsubscribe(*id)));
            }
            _ => out.tell(&Seen::Nothing),
        }
    }

    pub(crate) fn listen(&mut self, from: u8, out: &mut Out<'_>) {
        match self.listener(from) {
            Some(id) => out.tell(&Seen::Heard { from, heard: self.bus.receive(id) }),
            None => out.tell(&Seen::Nothing),
        }
    }

    pub(crate) fn dump(&self, out: &mut Out<'_>) {
        let mut memory = [0; 256];
        let mut text = Clip::new(&mut memory);
        self.recorder.dump(None, &mut text);
        out.tell(&Seen::Dumped(text.as_str()));
    }

    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.bus.check_invariants()?;
        self.recorder.check_invariants()?;
        self.health.check_invariants()
    }

    fn listener(&self, from: u8) -> Option<SubscriberId> {
        self.listeners.get(usize::from(from)).copied().flatten().map(|(id, _)| id)
    }

    /// The registry, for whoever compares it with what it knows.
    pub(crate) const fn health(&self) -> &Registry<[health::Slot; DAEMONS]> {
        &self.health
    }
}
