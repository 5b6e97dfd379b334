//! What holds in a channel between any two calls.

use super::{Channel, Spilled};
use crate::epitaph::{Epitaph, invariant};
use crate::ipc::{Counters, Place, Seat};

impl<P, S, R> Channel<P, S, R>
where
    P: AsRef<[u8]>,
    S: AsRef<[Place<P>]> + AsMut<[Place<P>]>,
    R: AsRef<[Seat<P>]> + AsMut<[Seat<P>]>,
{
    /// What holds between any two calls. Follows every list: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.queue.check_invariants()?;
        let (mut granted, mut parked, mut own) = (0_usize, 0_usize, 0_usize);
        let mut spilled = Spilled::default();
        for (place, seat) in self.seats.as_ref().iter().zip(0_u32..) {
            let Some(sender) = &place.0 else { continue };
            let mut used = usize::from(sender.reserved);
            for entry in self.queue.of(sender.own) {
                invariant!(entry.seat == seat, "seat {seat} lists what is another's");
                own = own.saturating_add(1);
                if entry.spilled {
                    spilled.add(entry.message.length_bytes());
                } else {
                    used = used.saturating_add(1);
                }
            }
            let credits = sender.credits;
            invariant!(used == sender.used, "seat {seat} holds {used}, not as counted");
            invariant!(used <= credits, "seat {seat} holds {used} of {credits}");
            let waits = sender.parked.is_some();
            invariant!(!(waits && sender.reserved), "seat {seat} waits with a reserved place");
            let gone = sender.left && (waits || sender.reserved || sender.own.is_empty());
            invariant!(!gone, "seat {seat} is held by nothing");
            granted = granted.saturating_add(credits);
            parked = parked.saturating_add(usize::from(waits));
        }
        let (len, credits_max) = (self.queue.len(), self.spec.credits_max);
        invariant!(own == len, "channel: {own} of {len} messages have senders");
        let counted = (self.granted, self.parked, self.spilled) == (granted, parked, spilled);
        invariant!(counted, "channel: {granted} {parked} not as counted, or what is spilled");
        invariant!(granted <= credits_max, "channel: {granted} of {credits_max} credits");
        let Counters { sent_total: sent, delivered_total, .. } = self.counters;
        let waiting = u64::try_from(len.saturating_add(parked)).unwrap_or(u64::MAX);
        let sum =
            delivered_total.saturating_add(self.counters.dropped_total()).saturating_add(waiting);
        invariant!(sent == sum, "channel: {sent} sent, {sum} accounted for");
        Ok(())
    }
}
