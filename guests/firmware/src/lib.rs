#![no_std]
#![forbid(unsafe_code)]
//! The core in firmware: three tasks on a microcontroller, supervised by the rules that supervise
//! daemons on a server.
//!
//! | task | level | what it does |
//! |---|---|---|
//! | [`sensor`](task::sensor) | 1 | reads a temperature every 100 ms and sends it |
//! | [`logger`](task::logger) | 4 | needs the sensor; receives the readings and prints a mean now and then |
//! | [`radio`](task::radio) | 6 | sends beacons through a modem that is broken: it fails, in five ways |
//!
//! The radio is started again after its backoff, until its restart limit puts it in quarantine. Then an
//! operator replaces the modem and releases it, and it works. Meanwhile the logger is held still for a
//! second, and the channel drops the readings that are older than those it has room for.
//!
//! # What it shows
//!
//! - [`node`]: everything that the owner of a [`Supervisor`](duende_core::supervise::Supervisor) has to
//!   do: perform its effects, tell it what came of them, and sleep until the next deadline. Tasks are
//!   cooperative: they run one slice at a time, picked by the core's scheduler, and talk over one of its
//!   channels.
//! - `board/` (the feature `board`): the same on a Cortex-M4, with the time from SysTick and text by
//!   semihosting. Its panic handler calls a symbol that does not exist, so it links only if no panic is
//!   reachable from anything above.
//!
//! All state has a fixed size. The library knows no hardware, so its tests run anywhere, on a board that
//! is simulated: [`Board`].

use core::fmt;
use core::time::Duration;

use duende_core::epitaph::Epitaph;
use duende_core::supervise::Input;
use duende_core::time::Instant;

pub mod node;
pub mod task;
mod words;

use node::{Node, Storage, Turn};
use task::Kind;

/// What the node needs of the machine that it runs on.
pub trait Board {
    /// The time since the board was started. It never goes back.
    fn now(&mut self) -> Instant;
    /// 64 bits that are new for each call.
    fn entropy(&mut self) -> u64;
    /// Prints a line.
    fn print(&mut self, line: fmt::Arguments<'_>);
    /// Sleeps; may return early.
    fn sleep_until(&mut self, deadline: Instant);
}

/// What the operator does, and when.
const SCRIPT: [(Duration, Act); 4] = [
    (Duration::from_secs(6), Act::PauseLogger),
    (Duration::from_secs(7), Act::ResumeLogger),
    (Duration::from_secs(12), Act::ReleaseRadio),
    (Duration::from_secs(20), Act::StopAll),
];

#[derive(Clone, Copy)]
enum Act {
    PauseLogger,
    ResumeLogger,
    ReleaseRadio,
    StopAll,
}

/// Runs the node from its start until the operator has stopped everything.
///
/// # Errors
/// An [`Epitaph`], when an invariant is broken: the node must not go on.
pub fn run(board: &mut dyn Board, storage: &mut Storage) -> Result<(), Epitaph> {
    let mut node = Node::new(board, storage)?;
    for kind in Kind::ALL {
        node.tell(board, Input::Start(node.id(kind)))?;
    }
    let mut script = SCRIPT.iter().peekable();
    loop {
        let now = board.now();
        let due = |(after, _): &&(Duration, Act)| Instant::ZERO.saturating_add(*after) <= now;
        while let Some((_, act)) = script.next_if(due) {
            match act {
                Act::PauseLogger => {
                    board.print(format_args!("operator  holds the logger still"));
                    node.tell(board, Input::Pause(node.id(Kind::Logger)))?;
                }
                Act::ResumeLogger => {
                    board.print(format_args!("operator  lets the logger go on"));
                    node.tell(board, Input::Resume(node.id(Kind::Logger)))?;
                }
                Act::ReleaseRadio => {
                    board.print(format_args!("operator  replaces the modem, releases the radio"));
                    node.replace_modem();
                    node.tell(board, Input::Start(node.id(Kind::Radio)))?;
                }
                Act::StopAll => {
                    board.print(format_args!("operator  stops everything"));
                    node.tell(board, Input::StopAll)?;
                }
            }
        }
        let turn = node.turn(board)?;
        if script.peek().is_none() && node.is_stopped() {
            node.print_summary(board);
            return Ok(());
        }
        if let Turn::Idle { until } = turn {
            let next_act = script.peek().map(|(after, _)| Instant::ZERO.saturating_add(*after));
            let wake_at = [until, next_act].into_iter().flatten().min();
            board.sleep_until(wake_at.unwrap_or(Instant::MAX));
        }
    }
}

#[cfg(test)]
mod tests;
