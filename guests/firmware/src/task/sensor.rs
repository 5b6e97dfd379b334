//! Reads a temperature every [`PERIOD`] and sends it to the logger. A reading that finds the queue full
//! takes the place of an older one: news are better than history.

use core::time::Duration;

use duende_core::ipc::{Message, Schema, SenderId};
use duende_core::restart::Exit;
use duende_core::time::Instant;

use super::{Context, Next, Readings};

/// From one reading to the next.
pub const PERIOD: Duration = Duration::from_millis(100);

/// How many of its readings may wait.
const CREDITS: usize = 3;

/// What the channel takes.
pub const SCHEMA: Schema = Schema { tag: 1, version: 1, length_bytes_max: 4 };

/// The task.
#[derive(Debug, Default)]
pub struct Sensor {
    sender: Option<SenderId>,
    next_at: Instant,
}

impl Sensor {
    pub(super) fn slice(&mut self, context: &mut Context<'_, '_>) -> Next {
        let sender = match self.sender {
            Some(sender) => sender,
            None => match context.readings.open(CREDITS) {
                Ok(sender) => {
                    self.next_at = context.now;
                    *self.sender.insert(sender)
                }
                Err(_) => return Next::Exit(Exit::Error),
            },
        };
        let payload = hundredths(context.now).to_le_bytes();
        let message = Message { tag: SCHEMA.tag, version: SCHEMA.version, payload };
        if context.readings.send(context.now, sender, message).is_err() {
            return Next::Exit(Exit::Error);
        }
        // From when it was due, not from when it ran: the period does not drift.
        self.next_at = self.next_at.saturating_add(PERIOD).max(context.now);
        Next::Until(self.next_at)
    }

    pub(super) fn end(self, readings: &mut Readings<'_>) {
        if let Some(sender) = self.sender {
            // It is this task's own name, so it is known.
            let _ = readings.close(sender);
        }
    }
}

/// The temperature in hundredths of a degree Celsius. This board has no thermometer: a triangle between
/// 20 and 22 degrees, four seconds long, stands in for one.
fn hundredths(now: Instant) -> i32 {
    let phase = (now.as_ns() / 10_000_000 % 400).cast_signed();
    2000 + i32::try_from((phase - 200).abs()).unwrap_or(0)
}
