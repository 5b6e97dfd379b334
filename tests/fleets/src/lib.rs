//! The simulator of fleets: the manager's machine, [`Decider`](duende::manager::decide::Decider), and
//! the machine of its links, [`Sessions`](duende::manager::link::session::Sessions), between backends,
//! links, stores, clocks and operators that are played from a seed.
//!
//! What comes over different descriptors comes in any order; what comes over one stays in order. The
//! adversary: programs that say they are ready before anybody knows them, or never; that ignore what
//! they are asked, can't be killed, keep their link open, or speak for others; places that hang, die, or
//! have no room; a store that does not answer; numbers of processes that are given again; operators who
//! ask anything at any moment.
//!
//! - `world` is everything around the machine, and performs its effects.
//! - `turns` is the loop around it: who is heard when, by [`Turns`](duende::manager::turn::Turns), also
//!   while somebody floods.
//! - `oracle` is what must hold after each step, said independently of the machine.
//! - `run` plays a history, and then lets all faults end: every daemon that may run must run, every
//!   question must be answered, and the fleet must end when it is told to.
//!
//! A history is a list of numbers, and is drawn and shrunk as one: `duende-history`.

mod fleet;
mod oracle;
pub mod run;
mod turns;
mod world;
