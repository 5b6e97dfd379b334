//! Takes the sampler's readings into the monitor, and answers `history`.

use std::time::{Instant as WallInstant, SystemTime, UNIX_EPOCH};

use super::{Manager, instant_at, question::Answered};
use crate::{
    control::protocol::{FigureSamples, HistorySample, Response, SAMPLES_PER_RESPONSE_MAX},
    monitor::{Figures, Reading},
};

impl Manager {
    pub(super) fn take_reading(&mut self, reading: &Reading) {
        let at = instant_at(self.began, reading.at);
        for (slot, daemon) in self.decider.daemons().iter().enumerate() {
            let Some((_, pid, _)) = daemon.running() else { continue };
            let found = reading.processes.get(slot).copied().flatten();
            let is_its = |(of, _): &(u32, _)| pid == Some(*of);
            let (counters, gauges) = daemon.figures();
            let figures = Figures {
                process: found.filter(is_its).map(|(_, figures)| figures),
                memory_bytes: daemon
                    .memory_bytes()
                    .filter(|_| !daemon.spec().abilities.has_process),
                processor: daemon.processor(),
                counters: Some(counters),
                gauges: Some(gauges),
            };
            self.monitor.record(at, slot, figures);
        }
    }

    /// The samples of one daemon from `last_ms` milliseconds ago until now.
    pub(super) fn history(&self, name: &str, last_ms: u64) -> Answered {
        let slot = usize::try_from(self.slot(name)?).unwrap_or(usize::MAX);
        let now = instant_at(self.began, WallInstant::now());
        let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let from = now.as_ns().saturating_sub(last_ms.saturating_mul(1_000_000));
        let from = duende_core::time::Instant::from_ns(from);
        let mut responses = vec![Response::Sampling {
            interval_us: u64::try_from(self.monitor.interval().as_micros()).unwrap_or(u64::MAX),
            missed_total: self.sampler.missed_total(),
            refused_total: self.monitor.refused(),
        }];
        for figure in self.monitor.figures(slot) {
            let samples: Vec<HistorySample> = self
                .monitor
                .since(slot, figure, from)
                .map(|(at, value)| {
                    let time = now_unix.saturating_sub(now.saturating_since(at));
                    let time_unix_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                    HistorySample { time_unix_us, value }
                })
                .collect();
            let parts = samples.chunks(SAMPLES_PER_RESPONSE_MAX);
            responses.extend(parts.map(|part| {
                let (figure, samples) = (figure.to_owned(), part.to_vec());
                Response::History(FigureSamples { figure, samples })
            }));
        }
        responses.push(Response::Done);
        Ok(Some(responses))
    }
}
