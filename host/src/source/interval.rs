//! Ticks: one item in each period, on a [`Schedule`]. Those that were missed are one tick, with the
//! number of the last of them.

use std::time::Duration;

use duende_core::wire::link::Part;
use tokio::time::Instant;

use super::{Batch, Position, SourceError};
use crate::schedule::Schedule;

#[derive(Debug)]
pub(super) struct Interval {
    start: Instant,
    schedule: Schedule,
}

impl Interval {
    pub(super) fn new(period: Duration) -> Result<Self, SourceError> {
        let schedule = Schedule::new(period).ok_or(SourceError::PeriodZero)?;
        Ok(Self { start: Instant::now(), schedule })
    }

    pub(super) async fn fill(&mut self, batch: &mut Batch) {
        loop {
            let elapsed = self.start.elapsed();
            if let Some(tick) = self.schedule.take(elapsed) {
                return batch.push(Part::Whole, tick.to_string().into_bytes(), Position::default());
            }
            tokio::time::sleep(self.schedule.wait(elapsed)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_arrive() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut interval = Interval::new(Duration::from_millis(2)).unwrap();
            let mut last = 0;
            for _ in 0..5 {
                let mut batch = Batch::new(10, usize::MAX);
                tokio::time::timeout(Duration::from_secs(10), interval.fill(&mut batch))
                    .await
                    .unwrap();
                let items = batch.into_items();
                let [item] = &items[..] else { panic!("{items:?}") };
                let tick: u64 = std::str::from_utf8(&item.payload).unwrap().parse().unwrap();
                assert!(tick > last);
                last = tick;
            }
        });
        assert!(matches!(Interval::new(Duration::ZERO), Err(SourceError::PeriodZero)));
    }
}
