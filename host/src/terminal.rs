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

/// A text on one line in which whatever [drives a terminal](drives_terminal) is replaced.
#[must_use]
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\t' => ' ',
            driving if drives_terminal(driving) => '\u{fffd}',
            other => other,
        })
        .collect()
}

/// A JSON text in which whatever drives a terminal is written as its code. Such a character stands in strings
/// only, but for line feeds between values.
#[cfg(feature = "manager")]
#[must_use]
pub(crate) fn harmless_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && drives_terminal(character) {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON says the same with the codes, and those that it escapes by itself are left.
    #[cfg(feature = "manager")]
    #[test]
    fn json_drives_nothing_and_says_the_same() {
        let text: String = ('\0'..='\u{3000}').collect();
        for document in [
            serde_json::to_string(&text).unwrap(),
            serde_json::to_string_pretty(&serde_json::json!({ "a": [text], &text: 1 })).unwrap(),
        ] {
            let harmless = harmless_json(&document);
            assert!(!harmless.contains(|found| found != '\n' && drives_terminal(found)));
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(read(&harmless), read(&document));
        }
    }

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
