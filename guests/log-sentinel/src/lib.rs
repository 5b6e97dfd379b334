//! Watches a web server's access log: counts, error ratio, latency percentiles and request rate.
//!
//! Lines arrive in the channel `lines`. A slice takes at most [`LINES_PER_SLICE_MAX`] of them, writes
//! all figures back to `state` as one value and publishes them as gauges. Lines and figures commit
//! together, so a line is counted once however often the daemon dies.
//!
//! Configuration: `window` (default 100), over how many requests the error ratio is taken;
//! `error_ratio_alert` (default 0.05), above which it logs a warning, once until it recovers. A reload puts a new one in force; one that makes
//! no sense is logged, and the old one stays.
//!
//! Gauges: `requests_total`, `errors_total` (5xx), `malformed_total`, `bytes_total`, `status_1xx` to
//! `status_5xx`, `error_ratio`, `latency_p50_us`, `latency_p90_us`, `latency_p99_us`, `rate_per_s`
//! (over 10 s), `rate_1m_per_s`.

use core::time::Duration;

use duende_sdk::{Context, Daemon, Instant, Level, Next, Sample, SampleKind, Wake, WakeReasons};

mod figures;
mod line;
mod rate;
mod window;

pub use figures::Figures;
pub use line::Line;
pub use rate::Rate;
pub use window::{Change, Window};

/// Most lines that one slice takes.
pub const LINES_PER_SLICE_MAX: u32 = 256;

/// The one key in `state`.
const KEY: &str = "figures";

/// How often the rate is published while it falls and no lines arrive.
const RATE_PERIOD: Duration = Duration::from_secs(1);

/// The daemon.
#[derive(Debug)]
pub struct Sentinel {
    /// What `state` holds: equal to it at each slice boundary.
    figures: Figures,
    error_ratio_alert: f64,
    /// When this incarnation last received a line.
    last_line: Option<Instant>,
    lines: u64,
}

impl Daemon for Sentinel {
    fn init(context: &mut Context<'_>) -> Result<Self, String> {
        let Settings { window, error_ratio_alert } = Settings::read(context)?;
        let figures = match context.state().get(KEY)? {
            None => Figures::new(window),
            Some(bytes) => Figures::decode(&bytes, window).ok_or_else(|| {
                format!("state: `{KEY}` was not written by this version of log-sentinel")
            })?,
        };
        let requests = figures.requests();
        context.log(Level::Info, &format!("watching, from request {requests} on"))?;
        Ok(Self { figures, error_ratio_alert, last_line: None, lines: 0 })
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, String> {
        if wake.reasons.contains(WakeReasons::RELOAD) {
            self.reload(context)?;
        }
        let messages = context.receive("lines", LINES_PER_SLICE_MAX)?;
        for message in &messages {
            self.count(&message.payload, context)?;
        }
        if !messages.is_empty() {
            self.last_line = Some(wake.now);
            self.lines = self.lines.saturating_add(messages.len() as u64);
            context.state().set(KEY, &self.figures.encode())?;
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

    fn metrics(&self) -> Vec<Sample> {
        let sample = |name: &str, kind, value| Sample { name: name.to_owned(), kind, value };
        let alerting = if self.figures.window.is_alerting() { 1.0 } else { 0.0 };
        vec![
            sample("lines_total", SampleKind::Counter, to_f64(self.lines)),
            sample("alerting", SampleKind::Gauge, alerting),
        ]
    }
}

/// What `[daemon.config]` says.
struct Settings {
    window: usize,
    error_ratio_alert: f64,
}

impl Settings {
    fn read(context: &mut Context<'_>) -> Result<Self, String> {
        let window = context.config().parse("window", 100_usize)?;
        if !(1..=Window::REQUESTS_MAX).contains(&window) {
            return Err(format!(
                "config: `window = {window}` must be from 1 to {}",
                Window::REQUESTS_MAX
            ));
        }
        let error_ratio_alert = context.config().parse("error_ratio_alert", 0.05_f64)?;
        if !(0.0..=1.0).contains(&error_ratio_alert) {
            return Err(format!(
                "config: `error_ratio_alert = {error_ratio_alert}` must be from 0.0 to 1.0"
            ));
        }
        Ok(Self { window, error_ratio_alert })
    }
}

impl Sentinel {
    /// Puts a new configuration in force. One that makes no sense is said, and the old one stays: what
    /// works goes on working.
    fn reload(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        match Settings::read(context) {
            Ok(Settings { window, error_ratio_alert }) => {
                self.figures.window.resize(window);
                self.error_ratio_alert = error_ratio_alert;
                context.state().set(KEY, &self.figures.encode())?;
                context.log(Level::Info, "the configuration was reloaded")?;
            }
            Err(reason) => {
                context.log(Level::Error, &format!("the old configuration stays: {reason}"))?;
            }
        }
        Ok(())
    }

    /// Counts one line and says when the error ratio passes the alert, in either direction.
    fn count(&mut self, payload: &[u8], context: &mut Context<'_>) -> Result<(), String> {
        match self.figures.count(payload, self.error_ratio_alert) {
            None => {}
            Some(Change::Alerting) => {
                let window = &self.figures.window;
                context.log(
                    Level::Warn,
                    &format!(
                        "error ratio {:.3} over the last {} requests is above {}",
                        window.error_ratio(),
                        window.len(),
                        self.error_ratio_alert
                    ),
                )?;
            }
            Some(Change::Recovered) => {
                let ratio = self.figures.window.error_ratio();
                context.log(Level::Info, &format!("error ratio recovered to {ratio:.3}"))?;
            }
        }
        Ok(())
    }

    fn publish(&self, quiet: Duration, context: &mut Context<'_>) -> Result<(), String> {
        let figures = &self.figures;
        let mut metric = context.metric();
        metric.gauge_set("requests_total", to_f64(figures.requests()))?;
        metric.gauge_set("malformed_total", to_f64(figures.malformed))?;
        metric.gauge_set("bytes_total", to_f64(figures.bytes))?;
        let names = ["status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx"];
        for (name, count) in names.into_iter().zip(figures.status_classes) {
            metric.gauge_set(name, to_f64(count))?;
        }
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

/// A count as a gauge: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "no log has 2^53 lines")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

duende_sdk::export!(Sentinel);

#[cfg(test)]
mod tests;
