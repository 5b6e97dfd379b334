//! Sends a beacon every [`PERIOD`], if the modem works. A broken modem makes each incarnation fail in its
//! third slice, by turns in one of five ways ([`Fault`]).

use core::time::Duration;

use duende_core::restart::Exit;

use super::{Context, Next};

/// From one beacon to the next.
pub const PERIOD: Duration = Duration::from_millis(200);

/// Which slice of an incarnation fails.
const FAILING_SLICE: u32 = 3;

/// Longer than any slice may take.
const OVERRUN: Duration = Duration::from_millis(40);

/// What the radio sends through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modem {
    /// It works.
    pub works: bool,
    /// Beacons that it sent.
    pub sent: u32,
}

/// How an incarnation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It returns an error.
    Error,
    /// It ends with code 3.
    Code,
    /// Its slice takes too long.
    Overrun,
    /// It waits for an answer that never comes, and says so when its health is asked for.
    Stuck,
    /// The same, but it believes that all is well.
    Silent,
}

/// The task.
#[derive(Debug)]
pub struct Radio {
    fault: Fault,
    slices: u32,
    stuck: bool,
}

impl Radio {
    pub(super) const fn new(incarnation: u32) -> Self {
        let fault = match incarnation % 5 {
            1 => Fault::Error,
            2 => Fault::Code,
            3 => Fault::Overrun,
            4 => Fault::Stuck,
            _ => Fault::Silent,
        };
        Self { fault, slices: 0, stuck: false }
    }

    pub(super) const fn is_stuck(&self) -> bool {
        self.stuck
    }

    pub(super) fn slice(&mut self, context: &mut Context<'_, '_>) -> Next {
        self.slices = self.slices.saturating_add(1);
        if !context.modem.works && self.slices >= FAILING_SLICE {
            return self.fail(context);
        }
        if context.modem.works {
            context.modem.sent = context.modem.sent.saturating_add(1);
        }
        Next::Until(context.now.saturating_add(PERIOD))
    }

    fn fail(&mut self, context: &mut Context<'_, '_>) -> Next {
        match self.fault {
            Fault::Error => Next::Exit(Exit::Error),
            Fault::Code => Next::Exit(Exit::Code(3)),
            Fault::Overrun => {
                let end = context.now.saturating_add(OVERRUN);
                while context.board.now() < end {}
                Next::Again
            }
            Fault::Stuck => {
                self.stuck = true;
                Next::Answer
            }
            Fault::Silent => Next::Answer,
        }
    }
}
