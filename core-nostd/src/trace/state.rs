//! `tracestate`: a line for each tracing system that a request passed.
//!
//! Rules:
//! 1. At most 32 members, separated by commas, spaces and tabs around them ignored. A member is
//!    `key=value` or empty; empty ones count.
//! 2. A key has 1 to 256 of `a`–`z`, `0`–`9`, `_ - * / @`, the first one a letter or digit. A value
//!    has 1 to 256 printable ASCII characters without `,` and `=`, the last one not a space.
//! 3. A key stands once.
//! 4. A change moves the changed key to the front and keeps the order of the others. What is then
//!    over 32 members or 512 bytes is left out whole: members of more than 128 bytes first, else the
//!    last ones.
//!
//! Several header lines are one list: the caller joins them with commas, in order.

use core::fmt;

/// Most members of a list, empty ones included.
pub const MEMBERS_MAX: usize = 32;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 256;
/// Longest header that is read, in bytes: 32 members of the longest, and their commas.
pub const TRACESTATE_BYTES_MAX: usize =
    MEMBERS_MAX * (KEY_BYTES_MAX + "=".len() + VALUE_BYTES_MAX + ",".len());
/// Longest list that is sent on after a change, in bytes; only the changed member alone may be
/// longer. The least that the specification asks for.
pub const PROPAGATED_BYTES_MAX: usize = 512;
/// A member longer than this, in bytes, is the first to be left out.
const MEMBER_BYTES_LONG: usize = 128;

/// What one tracing system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member<'a> {
    /// Which system.
    pub key: &'a str,
    /// What it says; opaque to all others.
    pub value: &'a str,
}

impl Member<'_> {
    /// With its equals sign.
    const fn len(&self) -> usize {
        self.key.len().saturating_add(self.value.len()).saturating_add("=".len())
    }
}

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// A `tracestate` that was checked. The default is an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceState<'a> {
    header: &'a str,
}

/// A `tracestate`, or a member for one, is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("tracestate, byte {at}: {fault}")]
pub struct TracestateError {
    /// The first byte, counted from 0, that is not as it must be.
    pub at: usize,
    /// What is wrong there.
    pub fault: TracestateFault,
}

/// What is wrong with a `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TracestateFault {
    /// The header is longer than any sound one.
    #[error("longer than {TRACESTATE_BYTES_MAX} bytes")]
    TooLong,
    /// A 33rd member begins.
    #[error("more than {MEMBERS_MAX} members")]
    TooManyMembers,
    /// A byte can't stand in a key, or not at its beginning.
    #[error("not a byte of a key")]
    BadKey,
    /// A key goes on too long.
    #[error("a key of more than {KEY_BYTES_MAX} bytes")]
    KeyTooLong,
    /// A member ends before its `=`.
    #[error("a member without '='")]
    NoEquals,
    /// A value is empty.
    #[error("a member without a value")]
    NoValue,
    /// A byte can't stand in a value, or not at its end.
    #[error("not a byte of a value")]
    BadValue,
    /// A value goes on too long.
    #[error("a value of more than {VALUE_BYTES_MAX} bytes")]
    ValueTooLong,
    /// A key stands a second time.
    #[error("a key that stood before")]
    DuplicateKey,
}

impl<'a> TraceState<'a> {
    /// Reads the header. An empty one is sound.
    ///
    /// # Errors
    /// [`TracestateError`]: the trace goes on without the list.
    pub fn from_tracestate<H>(header: &'a H) -> Result<Self, TracestateError>
    where
        H: AsRef<[u8]> + ?Sized,
    {
        parse(header.as_ref())
    }

    /// The header as it came: what a service that changes nothing sends on.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.header
    }

    /// The members, the youngest first. Empty ones are passed over.
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.header.split(',').filter_map(|member| {
            let (key, value) = member.trim_matches(is_space).split_once('=')?;
            Some(Member { key, value })
        })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.members().find(|member| member.key == key).map(|member| member.value)
    }

    /// The list with this member in front, in place of an older one of its key.
    ///
    /// # Errors
    /// [`TracestateError`], counted in `key=value`, when the member is malformed.
    pub fn with<'m>(
        &self,
        key: &'m str,
        value: &'m str,
    ) -> Result<Updated<'a, 'm>, TracestateError> {
        check_member(key.as_bytes(), value.as_bytes())
            .map_err(|(at, fault)| TracestateError { at, fault })?;
        let own = Member { key, value };
        let mut updated = Updated { own, others: *self, kept: 0 };
        for (index, member) in self.members().enumerate() {
            if member.key != key {
                updated.kept |= bit(index);
            }
        }
        while updated.is_too_large() {
            let kept = |long: bool| {
                let long = move |member: &Member<'_>| !long || member.len() > MEMBER_BYTES_LONG;
                updated.others().filter(|(_, member)| long(member)).last()
            };
            let Some((index, _)) = kept(true).or_else(|| kept(false)) else { break };
            updated.kept &= !bit(index);
        }
        Ok(updated)
    }
}

impl fmt::Display for TraceState<'_> {
    /// The list without spaces and empty members.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.members())
    }
}

/// A list with a changed member; printed with `Display`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Updated<'a, 'm> {
    own: Member<'m>,
    others: TraceState<'a>,
    /// Bit n is set if member n of the others is kept.
    kept: u32,
}

impl<'a> Updated<'a, '_> {
    /// The other members that are kept, and their indices.
    fn others(&self) -> impl Iterator<Item = (usize, Member<'a>)> + use<'a> {
        let kept = self.kept;
        self.others.members().enumerate().filter(move |(index, _)| kept & bit(*index) != 0)
    }

    fn is_too_large(&self) -> bool {
        let (members, bytes) = self.others().fold((1_usize, self.own.len()), |sum, (_, member)| {
            (sum.0.saturating_add(1), sum.1.saturating_add(member.len()).saturating_add(",".len()))
        });
        members > MEMBERS_MAX || bytes > PROPAGATED_BYTES_MAX
    }
}

impl fmt::Display for Updated<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.others().map(|(_, member)| member);
        write_list(f, core::iter::once(self.own).chain(others))
    }
}

fn write_list<'a>(
    f: &mut fmt::Formatter<'_>,
    members: impl Iterator<Item = Member<'a>>,
) -> fmt::Result {
    for (index, member) in members.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(f, "{comma}{member}")?;
    }
    Ok(())
}

/// The bit of a member. There are at most 32.
const fn bit(index: usize) -> u32 {
    if index < MEMBERS_MAX { 1 << index } else { 0 }
}

fn parse(header: &[u8]) -> Result<TraceState<'_>, TracestateError> {
    let refuse = |at: usize, fault| Err(TracestateError { at, fault });
    if header.len() > TRACESTATE_BYTES_MAX {
        return refuse(TRACESTATE_BYTES_MAX, TracestateFault::TooLong);
    }
    let mut keys: [&[u8]; MEMBERS_MAX] = [&[]; MEMBERS_MAX];
    let mut end = 0_usize;
    for (index, member) in header.split(|byte| *byte == b',').enumerate() {
        let start = end;
        end = start.saturating_add(member.len()).saturating_add(1);
        let Some(seen) = keys.get_mut(..=index) else {
            return refuse(start, TracestateFault::TooManyMembers);
        };
        let spaces = member.iter().take_while(|byte| is_space(char::from(**byte))).count();
        let start = start.saturating_add(spaces);
        let Some(last) = member.iter().rposition(|byte| !is_space(char::from(*byte))) else {
            continue;
        };
        let member = member.get(spaces..=last).unwrap_or_default();
        let equals = member.iter().position(|byte| *byte == b'=');
        let (key, rest) =
            member.split_at_checked(equals.unwrap_or(member.len())).unwrap_or_default();
        let place = |(at, fault)| TracestateError { at: start.saturating_add(at), fault };
        check_key(key).map_err(place)?;
        let Some((_, value)) = rest.split_first() else {
            return Err(place((key.len(), TracestateFault::NoEquals)));
        };
        if seen.contains(&key) {
            return Err(place((0, TracestateFault::DuplicateKey)));
        }
        check_value(key, value).map_err(place)?;
        if let Some(own) = seen.last_mut() {
            *own = key;
        }
    }
    // Keys, values, commas and spaces are ASCII.
    let header = str::from_utf8(header).unwrap_or_default();
    Ok(TraceState { header })
}

/// The place and nature of a fault in `key=value`.
fn check_member(key: &[u8], value: &[u8]) -> Result<(), (usize, TracestateFault)> {
    check_key(key)?;
    check_value(key, value)
}

fn check_key(key: &[u8]) -> Result<(), (usize, TracestateFault)> {
    let initial = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let sound = |byte: &u8| initial(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    if !key.first().is_some_and(initial) {
        return Err((0, TracestateFault::BadKey));
    }
    check_bytes(key, sound, TracestateFault::BadKey, KEY_BYTES_MAX, TracestateFault::KeyTooLong)
}

fn check_value(key: &[u8], value: &[u8]) -> Result<(), (usize, TracestateFault)> {
    let (bad, long) = (TracestateFault::BadValue, TracestateFault::ValueTooLong);
    let sound = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    let checked = match value.len().checked_sub(1) {
        None => Err((0, TracestateFault::NoValue)),
        Some(last) => check_bytes(value, sound, bad, VALUE_BYTES_MAX, long)
            .and(if value.last() == Some(&b' ') { Err((last, bad)) } else { Ok(()) }),
    };
    let start = key.len().saturating_add("=".len());
    checked.map_err(|(at, fault)| (start.saturating_add(at), fault))
}

/// Whichever comes first: a byte that is not sound, or the one that is too many.
fn check_bytes(
    bytes: &[u8],
    sound: impl Fn(&u8) -> bool,
    bad: TracestateFault,
    len_max: usize,
    long: TracestateFault,
) -> Result<(), (usize, TracestateFault)> {
    match bytes.iter().take(len_max).position(|byte| !sound(byte)) {
        Some(at) => Err((at, bad)),
        None if bytes.len() > len_max => Err((len_max, long)),
        None => Ok(()),
    }
}

/// Optional white space of HTTP.
const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "[a-z0-9][a-z0-9_*/@-]{0,12}";
    const VALUE: &str = "[ -+\\--<>-~]{0,12}[!-+\\--<>-~]";

    fn members() -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::btree_map(KEY, VALUE, 0..=MEMBERS_MAX)
            .prop_map(|members| members.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    fn text<'a>(members: impl IntoIterator<Item = &'a (String, String)>) -> String {
        let members = members.into_iter().map(|(key, value)| format!("{key}={value}"));
        members.collect::<Vec<_>>().join(",")
    }

    fn fault(header: &str) -> Option<(usize, TracestateFault)> {
        TraceState::from_tracestate(header).err().map(|error| (error.at, error.fault))
    }

    proptest! {
        #[test]
        fn printed_is_read_again(members in members(), spaces in proptest::collection::vec("[ \t]{0,2}", 64)) {
            let plain = text(&members);
            let spaced = members
                .iter()
                .zip(spaces.chunks(2))
                .map(|((key, value), around)| format!("{}{key}={value}{}", around[0], around[1]))
                .collect::<Vec<_>>()
                .join(",");
            // A space that leads a value belongs to it: it is only the member's own that are not kept.
            for header in [&plain, &spaced] {
                let state = TraceState::from_tracestate(header).unwrap();
                prop_assert_eq!(state.as_str(), header);
                prop_assert_eq!(state.to_string(), plain.as_str());
                prop_assert!(state.members().map(|m| (m.key.into(), m.value.into())).eq(members.iter().cloned()));
            }
        }

        /// Bytes of the grammar in any order, and any at all.
        #[test]
        fn any_bytes_are_read_without_harm(
            bytes in prop_oneof![
                "[ab=, \t]{0,12}".prop_map(String::into_bytes),
                "([a-c]{1,2}=[ a-c]{0,2}[,;]){0,5}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..60),
            ],
        ) {
            match TraceState::from_tracestate(&bytes) {
                Ok(state) => {
                    prop_assert!(sound(&bytes), "{}", bytes.escape_ascii());
                    let printed = state.to_string();
                    let again = TraceState::from_tracestate(&printed).unwrap();
                    prop_assert!(again.members().eq(state.members()));
                }
                Err(error) => {
                    prop_assert!(!sound(&bytes), "{} for {}", error, bytes.escape_ascii());
                    prop_assert!(error.at <= bytes.len());
                    // What stands before the fault can be gone on with.
                    let before = core::str::from_utf8(&bytes[..error.at]).unwrap();
                    let mut ways = ["", "x", "=x", "x=x"].into_iter();
                    let sound = ways.any(|way| fault(&[before, way].concat()).is_none());
                    prop_assert!(sound, "{} for {}", error, bytes.escape_ascii());
                }
            }
        }

        #[test]
        fn a_change_goes_to_the_front(
            members in members(), long in proptest::collection::vec(0..32_usize, 0..3),
            replaced in proptest::option::of(0..40_usize), value in VALUE,
        ) {
            let mut members = members;
            for index in long {
                if let Some((_, value)) = members.get_mut(index) {
                    *value = "x".repeat(130 + index);
                }
            }
            let header = text(&members);
            let state = TraceState::from_tracestate(&header).unwrap();
            let key = replaced.and_then(|index| members.get(index)).map_or("own", |(key, _)| key).to_string();
            let updated = state.with(&key, &value).unwrap().to_string();

            let mut naive = members;
            naive.retain(|(other, _)| *other != key);
            naive.insert(0, (key, value));
            while naive.len() > MEMBERS_MAX || text(&naive).len() > PROPAGATED_BYTES_MAX {
                let long = |(key, value): &(String, String)| key.len() + value.len() + 1 > 128;
                let last = naive.iter().rposition(long).unwrap_or(naive.len() - 1);
                naive.remove(last);
            }
            prop_assert_eq!(&updated, &text(&naive));
            prop_assert!(TraceState::from_tracestate(&updated).is_ok());
        }
    }

    /// The grammar once more, on text.
    fn sound(header: &[u8]) -> bool {
        let Ok(header) = core::str::from_utf8(header) else { return false };
        let members = header.split(',').map(|member| member.trim_matches([' ', '\t']));
        let members = members.collect::<Vec<_>>();
        let mut keys = vec![];
        members.len() <= 32
            && members.iter().filter(|member| !member.is_empty()).all(|member| {
                let Some((key, value)) = member.split_once('=') else { return false };
                let fresh = !keys.contains(&key);
                keys.push(key);
                let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                fresh
                    && key.starts_with(lower)
                    && key.chars().all(|c| lower(c) || "_-*/@".contains(c))
                    && !value.is_empty()
                    && value.chars().all(|c| c == ' ' || c.is_ascii_graphic() && c != '=')
            })
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        use TracestateFault::*;
        let long = "a".repeat(256);
        let list =
            |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for (header, expected) in [
            (String::new(), None),
            (" \t, ,,".into(), None),
            (format!("{long}={long}"), None),
            (format!("b=1,{long}a=1"), Some((260, KeyTooLong))),
            (format!("b={long}a"), Some((258, ValueTooLong))),
            (list(32), None),
            (list(33), Some((list(32).len() + 1, TooManyMembers))),
            (",".repeat(31), None),
            (",".repeat(32), Some((32, TooManyMembers))),
            (" ".repeat(TRACESTATE_BYTES_MAX), None),
            (" ".repeat(TRACESTATE_BYTES_MAX + 1), Some((TRACESTATE_BYTES_MAX, TooLong))),
            ("a=1,b".into(), Some((5, NoEquals))),
            ("a=1,=2".into(), Some((4, BadKey))),
            ("a=1, _b=2".into(), Some((5, BadKey))),
            ("a =1".into(), Some((1, BadKey))),
            ("aB=1".into(), Some((1, BadKey))),
            ("a=".into(), Some((2, NoValue))),
            ("a= \t,b=1".into(), Some((2, NoValue))),
            ("a=1=2".into(), Some((3, BadValue))),
            ("a=1\t2".into(), Some((3, BadValue))),
            ("a=\u{fc}".into(), Some((2, BadValue))),
            ("a=1,b=2 ,\ta=3".into(), Some((10, DuplicateKey))),
            ("a=1,b=2,c=3,b=2".into(), Some((12, DuplicateKey))),
            ("0a@b*c/d-e_f= ~!".into(), None),
        ] {
            assert_eq!(fault(&header), expected, "{header}");
        }
        let error = TraceState::from_tracestate("A=1").unwrap_err().to_string();
        assert_eq!(error, "tracestate, byte 0: not a byte of a key");
    }

    #[test]
    fn a_member_is_found_by_its_key() {
        let state = TraceState::from_tracestate(" a=1,,\tb@c= 2,aa=3").unwrap();
        let found = ["a", "b@c", "aa", "b", ""].map(|key| state.get(key));
        assert_eq!(found, [Some("1"), Some(" 2"), Some("3"), None, None]);
    }

    /// The bounds of what is sent on, each met and passed by one.
    #[test]
    fn what_just_fits_is_kept() {
        let with_own = |header: &str| {
            let state = TraceState::from_tracestate(header).unwrap();
            state.with("own", "1").unwrap().to_string()
        };
        let list = |range: core::ops::Range<usize>| {
            range.map(|n| format!("k{n:02}=v")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(with_own(&list(0..31)), format!("own=1,{}", list(0..31)));
        assert_eq!(with_own(&list(0..32)), format!("own=1,{}", list(0..31)));

        // With "own=1" and the commas 512 bytes: 5 + 1 + 250 + 1 + 255.
        let member = |key: &str, bytes: usize| format!("{key}={}", "x".repeat(bytes - 2));
        let (one, other) = (member("a", 250), member("b", 255));
        assert_eq!(with_own(&format!("{one},{other}")), format!("own=1,{one},{other}"));
        let longer = member("b", 256);
        assert_eq!(with_own(&format!("{one},{longer}")), format!("own=1,{one}"));

        // Of members up to 128 bytes the last goes, else the last of the longer ones.
        let short = ["b", "c", "d"].map(|key| member(key, 127)).join(",");
        let (limit, long) = (member("a", 128), member("a", 129));
        let kept = short.rsplit_once(',').unwrap().0;
        assert_eq!(with_own(&format!("{limit},{short}")), format!("own=1,{limit},{kept}"));
        assert_eq!(with_own(&format!("{long},{short}")), format!("own=1,{short}"));
    }

    /// The longest header that the grammar allows, and not a byte more.
    #[test]
    fn the_longest_header_is_read() {
        let member = |n: usize| format!("{n:0>256}={}", "x".repeat(256));
        let longest = (0..32).map(member).collect::<Vec<_>>().join(",");
        assert_eq!(longest.len(), 32 * (256 + 1 + 256) + 31);
        assert_eq!(fault(&longest), None);
        // One comma is of the bound and not of the grammar.
        assert_eq!(TRACESTATE_BYTES_MAX, longest.len() + 1);
    }

    #[test]
    fn a_malformed_change_is_refused() {
        let refused = |key, value| {
            TraceState::default().with(key, value).err().map(|error| (error.at, error.fault))
        };
        assert_eq!(refused("own", "1"), None);
        assert_eq!(refused("", "1"), Some((0, TracestateFault::BadKey)));
        assert_eq!(refused("own", ""), Some((4, TracestateFault::NoValue)));
        assert_eq!(refused("own", "1 "), Some((5, TracestateFault::BadValue)));
        assert_eq!(refused("own", "1,b=2"), Some((5, TracestateFault::BadValue)));
        assert_eq!(TraceState::default().get("own"), None);
    }
}
