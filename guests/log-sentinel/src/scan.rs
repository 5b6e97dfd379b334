//! Finding bytes, eight at a time: that is where the time of reading a line goes.

/// A byte in all eight places of a word.
const fn spread(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Has the highest bit of the lowest byte that is zero, and perhaps of some above it.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(spread(0x01)) & !word & spread(0x80)
}

/// Where the first `byte` is.
pub(crate) fn find(text: &[u8], byte: u8) -> Option<usize> {
    find_either(text, byte, byte)
}

/// Where the first byte is that is `one` or `other`.
#[inline]
pub(crate) fn find_either(text: &[u8], one: u8, other: u8) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ spread(one)) | zeros(word ^ spread(other));
        if hits != 0 {
            return Some(index * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    let at = rest.iter().position(|byte| *byte == one || *byte == other)?;
    Some(words.len() * 8 + at)
}

/// Where `text` has the closing quote of the field that begins with it; a backslash hides the byte after it.
#[inline]
pub(crate) fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + find_either(text.get(from..)?, b'"', b'\\')?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        from = at + 2;
    }
}

/// What stands from `at` on; nothing, if that is behind the end.
pub(crate) fn tail(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}

/// What stands before the first blank: all of it, if there is none.
pub(crate) fn word(text: &[u8]) -> &[u8] {
    // Words are short: a search by eights does not pay.
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Bytes that differ from those looked for by one, or in the highest bit, are where the trick goes wrong.
        #[test]
        fn the_first_one_is_found(text in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\\'), Just(b'#'), Just(b'!'), Just(0xa2), any::<u8>()], 0..40,
        )) {
            let naive = |one, other| text.iter().position(|byte| *byte == one || *byte == other);
            prop_assert_eq!(find_either(&text, b'"', b'\\'), naive(b'"', b'\\'));
            prop_assert_eq!(find(&text, b'#'), naive(b'#', b'#'));
        }
    }

    #[test]
    fn a_backslash_hides_a_quote() {
        for (text, expected) in [
            (r#"" x"#, Some(0)),
            (r#"abc" "#, Some(3)),
            (r#"a\"b\\""#, Some(6)),
            (r#"a\""#, None),
            ("a\\", None),
            ("", None),
        ] {
            assert_eq!(closing_quote(text.as_bytes()), expected, "{text}");
        }
    }
}
