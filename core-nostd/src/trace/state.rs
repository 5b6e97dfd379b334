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
mod tests;
