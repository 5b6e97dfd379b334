//! Who may go on, and who has to wait, back off or stop.
//!
//! | module | question |
//! |---|---|
//! | [`breaker`] | is the other side well enough to be called? |
//! | [`bucket`] | is this more often than agreed? |
//! | [`gate`] | is there room in the queue, and who gets the next place? |
//! | [`overflow`] | what becomes of a message when there is none? |
//! | [`jidoka`] | did every check pass, and which was the first that did not? |
//! | [`thresholds`] | is a figure within its limit? |
//! | [`andon`] | who has to be told that one is not, and for how long? |
//! | [`quota`] | is there any of the resource left, here and above? |
//! | [`ratio`] | shares without floats |
//!
//! Each is a machine of its own. What they have in common:
//! 1. A refusal is a value that says what was refused and the way out of it; it never blocks and is
//!    never silent: each is counted or told.
//! 2. Time passes only in arguments. What a machine answers depends on what it was told and when, and
//!    not on how often it was asked in between. A clock that steps back counts as stalled.
//! 3. A specification that can't be kept (a zero where there has to be something) is refused when the
//!    machine is made. One that was accepted can be changed while the machine runs, and what the
//!    machine knows is kept. (The gate is the exception: its policy is for life.)

pub mod andon;
pub mod breaker;
pub mod bucket;
pub mod gate;
pub mod jidoka;
pub mod overflow;
pub mod quota;
pub mod ratio;
pub mod thresholds;
