//! A line of the log with fields, as one text: `text key=value key="a value"` (logfmt).

use alloc::{format, string::String};
use core::fmt::Write as _;

use duende_core::wire::link::TEXT_BYTES_MAX;

use super::{ConfigValue, SyscallError};
use crate::limits::LOG_FIELDS_MAX;

/// Why a field's name is none.
const NAME: &str = "a field's name has the form [a-zA-Z_][a-zA-Z0-9_.-]*";

/// The line.
///
/// # Errors
/// Too many fields, a name that is none, a line over its limit.
pub(super) fn line(text: &str, fields: &[(&str, ConfigValue<'_>)]) -> Result<String, SyscallError> {
    if fields.len() > LOG_FIELDS_MAX {
        return Err(SyscallError::TooLarge(LOG_FIELDS_MAX as u64));
    }
    let mut line = String::from(text);
    for (name, value) in fields {
        if !is_name(name) {
            return Err(SyscallError::Invalid(NAME));
        }
        // Writing to a string does not fail.
        let _ = match value {
            ConfigValue::Text(text) => write!(line, " {name}={}", quoted(text)),
            ConfigValue::Integer(value) => write!(line, " {name}={value}"),
            ConfigValue::Number(value) => write!(line, " {name}={value}"),
            ConfigValue::Boolean(value) => write!(line, " {name}={value}"),
        };
        if line.len() > TEXT_BYTES_MAX {
            return Err(SyscallError::TooLarge(TEXT_BYTES_MAX as u64));
        }
    }
    Ok(line)
}

fn is_name(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let goes_on = |byte: u8| begins(byte) || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    name.bytes().next().is_some_and(begins) && name.bytes().all(goes_on)
}

/// As it is if it is one plain word, else in quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn fields_follow_the_text_and_can_be_told_apart() {
        let fields = [
            ("n", ConfigValue::Integer(-1)),
            ("ratio", ConfigValue::Number(0.5)),
            ("ok", ConfigValue::Boolean(true)),
            ("path", ConfigValue::Text("/a/b")),
            ("why", ConfigValue::Text("no \"room\" = none\n")),
            ("empty", ConfigValue::Text("")),
        ];
        let expected =
            r#"slow n=-1 ratio=0.5 ok=true path=/a/b why="no \"room\" = none\n" empty="""#;
        assert_eq!(line("slow", &fields), Ok(expected.into()));
        for bad in ["", "9a", "a b", "a="] {
            let refused = line("x", &[(bad, ConfigValue::Boolean(true))]);
            assert_eq!(refused, Err(SyscallError::Invalid(NAME)), "{bad}");
        }
        let many = vec![("a", ConfigValue::Boolean(true)); LOG_FIELDS_MAX + 1];
        assert!(line("x", &many[1..]).is_ok());
        assert_eq!(line("x", &many), Err(SyscallError::TooLarge(LOG_FIELDS_MAX as u64)));
        let long = "a".repeat(TEXT_BYTES_MAX);
        let refused = line("x", &[("a", ConfigValue::Text(&long))]);
        assert_eq!(refused, Err(SyscallError::TooLarge(TEXT_BYTES_MAX as u64)));
    }
}
