//! Receives readings and prints the mean of each [`BATCH`] of them.

use super::{Context, Next};

/// How many readings make a mean.
pub const BATCH: u32 = 40;

/// Most readings that one slice takes.
const RECEIVES_MAX: usize = 4;

/// The task.
#[derive(Debug, Default)]
pub struct Logger {
    received: u32,
    sum_hundredths: i32,
}

impl Logger {
    pub(super) fn slice(&mut self, context: &mut Context<'_, '_>) -> Next {
        for _ in 0..RECEIVES_MAX {
            let Some(received) = context.readings.receive(context.now) else {
                return Next::Reading;
            };
            let hundredths = i32::from_le_bytes(received.message.payload);
            self.received = self.received.saturating_add(1);
            self.sum_hundredths = self.sum_hundredths.saturating_add(hundredths);
            if self.received == BATCH {
                let mean = self.sum_hundredths / BATCH.cast_signed();
                context.board.print(format_args!(
                    "logger    {BATCH} readings, mean {}.{:02} degrees",
                    mean / 100,
                    mean % 100
                ));
                *self = Self::default();
            }
        }
        Next::Again
    }
}
