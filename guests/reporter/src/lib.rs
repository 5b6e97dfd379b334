//! Counts the lines of the channel `lines`, and logs how many there were, once a period.
//!
//! It is written as one `async` function: each wait is a commit. Configuration: `period_ms`, default 60,000.
//! Grants: `channel:lines`, `state`, and `log` for what it says.

use core::time::Duration;

use duende_sdk::{Context, Error, Event, Failure, Handle, Level, Program};
use serde::Deserialize;

/// The key in `state`: lines of all incarnations, eight bytes, little endian.
const KEY: &str = "lines";
const TIMER: &str = "report";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    period_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { period_ms: 60_000 }
    }
}

/// The daemon.
#[derive(Debug)]
pub struct Reporter;

impl Program for Reporter {
    async fn main(daemon: Handle) -> Result<(), Failure> {
        let mut settings: Settings = daemon.with(|context| context.config().read()).await?;
        let mut lines = daemon.with(kept).await?;
        daemon.log(Level::Info, format!("here, after {lines} lines")).await;
        daemon.set_timer(TIMER, Duration::from_millis(settings.period_ms));
        loop {
            match daemon.next().await? {
                Event::Messages { messages, .. } => {
                    lines = lines.saturating_add(messages.len().try_into()?);
                    daemon
                        .with(move |context| context.state().set(KEY, &lines.to_le_bytes()))
                        .await?;
                }
                Event::Timer(_) => {
                    daemon.log(Level::Info, format!("{lines} lines")).await;
                    daemon.set_timer(TIMER, Duration::from_millis(settings.period_ms));
                }
                Event::Reload => {
                    let read = |context: &mut Context<'_>| {
                        let read = context.config().read();
                        if let Err(reason) = &read {
                            context.config().refuse(reason);
                        }
                        read
                    };
                    settings = daemon.with(read).await.unwrap_or(settings);
                }
                Event::Stopping { .. } => {
                    daemon.log(Level::Info, format!("{lines} lines, and no more")).await;
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

fn kept(context: &mut Context<'_>) -> Result<u64, Error> {
    let kept = context.state().get(KEY)?;
    Ok(kept.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
}

duende_sdk::export!(program Reporter);

#[cfg(test)]
mod tests {
    use duende_sdk::{Running, testing::Manager};

    use super::*;

    #[test]
    fn it_counts_over_restarts_and_keeps_its_period_when_a_new_one_makes_no_sense() {
        let mut manager = Manager::new().with_channel("lines").with_config("period_ms", 1_000_i64);
        let mut expected = Vec::new();
        for (sent, before) in [(3, 0), (100, 3)] {
            (0..sent).for_each(|_| manager.send("lines", b"a line"));
            let mut reporter = manager.start::<Running<Reporter>>().unwrap();
            for _ in 0..3 {
                manager.slice(&mut reporter).unwrap();
            }
            manager.configure("period_ms", "soon");
            manager.reload(&mut reporter).unwrap();
            assert!(manager.take_refusal().is_some());
            manager.configure("period_ms", 1_000_i64);
            manager.advance(Duration::from_secs(1));
            manager.slice(&mut reporter).unwrap();
            manager.shutdown(reporter, Duration::from_secs(9)).unwrap();
            let total = before + sent;
            expected.push(format!("here, after {before} lines"));
            expected.push(format!("{total} lines"));
            expected.push(format!("{total} lines, and no more"));
        }
        let mut lines: Vec<String> =
            manager.take_lines().into_iter().map(|(_, line)| line).collect();
        lines.dedup();
        assert_eq!(lines, expected);
    }
}
