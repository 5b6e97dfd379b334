//! Watches a web server's access log: counts, error ratio, latency percentiles and request rate.
//!
//! Lines arrive in the channel `lines`. A slice takes at most [`LINES_PER_SLICE_MAX`] of them, writes
//! all figures back to `state` as one value and publishes them as gauges. Lines and figures commit
//! together, so a line is counted once however often the daemon dies.
//!
//! Configuration, all of it optional; a reload puts a new one in force, and one that makes no sense is refused, and
//! the old one stays:
//!
//! - `format`: how lines are read. `auto` (the default) recognises each line; `common`, `combined`,
//!   `vhost_combined`, `traefik`, `caddy` and `json` take no other; anything else is a pattern, in the syntax of
//!   nginx's `log_format` or Apache's `LogFormat`. What containers' logs put around a line comes off before.
//! - `request_time`: the unit of a request time that is a whole number, `s` (Apache's `%T`), `ms`, `us` (`%D`) or `ns`.
//!   Without it such a number is no time. A pattern says it itself.
//! - `window` (100): over how many requests the error ratio is taken; `error_ratio_alert` (0.05): above which it
//!   logs a warning, once until it recovers.
//!
//! When most of the last lines cannot be read it says so once, with a sample and the nearest format, and its health is
//! degraded until they can be again.
//!
//! Gauges: `requests_total`, `errors_total` (5xx), `malformed_total`, `bytes_total`, `status_1xx` to
//! `status_5xx`, `status_other`, `error_ratio`, `latency_p50_us`, `latency_p90_us`, `latency_p99_us`, `rate_per_s`
//! (over 10 s), `rate_1m_per_s`.

use core::time::Duration;

use duende_sdk::{
    Context, Daemon, Failure, Health, Instant, Level, Message, Next, Part, Sample, Wake,
    WakeReasons,
};

mod access_json;
mod clf;
mod figures;
mod format;
mod json;
mod legibility;
mod number;
mod pattern;
mod rate;
mod reader;
mod record;
mod sample;
mod scan;
mod settings;
mod time;
mod window;
mod wrapper;

use settings::Settings;

pub use figures::Figures;
pub use format::{Format, FormatError, Named, nearest};
pub use legibility::{LINES, Legibility, Turn};
pub use number::Unit;
pub use pattern::{Pattern, PatternError};
pub use rate::Rate;
pub use reader::{PARTS_BYTES_MAX, Reader, Reading};
pub use record::{Misread, Record};
pub use sample::{SAMPLE_BYTES_MAX, sample};
pub use window::{Change, Window};

/// Most lines that one slice takes.
pub const LINES_PER_SLICE_MAX: u32 = 256;

/// The keys in `state`: the figures, and the beginnings of lines that come in parts.
const KEY: &str = "figures";
const PARTS_KEY: &str = "parts";

/// How often the rate is published while it falls and no lines arrive.
const RATE_PERIOD: Duration = Duration::from_secs(1);

/// The daemon.
#[derive(Debug)]
pub struct Sentinel {
    /// What `state` holds: equal to it at each slice boundary.
    figures: Figures,
    /// What it holds of lines in parts, too.
    reader: Reader,
    error_ratio_alert: f64,
    /// When this incarnation last received a line.
    last_line: Option<Instant>,
    lines: u64,
}

impl Daemon for Sentinel {
    fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
        let Settings { window, error_ratio_alert, format, request_time } = Settings::read(context)?;
        let foreign = |key: &str| {
            let problem = format!("state: `{key}` was not written by this version of log-sentinel");
            Failure::not_allowed(problem)
        };
        let figures = match context.state().get(KEY)? {
            None => Figures::new(window),
            Some(bytes) => Figures::decode(&bytes, window).ok_or_else(|| foreign(KEY))?,
        };
        let mut reader = Reader::new(format, request_time);
        if let Some(parts) = context.state().get(PARTS_KEY)? {
            reader = reader.with_parts(&parts).ok_or_else(|| foreign(PARTS_KEY))?;
        }
        let requests = figures.requests();
        context.log(Level::Info, format!("watching, from request {requests} on"));
        Ok(Self { figures, reader, error_ratio_alert, last_line: None, lines: 0 })
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        if wake.reasons.contains(WakeReasons::RELOAD) {
            self.reload(context)?;
        }
        let messages = context.receive("lines", LINES_PER_SLICE_MAX)?;
        if !messages.is_empty() {
            let now = context.wall().since_epoch().as_secs();
            // A line that is longer than a message may be is one line all the same.
            let begins = |message: &&Message| matches!(message.part, Part::Whole | Part::First);
            for message in messages.iter().filter(begins) {
                self.count(&message.payload, now, context);
            }
            self.last_line = Some(wake.now);
            self.lines = self.lines.saturating_add(messages.len() as u64);
            context.state().set(KEY, &self.figures.encode())?;
            match self.reader.take_changed() {
                None => {}
                Some(parts) if parts.is_empty() => context.state().delete(PARTS_KEY)?,
                Some(parts) => context.state().set(PARTS_KEY, &parts)?,
            }
        }
        let quiet = self.last_line.map_or(Duration::ZERO, |last| wake.now.since(last));
        if !messages.is_empty() || !wake.reasons.is_empty() {
            self.publish(quiet, context)?;
        }
        Ok(if messages.len() == LINES_PER_SLICE_MAX as usize {
            Next::Again
        } else if self.last_line.is_some() && quiet <= Rate::REMEMBERED {
            Next::Until(wake.now + RATE_PERIOD)
        } else {
            Next::Wait
        })
    }

    fn health_check(&self) -> Health {
        let legibility = &self.figures.legibility;
        if legibility.is_lost() {
            let (misread, lines) = (legibility.misread(), legibility.lines());
            Health::degraded(format!("{misread} of the last {lines} lines could not be read"))
        } else {
            Health::healthy()
        }
    }

    fn metrics(&self) -> Vec<Sample> {
        let alerting = if self.figures.window.is_alerting() { 1.0 } else { 0.0 };
        vec![
            Sample::counter("lines_total", to_f64(self.lines)),
            Sample::gauge("alerting", alerting),
        ]
    }
}

impl Sentinel {
    /// Puts a new configuration in force. One that makes no sense is refused, and the old one stays: what
    /// works goes on working.
    fn reload(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        match Settings::read(context) {
            Ok(Settings { window, error_ratio_alert, format, request_time }) => {
                self.figures.window.resize(window);
                self.error_ratio_alert = error_ratio_alert;
                if *self.reader.format() != format {
                    // Lines that were read otherwise say nothing of it.
                    self.figures.legibility = Legibility::default();
                }
                self.reader.set_format(format, request_time);
                context.state().set(KEY, &self.figures.encode())?;
                context.log(Level::Info, "the configuration was reloaded");
            }
            Err(failure) => context.config().refuse(failure),
        }
        Ok(())
    }

    /// Counts one line, and says when the error ratio passes the alert, or whether lines can be read changes, in
    /// either direction.
    fn count(&mut self, payload: &[u8], now: u64, context: &mut Context<'_>) {
        let (turn, change) = match self.reader.read(payload) {
            Reading::Part => return,
            Reading::Request(record) => {
                let change = self.figures.count(&record, now, self.error_ratio_alert);
                (self.figures.look(true), change)
            }
            Reading::Malformed(line, misread) => {
                self.figures.count_malformed();
                let turn = self.figures.look(false);
                if turn == Some(Turn::Lost) {
                    let legibility = &self.figures.legibility;
                    context.log(
                        Level::Warn,
                        format!(
                            "{} of the last {} lines could not be read. The last one: {}",
                            legibility.misread(),
                            legibility.lines(),
                            told(line, misread)
                        ),
                    );
                }
                return;
            }
        };
        if turn == Some(Turn::Found) {
            context.log(Level::Info, "the lines can be read again");
        }
        match change {
            None => {}
            Some(Change::Alerting) => {
                let window = &self.figures.window;
                context.log(
                    Level::Warn,
                    format!(
                        "error ratio {:.3} over the last {} requests is above {}",
                        window.error_ratio(),
                        window.len(),
                        self.error_ratio_alert
                    ),
                );
            }
            Some(Change::Recovered) => {
                let ratio = self.figures.window.error_ratio();
                context.log(Level::Info, format!("error ratio recovered to {ratio:.3}"));
            }
        }
    }

    fn publish(&self, quiet: Duration, context: &mut Context<'_>) -> Result<(), Failure> {
        let figures = &self.figures;
        let mut metric = context.metric();
        metric.gauge_set("requests_total", to_f64(figures.requests()))?;
        metric.gauge_set("malformed_total", to_f64(figures.malformed))?;
        metric.gauge_set("bytes_total", to_f64(figures.bytes))?;
        let names = ["status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx"];
        for (name, count) in names.into_iter().zip(figures.status_classes) {
            metric.gauge_set(name, to_f64(count))?;
        }
        metric.gauge_set("status_other", to_f64(figures.other_statuses))?;
        metric.gauge_set("errors_total", to_f64(figures.errors()))?;
        metric.gauge_set("error_ratio", figures.window.error_ratio())?;
        let quantiles =
            [("latency_p50_us", 500_000), ("latency_p90_us", 900_000), ("latency_p99_us", 990_000)];
        for (name, ppm) in quantiles {
            if let Some(latency_us) = figures.latency_us.quantile_ppm(ppm) {
                metric.gauge_set(name, to_f64(latency_us))?;
            }
        }
        metric.gauge_set("rate_per_s", figures.rate.per_second(10, quiet))?;
        metric.gauge_set("rate_1m_per_s", figures.rate.per_second(60, quiet))?;
        Ok(())
    }
}

/// What is said of a line that could not be read: how it looks, how far it could be, and what it could be.
fn told(line: &[u8], Misread { at, expected }: Misread) -> String {
    let column = at + 1;
    let shown = sample(line);
    let like = match nearest(line) {
        Some((name, None)) => format!("; it is of the format `{name}`"),
        Some((name, Some(_))) => format!("; the nearest format is `{name}`"),
        None => "; it is like no format with a name: `format` can be a pattern".to_owned(),
    };
    format!("\"{shown}\": expected at column {column}: {expected}{like}")
}

/// A count as a gauge: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "no log has 2^53 lines")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

duende_sdk::export!(Sentinel);

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tests;
