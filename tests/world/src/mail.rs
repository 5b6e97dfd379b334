//! What daemons say to each other: a channel of many senders, and a fan-out to many receivers.

use duende_core::epitaph::Epitaph;
use duende_core::ipc::{
    Channel, Fanout, FanoutPlace, Message, Place, ReceiverId, ReceiverSeat, Schema, Seat, SenderId,
    Spec,
};
use duende_core::sched::Level;
use duende_core::time::Instant;

use crate::input::{DAEMONS, Flow, LISTENERS, PAYLOAD_BYTES_MAX, Setup};
use crate::seen::{Out, Seen};

/// Places of the channel, and of the fan-out; two more than there are credits.
const PLACES: usize = 8;
const CREDITS: usize = 6;
/// The one tag that is taken.
const TAG: u16 = 1;

/// What stands in a payload does not matter to the core: its number tells it from the others.
static FILLING: [u8; PAYLOAD_BYTES_MAX as usize] = [0; PAYLOAD_BYTES_MAX as usize];

/// The payload of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Payload {
    /// Counts the messages of a world.
    pub number: u64,
    /// Its length, in bytes.
    pub length: u8,
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        FILLING.get(..usize::from(self.length)).unwrap_or(&FILLING)
    }
}

/// The channel and the fan-out.
#[derive(Debug)]
pub(crate) struct Mail {
    channel: Channel<Payload, [Place<Payload>; PLACES], [Seat<Payload>; DAEMONS]>,
    fanout: Fanout<Payload, [FanoutPlace<Payload>; PLACES], [ReceiverSeat; LISTENERS]>,
    /// Who sits in each pocket, and whether it has left: then its name is stale.
    receivers: [Option<(ReceiverId, bool)>; LISTENERS],
    /// The number of the last message.
    number: u64,
}

impl Mail {
    pub(crate) fn new(setup: Setup) -> Result<Self, Epitaph> {
        let schema =
            Schema { tag: TAG, version: 1, length_bytes_max: u32::from(PAYLOAD_BYTES_MAX) - 1 };
        let spec = |flow: Flow| Spec { schema, overflow: flow.into(), credits_max: CREDITS };
        let channel = Channel::new(
            3,
            [const { Place::EMPTY }; PLACES],
            [const { Seat::EMPTY }; DAEMONS],
            spec(setup.channel),
        );
        let fanout = Fanout::new(
            4,
            [const { FanoutPlace::EMPTY }; PLACES],
            [ReceiverSeat::EMPTY; LISTENERS],
            spec(setup.fanout),
        );
        let mut channel = channel.map_err(|error| Epitaph::new(format_args!("{error}")))?;
        channel.set_receiver_level(Level::MOST_URGENT);
        Ok(Self {
            channel,
            fanout: fanout.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            receivers: [None; LISTENERS],
            number: 0,
        })
    }

    /// Gives a daemon a seat, with one credit or two.
    pub(crate) fn open(&mut self, slot: u8, out: &mut Out<'_>) -> Option<SenderId> {
        let seat = self.channel.open(1 + usize::from(slot % 2));
        out.tell(&Seen::Opened { slot, seat });
        seat.ok()
    }

    pub(crate) fn close(&mut self, slot: u8, sender: SenderId, out: &mut Out<'_>) {
        out.tell(&Seen::Closed { slot, seat: self.channel.close(sender) });
    }

    pub(crate) fn send(
        &mut self,
        now: Instant,
        slot: u8,
        sender: SenderId,
        (tag, length): (u8, u8),
        out: &mut Out<'_>,
    ) {
        let message = self.next_message(tag, length);
        let sent = self.channel.send(now, sender, message).map_err(|refused| refused.reason);
        out.tell(&Seen::Sent { slot, message: message.payload, sent: &sent });
    }

    pub(crate) fn reserve(&mut self, sender: SenderId, out: &mut Out<'_>) {
        out.tell(&Seen::Reserved(self.channel.reserve(sender)));
    }

    pub(crate) fn cancel(&mut self, sender: SenderId, out: &mut Out<'_>) {
        out.tell(&Seen::Reserved(self.channel.cancel(sender)));
    }

    /// The level that a sender inherits, if it has not left.
    pub(crate) fn inherited_level(&self, sender: SenderId) -> Option<Option<Level>> {
        self.channel.inherited_level(sender).ok()
    }

    pub(crate) fn receive(&mut self, now: Instant, out: &mut Out<'_>) {
        out.tell(&Seen::Received(&self.channel.receive(now)));
    }

    pub(crate) fn abandon(&mut self, out: &mut Out<'_>) {
        out.tell(&Seen::Abandoned(self.channel.abandon()));
    }

    pub(crate) fn join(&mut self, into: u8, level: u8, out: &mut Out<'_>) {
        let pocket = self.receivers.get_mut(usize::from(into));
        let Some(pocket) = pocket.filter(|pocket| pocket.is_none_or(|(_, left)| left)) else {
            return out.tell(&Seen::Nothing);
        };
        let joined = self.fanout.join(Level::new(level).unwrap_or_default());
        if let Ok(id) = joined {
            *pocket = Some((id, false));
        }
        out.tell(&Seen::Joined(joined));
    }

    pub(crate) fn leave(&mut self, now: Instant, from: u8, out: &mut Out<'_>) {
        match self.receivers.get_mut(usize::from(from)) {
            Some(Some((id, left))) => {
                *left = true;
                out.tell(&Seen::Left(self.fanout.leave(now, *id)));
            }
            _ => out.tell(&Seen::Nothing),
        }
    }

    pub(crate) fn broadcast(&mut self, now: Instant, length: u8, out: &mut Out<'_>) {
        let message = self.next_message(1, length);
        let sent = self.fanout.send(now, message).map_err(|refused| refused.reason);
        out.tell(&Seen::Broadcast { message: message.payload, sent: &sent });
    }

    pub(crate) fn take(&mut self, now: Instant, from: u8, out: &mut Out<'_>) {
        match self.receiver(from) {
            Some(id) => {
                out.tell(&Seen::Taken { from, taken: &self.fanout.receive(now, id) });
            }
            None => out.tell(&Seen::Nothing),
        }
    }

    /// Ends the waits whose time is over.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Out<'_>) {
        while let Some(timed_out) = self.channel.poll(now) {
            out.tell(&Seen::TimedOut(&timed_out));
        }
        if let Some(message) = self.fanout.poll(now) {
            out.tell(&Seen::BroadcastTimedOut(message));
        }
    }

    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.channel.check_invariants()?;
        self.fanout.check_invariants()
    }

    const fn next_message(&mut self, tag: u8, length: u8) -> Message<Payload> {
        self.number = self.number.wrapping_add(1);
        let payload = Payload { number: self.number, length };
        Message { tag: tag as u16, version: 1, payload }
    }

    fn receiver(&self, from: u8) -> Option<ReceiverId> {
        self.receivers.get(usize::from(from)).copied().flatten().map(|(id, _)| id)
    }
}
