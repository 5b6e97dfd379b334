//! What the command line and the manager say to each other: [`Request`] and [`Response`]. The input is
//! that of a stream: four bytes of choices, then frames or payloads.

use duende::control::protocol::{Request, Response};

use crate::stream::{self, Family, family};

const FAMILIES: [Family; 2] = [family!(Request), family!(Response)];

/// Checks one input.
pub fn check(input: &[u8]) {
    stream::check(input, &FAMILIES);
}
