//! What holds in a fan-out between any two calls.

use super::{Fanout, FanoutPlace, ReceiverSeat, add, widen};
use crate::epitaph::{Epitaph, invariant};

impl<P, S, R> Fanout<P, S, R>
where
    P: AsRef<[u8]> + Clone,
    S: AsRef<[FanoutPlace<P>]> + AsMut<[FanoutPlace<P>]>,
    R: AsRef<[ReceiverSeat]> + AsMut<[ReceiverSeat]>,
{
    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let copies = self.ring.check_invariants()?;
        let (used, credits) = (self.used(), self.spec.credits_max);
        invariant!(used <= credits, "fan-out: {used} of {credits} credits");
        let both = self.reserved && self.parked.is_some();
        invariant!(!both, "fan-out: the sender waits with a reserved place");
        let (mut taken, mut waiting) = (0_usize, 0_u64);
        for receiver in self.seats.as_ref().iter().filter_map(|seat| seat.0) {
            taken = taken.saturating_add(1);
            add(&mut waiting, widen(self.behind(receiver).1));
        }
        let receivers = self.receivers;
        invariant!(taken == receivers, "fan-out: {taken} seats taken, {receivers} counted");
        invariant!(copies == waiting, "fan-out: {copies} copies kept, {waiting} wait");
        let counters = self.counters;
        let entered = counters.entered_total.saturating_add(counters.timed_out_total);
        let (sent, parked) = (counters.sent_total, u64::from(self.parked.is_some()));
        invariant!(sent == entered.saturating_add(parked), "fan-out: {sent} sent, {entered} went");
        let sum = counters
            .delivered_total
            .saturating_add(counters.displaced_total)
            .saturating_add(counters.abandoned_total)
            .saturating_add(waiting);
        let copies = counters.copies_total;
        invariant!(copies == sum, "fan-out: {copies} copies, {sum} accounted for");
        Ok(())
    }
}
