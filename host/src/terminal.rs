//! What a terminal would obey instead of show.
//!
//! Text of daemons, of files and of peers is shown to people. Whatever writes such a text for people —
//! a log, a table, an error — replaces or escapes each character for which [`drives_terminal`] is true.

/// Whether a character does something other than take its place in the line: control characters
/// (escape sequences, carriage returns, line feeds), line and paragraph separators, and what turns the
/// direction of writing, with which a text can look like another one.
#[must_use]
pub(crate) const fn drives_terminal(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every control character, and every one that Unicode calls a control of direction
    /// (`Bidi_Control`).
    #[test]
    fn controls_drive_and_letters_do_not() {
        for character in '\0'..=char::MAX {
            if character.is_control() {
                assert!(drives_terminal(character), "{character:?}");
            }
            if character.is_alphanumeric() {
                assert!(!drives_terminal(character), "{character:?}");
            }
        }
        let directions = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\
                          \u{2067}\u{2068}\u{2069}";
        assert!(directions.chars().all(drives_terminal));
    }
}
