//! Counts the lines of its channel, and never forgets the count.

use duende_sdk::{Context, Durable, Failure, Level, Message, Next, Part, Wake};
use serde::{Deserialize, Serialize};

/// Most messages that one slice takes.
const MESSAGES_MAX: u32 = 100;

/// All that is kept: it outlives restarts of the daemon, of Duende and of the machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tally {
    lines: u64,
}

impl Durable for Tally {
    /// The very first start.
    fn first(_: &mut Context<'_>) -> Result<Self, Failure> {
        Ok(Self { lines: 0 })
    }

    /// Each start.
    fn start(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        context.log(Level::Info, format!("going on from line {}", self.lines));
        Ok(())
    }

    /// One slice. Either all of it counts, what was received and what became of `self` too, or nothing does:
    /// whoever is killed in the middle of it gets the same messages again.
    fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        let messages = context.receive("lines", MESSAGES_MAX)?;
        // A line that is longer than a message may be comes in parts, and is one line all the same.
        let begins = |message: &&Message| matches!(message.part, Part::Whole | Part::First);
        self.lines += messages.iter().filter(begins).count() as u64;
        context.metric().gauge_set("lines", self.lines as f64)?;
        let full = messages.len() == MESSAGES_MAX as usize;
        Ok(if full { Next::Again } else { Next::Wait })
    }
}

duende_sdk::export!(durable Tally);

#[cfg(test)]
mod tests {
    use duende_sdk::Kept;
    use duende_sdk::testing::Manager;

    use super::Tally;

    #[test]
    fn lines_are_counted_once_also_when_it_is_killed() {
        let mut manager = Manager::new().with_channel("lines");
        manager.send("lines", b"one");
        let incarnation = manager.start::<Kept<Tally>>().unwrap();
        manager.kill_in_slice(incarnation);
        assert_eq!(manager.gauge("lines"), None);

        manager.send("lines", b"two");
        let mut incarnation = manager.start::<Kept<Tally>>().unwrap();
        manager.slice(&mut incarnation).unwrap();
        assert_eq!(manager.gauge("lines"), Some(2.0));
    }
}
