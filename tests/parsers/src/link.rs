//! What a manager and its peers say to each other: [`Command`] and [`Event`]. The input is that of
//! a stream: four bytes of choices, then frames or payloads.

use duende_core::wire::link::{Command, Event};

use crate::stream::{self, Family, family};

const FAMILIES: [Family; 2] = [family!(Command<'_>), family!(Event<'_>)];

/// Checks one input.
pub fn check(input: &[u8]) {
    stream::check(input, &FAMILIES);
}
