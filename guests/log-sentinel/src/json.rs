//! The members of a JSON object, one after the other, without a tree.
//!
//! It is lenient: what is nested is skipped by its brackets, words are not checked. It takes what every JSON
//! parser takes, and reads the same in it (`duende-parsers` compares them).

use crate::scan::{closing_quote, tail};

/// A value, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// What stands between the quotes, with its escapes.
    Text(&'a [u8]),
    /// With its braces.
    Object(&'a [u8]),
    /// A number or a word.
    Plain(&'a [u8]),
    /// An array.
    Array,
}

/// The members of one object.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    text: &'a [u8],
    at: usize,
    is_first: bool,
}

impl<'a> Members<'a> {
    /// Of the object with which a text begins; none if it does not.
    pub(crate) fn of(text: &'a [u8]) -> Option<Self> {
        let at = blanks(text, 0);
        (text.get(at) == Some(&b'{')).then_some(Self { text, at: at + 1, is_first: true })
    }

    /// How many bytes were read.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// The next member; none behind the last one.
    ///
    /// # Errors
    /// It is no JSON at [`at`](Self::at).
    pub(crate) fn next(&mut self) -> Result<Option<(&'a [u8], Value<'a>)>, NotJson> {
        self.at = blanks(self.text, self.at);
        let is_first = core::mem::replace(&mut self.is_first, false);
        match self.text.get(self.at) {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !is_first => self.at = blanks(self.text, self.at + 1),
            Some(_) if is_first => {}
            _ => return Err(NotJson),
        }
        let key = self.string()?;
        self.at = blanks(self.text, self.at);
        if self.text.get(self.at) != Some(&b':') {
            return Err(NotJson);
        }
        self.at = blanks(self.text, self.at + 1);
        let value = match self.text.get(self.at).ok_or(NotJson)? {
            b'"' => Value::Text(self.string()?),
            b'{' => Value::Object(self.nested()?),
            b'[' => {
                self.nested()?;
                Value::Array
            }
            _ => Value::Plain(self.plain()?),
        };
        Ok(Some((key, value)))
    }

    fn string(&mut self) -> Result<&'a [u8], NotJson> {
        let inside = tail(self.text, self.at).strip_prefix(b"\"").ok_or(NotJson)?;
        let end = closing_quote(inside).ok_or(NotJson)?;
        self.at += end + 2;
        inside.get(..end).ok_or(NotJson)
    }

    fn plain(&mut self) -> Result<&'a [u8], NotJson> {
        let rest = tail(self.text, self.at);
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        self.at += length;
        rest.get(..length).filter(|plain| !plain.is_empty()).ok_or(NotJson)
    }

    /// Skips an object or array.
    fn nested(&mut self) -> Result<&'a [u8], NotJson> {
        let rest = tail(self.text, self.at);
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(byte) = rest.get(at) {
            at += 1;
            match byte {
                b'"' => at += closing_quote(tail(rest, at)).ok_or(NotJson)? + 1,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => {
                    self.at += at;
                    return rest.get(..at).ok_or(NotJson);
                }
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Err(NotJson)
    }
}

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

fn blanks(text: &[u8], at: usize) -> usize {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    at + tail(text, at).iter().take_while(|byte| is_blank(byte)).count()
}

/// Appends a text without its escapes; what is no escape stays as it is.
pub(crate) fn unescape(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = crate::scan::find(rest, b'\\') {
        let (plain, escape) = rest.split_at(at);
        into.extend_from_slice(plain);
        let byte = match escape.get(1) {
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'u') => {
                if let Some((character, length)) = unicode(escape) {
                    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = tail(escape, length);
                    continue;
                }
                into.push(b'\\');
                rest = tail(escape, 1);
                continue;
            }
            _ => {
                into.push(b'\\');
                rest = tail(escape, 1);
                continue;
            }
        };
        into.push(byte);
        rest = tail(escape, 2);
    }
    into.extend_from_slice(rest);
}

/// `\u00e9`, or two of them that are one character; half of a pair is the replacement character.
fn unicode(escape: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let hex = escape.get(at..at + 6)?.strip_prefix(b"\\u")?;
        hex.iter().try_fold(0_u16, |value, byte| {
            let digit = char::from(*byte).to_digit(16)?;
            Some(value << 4 | u16::try_from(digit).ok()?)
        })
    };
    let first = unit(0)?;
    let pair = [first, unit(6).unwrap_or(0)];
    match char::decode_utf16(pair).next()? {
        Ok(character) => Some((character, if character.len_utf16() == 2 { 12 } else { 6 })),
        Err(_) => Some((char::REPLACEMENT_CHARACTER, 6)),
    }
}
