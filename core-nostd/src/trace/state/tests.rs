//! Lists against plain vectors, and every malformed form refused.

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
    let list = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
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
