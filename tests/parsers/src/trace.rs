//! The headers of W3C Trace Context. The input is up to four lines: a `traceparent`, a `tracestate`,
//! and the key and the value of a member that is put in front.
//!
//! What is promised:
//! 1. A header is read if the grammar has it, and printed as it came, less what has no meaning.
//! 2. A header that is refused is refused at one of its bytes or at its end, and what stands before
//!    that place is the beginning of a sound header.
//! 3. A changed list has the changed member in front, keeps the order of the others and the bounds.

use duende_core::trace::{
    MEMBERS_MAX, PROPAGATED_BYTES_MAX, TRACEPARENT_BYTES, TraceContext, TraceFlags, TraceState,
    TracestateFault,
};

/// Checks one input.
pub fn check(input: &[u8]) {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    check_traceparent(line());
    check_tracestate(line(), line(), line());
}

fn check_traceparent(header: &[u8]) {
    match TraceContext::from_traceparent(header) {
        Ok(context) => {
            assert!(in_grammar(header), "accepted: {}", header.escape_ascii());
            let printed = context.to_traceparent();
            assert_eq!(printed.len(), TRACEPARENT_BYTES);
            assert_eq!(TraceContext::from_traceparent(&printed), Ok(context));
            let identifiers = 2..TRACEPARENT_BYTES - 2;
            assert_eq!(header[identifiers.clone()], printed.as_bytes()[identifiers]);
            let known = TraceFlags::SAMPLED.union(TraceFlags::RANDOM);
            assert!(known.contains(context.flags));
        }
        Err(error) => {
            assert!(!in_grammar(header), "refused: {}: {error}", header.escape_ascii());
            assert!(error.at <= header.len());
            let goes_on = |rest: &[u8]| {
                TraceContext::from_traceparent([&header[..error.at], rest].concat()).is_ok()
            };
            let sound = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            // Behind 55 bytes there is nothing more to come.
            assert!(
                error.at >= TRACEPARENT_BYTES || goes_on(&sound[error.at..]),
                "{error}, but what precedes it has no end: {}",
                header.escape_ascii()
            );
        }
    }
}

/// The grammar of `traceparent`, by splitting.
fn in_grammar(header: &[u8]) -> bool {
    let fields: Vec<_> = header.splitn(5, |byte| *byte == b'-').collect();
    let [version, trace, parent, flags, rest @ ..] = fields.as_slice() else { return false };
    let hex = |field: &[u8], length| {
        field.len() == length && field.iter().all(|byte| b"0123456789abcdef".contains(byte))
    };
    let zeros = |field: &[u8]| field.iter().all(|byte| *byte == b'0');
    (hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2))
        && !(zeros(trace) || zeros(parent) || *version == b"ff")
        && (*version != b"00" || rest.is_empty())
}

fn check_tracestate(header: &[u8], key: &[u8], value: &[u8]) {
    let state = match TraceState::from_tracestate(header) {
        Ok(state) => state,
        Err(error) => {
            assert!(error.at <= header.len());
            let before = &header[..error.at];
            // The comma that begins the member that is one too many.
            let before = match error.fault {
                TracestateFault::TooManyMembers => before.strip_suffix(b",").unwrap_or(before),
                _ => before,
            };
            let goes_on = |rest: &str| {
                TraceState::from_tracestate(&[before, rest.as_bytes()].concat()).is_ok()
            };
            // An unfinished key may be that of an earlier member, but not with every letter behind
            // it; one that is too long has no room for a letter.
            let key_ends = |letter| goes_on(&format!("{letter}=x"));
            assert!(
                error.fault == TracestateFault::KeyTooLong
                    || ["", "x", "=x"].into_iter().any(goes_on)
                    || ('a'..='z').chain('0'..='9').any(key_ends),
                "{error}, but what precedes it has no end: {}",
                header.escape_ascii()
            );
            return;
        }
    };
    assert_eq!(state.as_str().as_bytes(), header);
    let members: Vec<_> = state.members().collect();
    assert!(members.len() <= MEMBERS_MAX);
    for (index, member) in members.iter().enumerate() {
        // A key stands once, so the first one found is this one.
        assert_eq!(state.get(member.key), Some(member.value));
        assert!(!members[..index].iter().any(|other| other.key == member.key));
    }
    let printed = state.to_string();
    let again = TraceState::from_tracestate(&printed);
    assert!(again.is_ok_and(|again| again.members().eq(members.iter().copied())), "{printed}");

    let (Ok(key), Ok(value)) = (str::from_utf8(key), str::from_utf8(value)) else { return };
    let Ok(updated) = state.with(key, value) else { return };
    let updated = updated.to_string();
    let own_bytes = key.len() + "=".len() + value.len();
    assert!(updated.len() <= PROPAGATED_BYTES_MAX.max(own_bytes), "{updated}");
    let Ok(updated) = TraceState::from_tracestate(&updated) else {
        panic!("not to be read: {updated}");
    };
    let mut after = updated.members();
    assert!(after.next().is_some_and(|own| own.key == key && own.value == value));
    // What is kept is kept in its order: a subsequence of what there was.
    let mut before = members.iter().filter(|member| member.key != key);
    for kept in after {
        assert!(before.any(|member| *member == kept), "{} came from nowhere", kept.key);
    }
}
