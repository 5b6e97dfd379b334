//! Which files of a directory belong to a followed name, and in which order they were written: what can be
//! told from names and times, where no identity can tell.
//!
//! Rules:
//! 1. A rotated file has the followed name and a tag: behind it (`access.log.1`, `access.log-20261126`,
//!    `access.log.old`), or before its extension (`access.1.log`, `access-20261126.log`). Beside a
//!    `current` lie the `@` names of s6-log, svlogd and multilog, and for a moment `previous`. Where the name is a symbolic link, names
//!    that differ from the target's in numbers alone belong to it too (`access-20261125.log`, `0.log`).
//!    What its compressor adds is no part of a tag.
//! 2. Dates and `@` stamps rise. Numbers fall, as logrotate's do, unless what was read before says the
//!    opposite, or, without that, more neighbours' times than not; behind a whole name, all of them.
//! 3. Tags of several kinds are ordered by time. A word, `access.log.old`, is one only where there are no
//!    others.
//! 4. `access.log.bak` is somebody's own copy: what is known may be found again in it, but it is never taken
//!    for a file that nobody saw.
//!
//! (`tests::names_are_ordered`.)

use std::{cmp::Ordering, ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::{
    content::Packing,
    files::Stat,
    mark::Mark,
    planted::{self, Plant},
};

/// Longer numbers are dates.
const NUMBER_DIGITS_MAX: usize = 4;

/// The names that belong to one.
#[derive(Debug)]
pub(super) struct Family<'a> {
    name: &'a [u8],
    /// The name without its extension, and that with its dot.
    split: Option<(&'a [u8], &'a [u8])>,
    is_linked: bool,
}

/// What a name says of a rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) packing: Option<Packing>,
    /// The numbers of a link's target.
    generation: Vec<u64>,
    kind: Kind,
    /// It stands before the extension.
    is_inside: bool,
}

impl Tag {
    /// Whether it is somebody's own copy.
    pub(super) fn is_copy(&self) -> bool {
        self.kind == Kind::Copy
    }

    /// Whether another name says the same but for the compressor's ending.
    pub(super) fn is_same_but_packed(&self, other: &Self) -> bool {
        self.generation == other.generation && self.kind == other.kind
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Number(u64),
    Date(Vec<u64>),
    Stamp(Vec<u8>),
    Word,
    /// Somebody's own copy.
    Copy,
    /// None: the name itself.
    Bare,
}

impl Kind {
    const fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Date(_) => 1,
            Self::Stamp(_) => 2,
            Self::Word => 3,
            Self::Copy => 4,
            Self::Bare => 5,
        }
    }
}

/// A file of a family.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) stat: Stat,
    pub(super) tag: Tag,
}

impl Member {
    /// When it was begun, in nanoseconds since 1970, as well as that is known: a late line or a touch changes
    /// nothing of it. A compressed form was made later, but has the time of the last change.
    pub(super) fn begun_ns(&self) -> i64 {
        let Stat { id, modified_ns, .. } = self.stat;
        if self.tag.packing.is_some() || id.born_ns == 0 { modified_ns } else { id.born_ns }
    }

    /// Whether it was begun after a file that is known.
    pub(super) fn is_after(&self, mark: &Mark) -> bool {
        if self.tag.packing.is_some() || self.stat.id.born_ns == 0 || mark.id.born_ns == 0 {
            self.stat.modified_ns >= mark.modified_ns
        } else {
            self.stat.id.born_ns > mark.id.born_ns
        }
    }
}

impl<'a> Family<'a> {
    /// Of a name; `is_linked` if a symbolic link led to it.
    pub(super) fn new(name: &'a OsStr, is_linked: bool) -> Self {
        let name = name.as_bytes();
        let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0);
        Self { name, split: dot.map(|dot| name.split_at(dot)), is_linked }
    }

    /// What a name of the directory says; none if it is not of this family.
    pub(super) fn tag(&self, name: &OsStr) -> Option<Tag> {
        let (packing, name) = Packing::of(name.as_bytes());
        let tagged = |generation: Vec<u64>, kind, is_inside| {
            Some(Tag { packing, generation, kind, is_inside })
        };
        if let Some(rest) = name.strip_prefix(self.name)
            && let Some(kind) = kind_behind(rest)
        {
            return tagged(self.generation(), kind, false);
        }
        if self.name == b"current" {
            if name == PREVIOUS && packing.is_none() && !planted::is(Plant::PreviousIsForeign) {
                // Behind every stamp.
                return tagged(Vec::new(), Kind::Stamp(PREVIOUS.to_vec()), false);
            }
            if let Some(stamp) = stamp(name) {
                return tagged(Vec::new(), Kind::Stamp(stamp), false);
            }
        }
        if self.is_linked
            && let Some((generation, rest)) = same_but_numbers(self.name, name)
            && let Some(kind) = kind_behind(rest)
        {
            return tagged(generation, kind, false);
        }
        let (stem, extension) = self.split?;
        let rest = name.strip_prefix(stem)?.strip_suffix(extension)?;
        let kind = kind_behind(rest).filter(|kind| *kind != Kind::Bare)?;
        tagged(self.generation(), kind, true)
    }

    fn generation(&self) -> Vec<u64> {
        if self.is_linked { numbers(self.name) } else { Vec::new() }
    }
}

/// What follows a name: nothing, or a separator and a tag.
fn kind_behind(rest: &[u8]) -> Option<Kind> {
    const WORDS: [&[u8]; 3] = [b"old", b"prev", b"last"];
    const COPIES: [&[u8]; 4] = [b"bak", b"orig", b"save", b"copy"];
    let Some((separator, tag)) = rest.split_first() else { return Some(Kind::Bare) };
    if !b".-_".contains(separator) {
        return None;
    }
    if WORDS.contains(&tag) {
        return Some(Kind::Word);
    }
    if COPIES.contains(&tag) {
        return Some(Kind::Copy);
    }
    let is_dated = tag.iter().all(|byte| byte.is_ascii_digit() || b"-._T:Z+".contains(byte));
    if !tag.first().is_some_and(u8::is_ascii_digit) || !is_dated {
        return None;
    }
    let numbers = numbers(tag);
    let is_number = tag.len() <= NUMBER_DIGITS_MAX && tag.iter().all(u8::is_ascii_digit);
    Some(match numbers[..] {
        [number] if is_number => Kind::Number(number),
        _ => Kind::Date(numbers),
    })
}

/// What s6-log and multilog call what they have just finished, until it has its stamp.
const PREVIOUS: &[u8] = b"previous";

/// `@`, 24 hexadecimal digits and `.s` or `.u`, as s6-log, svlogd and multilog name what is finished.
fn stamp(name: &[u8]) -> Option<Vec<u8>> {
    let (digits, rest) = name.strip_prefix(b"@")?.split_at_checked(24)?;
    let is_stamp = digits.iter().all(u8::is_ascii_hexdigit) && matches!(rest, b"" | b".s" | b".u");
    is_stamp.then(|| digits.to_ascii_lowercase())
}

/// The numbers in a name.
fn numbers(name: &[u8]) -> Vec<u64> {
    let runs = name.split(|byte| !byte.is_ascii_digit()).filter(|run| !run.is_empty());
    let value = |digits: &[u8]| {
        digits.iter().fold(0_u64, |value, digit| {
            value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        })
    };
    runs.map(value).collect()
}

/// The numbers of a name that is like a pattern but for its numbers, and what follows.
fn same_but_numbers<'a>(pattern: &[u8], name: &'a [u8]) -> Option<(Vec<u64>, &'a [u8])> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (mut pattern, mut rest) = (pattern, name);
    let mut found = false;
    while let Some((&first, others)) = pattern.split_first() {
        if first.is_ascii_digit() {
            let length = digits(rest);
            if length == 0 {
                return None;
            }
            found = true;
            pattern = &pattern[digits(pattern)..];
            rest = &rest[length..];
        } else {
            rest = rest.strip_prefix(&[first])?;
            pattern = others;
        }
    }
    let head = &name[..name.len() - rest.len()];
    found.then(|| (numbers(head), rest))
}

/// Leaves out what is not of the family in this company: see rule 3.
pub(super) fn drop_strangers(members: &mut Vec<Member>) {
    let is_tagged =
        |member: &Member| !matches!(member.tag.kind, Kind::Word | Kind::Copy | Kind::Bare);
    let first = members.first().map(|member| member.tag.generation.clone());
    let is_other = |member: &Member| Some(&member.tag.generation) != first.as_ref();
    if members.iter().any(|member| is_tagged(member) || is_other(member)) {
        members.retain(|member| member.tag.kind != Kind::Word);
    }
}

/// Sorts a family, the oldest first. `known` tells of a file that was read when it was: of two the later
/// has the larger number.
pub(super) fn sort(members: &mut [Member], known: impl Fn(&Member) -> Option<usize>) {
    let is_ordered = |kind: &&Kind| !matches!(kind, Kind::Bare | Kind::Copy);
    let mut kinds = members.iter().map(|member| &member.tag.kind).filter(is_ordered);
    let first = kinds.next().map(Kind::rank);
    let is_mixed = kinds.any(|kind| Some(kind.rank()) != first);
    let numbers_rise = numbers_rise(members, known);
    members.sort_by(|a, b| compare(a, b, is_mixed, numbers_rise));
}

fn compare(a: &Member, b: &Member, is_mixed: bool, numbers_rise: bool) -> Ordering {
    let by_time = || a.begun_ns().cmp(&b.begun_ns());
    let by_kind = || match (&a.tag.kind, &b.tag.kind) {
        (Kind::Bare, Kind::Bare) => Ordering::Equal,
        (Kind::Bare, _) => Ordering::Greater,
        (_, Kind::Bare) => Ordering::Less,
        (Kind::Copy, Kind::Copy) => by_time(),
        (Kind::Copy, _) => Ordering::Less,
        (_, Kind::Copy) => Ordering::Greater,
        _ if is_mixed => by_time(),
        (Kind::Number(a), Kind::Number(b)) if numbers_rise => a.cmp(b),
        (Kind::Number(a), Kind::Number(b)) => b.cmp(a),
        (Kind::Date(a), Kind::Date(b)) => a.cmp(b),
        (Kind::Stamp(a), Kind::Stamp(b)) => a.cmp(b),
        _ => by_time(),
    };
    let by_generation = a.tag.generation.cmp(&b.tag.generation);
    by_generation.then_with(by_kind).then_with(by_time).then_with(|| a.path.cmp(&b.path))
}

fn numbers_rise(members: &[Member], known: impl Fn(&Member) -> Option<usize>) -> bool {
    let mut numbered: Vec<_> = members
        .iter()
        .filter_map(|member| match member.tag.kind {
            Kind::Number(number) => Some((number, member)),
            _ => None,
        })
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    let read: Vec<_> = numbered.iter().filter_map(|(_, member)| known(member)).collect();
    let (up, down) = votes(read.iter().copied());
    if up != down {
        return up > down;
    }
    let (up, down) = votes(numbered.iter().map(|(_, member)| member.begun_ns()));
    let are_inside = numbered.iter().all(|(_, member)| member.tag.is_inside);
    // A compressed file is as old as its compression, or as a touch of it.
    let are_packed = numbered.iter().any(|(_, member)| member.tag.packing.is_some());
    let enough = if are_packed { 3 } else { 1 };
    if are_inside { up > down } else { up > enough && down == 0 }
}

/// How many neighbours rise, and how many fall.
fn votes<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> (usize, usize) {
    let pairs = values.clone().zip(values.skip(1));
    pairs.fold((0, 0), |(up, down), (a, b)| match a.cmp(&b) {
        Ordering::Less => (up + 1, down),
        Ordering::Greater => (up, down + 1),
        Ordering::Equal => (up, down),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::mark::FileId;
    use super::*;

    /// Names, the oldest first, and others that do not belong to them. Times fall, so that order comes from
    /// the names; or they rise.
    fn check(name: &str, is_linked: bool, times_rise: bool, expected: &[&str], foreign: &[&str]) {
        let family = Family::new(OsStr::new(name), is_linked);
        for name in foreign {
            assert_eq!(family.tag(OsStr::new(name)), None, "{name}");
        }
        let mut members = Vec::new();
        for (index, name) in expected.iter().enumerate() {
            let tag = family.tag(OsStr::new(name)).unwrap_or_else(|| panic!("{name}"));
            let time = i64::try_from(index).unwrap();
            let stat = Stat {
                id: FileId { device: 1, inode: 1, born_ns: 0 },
                is_file: true,
                size: 1,
                modified_ns: if times_rise { time } else { -time },
                links: 1,
            };
            members.push(Member { path: name.into(), stat, tag });
        }
        members.reverse();
        drop_strangers(&mut members);
        sort(&mut members, |_| None);
        let names: Vec<_> = members.iter().map(|member| member.path.as_path()).collect();
        assert_eq!(names, expected.iter().map(Path::new).collect::<Vec<_>>());
    }

    #[test]
    fn names_are_ordered() {
        let foreign = [
            "access.log.1~",
            "access.log2",
            "access.log.1.tmp",
            "error.log",
            "access",
            "access.txt",
        ];
        check(
            "access.log",
            false,
            true,
            &["access.log.10.gz", "access.log.2.zst", "access.log.1", "access.log"],
            &foreign,
        );
        check(
            "access.log",
            false,
            true,
            &["access.10.log", "access.2.log.gz", "access.1.log", "access.log"],
            &foreign,
        );
        check(
            "access.log",
            false,
            false,
            &["access.log-20261125.gz", "access.log-20261126", "access.log"],
            &foreign,
        );
        check(
            "access.log",
            false,
            false,
            &["access-2026-11-25.log", "access-2026-11-26.1.log", "access-2026-11-26.2.log"],
            &[],
        );
        check("access.log", false, true, &["access.log.old", "access.log"], &[]);
        check("access.log", false, true, &["access.log.1", "access.log-20261126"], &[]);
        // Numbers that rise, as those of log4j2: their times say so.
        check("app.log", false, true, &["app-1.log", "app-2.log", "app-3.log", "app.log"], &[]);
        check("log", false, true, &["log.1", "log.2", "log.3", "log"], &["log.1.2.x", "log.a"]);
        check(
            "current",
            false,
            false,
            &[
                "@4000000067448f2b1f0a2b3c.s",
                "@4000000067448f2c1f0a2b3c.u",
                "@4000000067448f2d1f0a2b3c",
                "previous",
                "current",
            ],
            &[
                "@4000000067448f2b1f0a2b3",
                "lock",
                "state",
                "@4000000067448f2b1f0a2b3c.t",
                "previous.gz",
            ],
        );
        // A link: container logs, and cronolog's.
        let pods = [
            "0.log.20261125-101010.gz",
            "0.log.20261126-101010",
            "0.log",
            "1.log.20261126-111111",
            "1.log",
            "2.log",
        ];
        check("2.log", true, false, &pods, &["x.log", "2.txt"]);
        check("2.log", false, false, &["2.log.20261125-101010", "2.log"], &["1.log", "0.log"]);
        check(
            "access-2026-11-26.log",
            true,
            false,
            &["access-2026-10-31.log.gz", "access-2026-11-25.log", "access-2026-11-26.log"],
            &["access.log"],
        );
    }
}
