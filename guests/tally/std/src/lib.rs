//! Counts the lines of its channel, and never forgets the count: the same daemon as the others of this folder.
//!
//! With the SDK, which keeps its fields, and with what `std` has of the outside: for `wasm32-wasip1` and
//! `wasm32-wasip2` that is WASI.

use duende_sdk::{Context, Durable, Failure, Message, Next, Part, Wake};
use serde::{Deserialize, Serialize};

/// Most messages that one slice takes.
const MESSAGES_MAX: u32 = 100;

/// All that it keeps.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tally {
    lines: u64,
}

impl Durable for Tally {
    fn first(_: &mut Context<'_>) -> Result<Self, Failure> {
        Ok(Self { lines: 0 })
    }

    fn start(&mut self, _: &mut Context<'_>) -> Result<(), Failure> {
        // A line of the log: what a daemon prints is there too.
        println!("going on from line {}", self.lines);
        Ok(())
    }

    // One slice. Either all of it counts, what was received and what became of `self` too, or nothing does.
    fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        let messages = context.receive("lines", MESSAGES_MAX)?;
        // A line that is longer than a message may be comes in parts, and is one line all the same.
        let begins = |message: &&Message| matches!(message.part, Part::Whole | Part::First);
        self.lines += messages.iter().filter(begins).count() as u64;
        if !messages.is_empty() {
            context.metric().gauge_set("lines", self.lines as f64)?;
        }
        let full = messages.len() == MESSAGES_MAX as usize;
        Ok(if full { Next::Again } else { Next::Wait })
    }
}

duende_sdk::export!(durable Tally);
