//! The syntax of nginx's `log_format`: `$name` and `${name}`.

use super::{Field, Kind, PatternError, Token, is_slip_of};
use crate::number::Unit;

/// The variables whose values are wanted.
const KNOWN: &[(&str, Kind, u8)] = &[
    ("status", Kind::Status, 0),
    ("body_bytes_sent", Kind::Bytes, 1),
    ("bytes_sent", Kind::Bytes, 0),
    ("time_iso8601", Kind::Time, 1),
    ("time_local", Kind::Time, 1),
    ("msec", Kind::Epoch(Unit::Seconds), 0),
    ("request_time", Kind::Latency(Unit::Seconds), 0),
];

/// The parts of a pattern.
///
/// # Errors
/// A `$` without a name, a brace that is not closed, or a name that is nearly one that is wanted. Any other can be
/// a variable of a module, or of somebody's `map`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().enumerate().peekable();
    while let Some((at, character)) = rest.next() {
        let column = at + 1;
        if character != '$' {
            // A configuration's text has them escaped, or not, by how it was copied.
            let is_escape = character == '\\'
                && rest.peek().is_some_and(|(_, next)| matches!(next, '"' | '\''));
            if !is_escape {
                let mut bytes = [0; 4];
                tokens.extend(character.encode_utf8(&mut bytes).bytes().map(Token::Literal));
            }
            continue;
        }
        let braced = rest.next_if(|(_, next)| *next == '{').is_some();
        let mut name = String::new();
        while let Some((_, letter)) =
            rest.next_if(|(_, next)| next.is_ascii_alphanumeric() || *next == '_')
        {
            name.push(letter);
        }
        if braced && rest.next_if(|(_, next)| *next == '}').is_none() {
            return Err(PatternError::new(column, "this brace is not closed"));
        }
        if name.is_empty() {
            return Err(PatternError::new(column, "a `$` with no name behind it"));
        }
        let known = KNOWN.iter().find(|(known, ..)| *known == name);
        if known.is_none()
            && let Some((near, ..)) = KNOWN.iter().find(|(known, ..)| is_slip_of(&name, known))
        {
            let problem = format!("there is no `${name}`: is `${near}` meant?");
            return Err(PatternError::new(column, problem));
        }
        let (kind, rank) = known.map_or((Kind::Other, 0), |(_, kind, rank)| (*kind, *rank));
        tokens.push(Token::Field(Field { kind, rank, name: format!("${name}"), column }));
    }
    Ok(tokens)
}
