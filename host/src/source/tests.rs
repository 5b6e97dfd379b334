//! Followed logs on the system's files: in special cases, and woken by the system. The rules of following are
//! held by the model in `tests/sources`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duende_core::wire::link::Part;
use tempfile::TempDir;

use super::follow::{Follow, OPEN_MAX, Settings};
use super::system::System;
use super::{
    Batch, ITEM_BYTES_MAX, Item, Notice, Notices, Source, SourceError, SourceSpec, StartAt,
};
use crate::config::TailConfig;

const DEADLINE: Duration = Duration::from_secs(10);

/// A log in a directory of its own, rotated as logrotate does it.
struct Log {
    directory: TempDir,
}

impl Log {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.rotated(0)
    }

    fn rotated(&self, number: usize) -> PathBuf {
        let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
        self.directory.path().join(name)
    }

    fn append(&self, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn rotate(&self) {
        let last = (0..).find(|&number| !self.rotated(number).exists()).unwrap();
        for number in (0..last).rev() {
            fs::rename(self.rotated(number), self.rotated(number + 1)).unwrap();
        }
        fs::write(self.path(), "").unwrap();
    }

    fn truncate(&self) {
        OpenOptions::new().write(true).open(self.path()).unwrap().set_len(0).unwrap();
    }
}

/// A log that is followed by hand, on the system's files.
struct Reader {
    follow: Follow<System>,
    notices: Notices,
    now: Duration,
}

/// How long a file that was left behind is read on.
const ROTATE_WAIT: Duration = Duration::from_secs(5);

impl Reader {
    fn open(path: &Path, position: Option<&[u8]>) -> Self {
        Self::start(path, position, StartAt::Beginning)
    }

    fn start(path: &Path, position: Option<&[u8]>, start: StartAt) -> Self {
        let mut notices = Notices::default();
        let settings = Settings { start, rotate_wait: ROTATE_WAIT, open_max: OPEN_MAX };
        let now = Duration::ZERO;
        let follow =
            Follow::open(System, path.to_owned(), position, settings, now, &mut notices).unwrap();
        Self { follow, notices, now }
    }

    fn read(&mut self, items_max: usize, bytes_max: usize) -> Vec<Item> {
        let mut batch = Batch::new(items_max, bytes_max);
        self.follow.fill(self.now, &mut batch, &mut self.notices);
        batch.into_items()
    }

    /// Everything that is there, also the rest of what nobody writes any more.
    fn read_all(&mut self) -> Vec<Item> {
        let mut items = self.read(usize::MAX, usize::MAX);
        self.now += ROTATE_WAIT;
        items.extend(self.read(usize::MAX, usize::MAX));
        items
    }
}

fn texts(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| String::from_utf8(item.payload.clone()).unwrap()).collect()
}

fn gzip(path: &Path) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&fs::read(path).unwrap()).unwrap();
    fs::write(format!("{}.gz", path.display()), encoder.finish().unwrap()).unwrap();
    fs::remove_file(path).unwrap();
}

/// What happens to a log of which `one` and `two` were read and committed, while nobody reads; what
/// is then delivered, and how many gaps are told.
#[test]
fn changes_while_nobody_reads() {
    fn check(change: impl FnOnce(&Log), expected: &[&str], gaps: usize) {
        let log = Log::new();
        log.append(b"one\ntwo\n");
        let items = Reader::open(&log.path(), None).read_all();
        let position = items.last().unwrap().position.encode();
        change(&log);
        let mut reader = Reader::open(&log.path(), Some(&position));
        assert_eq!(texts(&reader.read_all()), expected);
        let notices = reader.notices.take();
        let told = notices.iter().filter(|notice| matches!(notice, Notice::Gap(_))).count();
        assert_eq!(told, gaps, "{expected:?}: {notices:?}");
    }
    let twice = |log: &Log| {
        log.append(b"three\n");
        log.rotate();
        log.append(b"four\n");
        log.rotate();
        log.append(b"five\n");
    };
    check(|_| {}, &[], 0);
    check(|log| log.append(b"three\nfo"), &["three"], 0);
    // Truncated: shorter, as long, and longer than before.
    for text in ["new\n", "new\nold\n", "a longer line\n"] {
        let change = |log: &Log| {
            log.truncate();
            log.append(text.as_bytes());
        };
        check(change, &text.lines().collect::<Vec<_>>(), 1);
    }
    // Cut, trimmed, and restored under another inode.
    let rewrite = |text: &'static str| {
        move |log: &Log| {
            fs::write(log.rotated(9), text).unwrap();
            fs::rename(log.rotated(9), log.path()).unwrap();
        }
    };
    check(rewrite("one\ntwo\nthree\n"), &["three"], 0);
    // Rotated, under other names than logrotate's too, and compressed.
    check(twice, &["three", "four", "five"], 0);
    for name in ["elsewhere", "log.old", "log-20261127"] {
        let change = |log: &Log| {
            log.append(b"three\n");
            fs::rename(log.path(), log.directory.path().join(name)).unwrap();
            log.append(b"four\n");
        };
        check(change, &["three", "four"], 0);
    }
    let compressed = |log: &Log| {
        twice(log);
        gzip(&log.rotated(2));
    };
    check(compressed, &["three", "four", "five"], 0);
    // What is no log, or was never one of these.
    let strangers = |log: &Log| {
        log.rotate();
        for name in ["log.bak", "log.1~", "log2", "log.2"] {
            fs::write(log.directory.path().join(name), "not this\n").unwrap();
        }
        fs::create_dir(log.directory.path().join("log.3")).unwrap();
        log.append(b"three\n");
    };
    check(strangers, &["three"], 0);
    let unfinished = |log: &Log| {
        log.append(b"thr");
        log.rotate();
        log.append(b"ee\n");
    };
    check(unfinished, &["ee", "thr"], 0);
    // Gone; what follows is there.
    let first_gone = |log: &Log| {
        twice(log);
        fs::remove_file(log.rotated(2)).unwrap();
    };
    check(first_gone, &["four", "five"], 1);
    check(|log| fs::remove_file(log.path()).unwrap(), &[], 1);
    check(rewrite("three\n"), &["three"], 1);
}

/// What is written late to a file that was left behind is given, and then that is closed.
#[test]
fn a_late_writer_is_waited_for() {
    let log = Log::new();
    log.append(b"one\n");
    let mut reader = Reader::open(&log.path(), None);
    let mut late = OpenOptions::new().append(true).open(log.path()).unwrap();
    log.rotate();
    log.append(b"three\n");
    assert_eq!(texts(&reader.read(9, 900)), ["one", "three"]);
    for _ in 0..3 {
        reader.now += ROTATE_WAIT - Duration::from_millis(1);
        late.write_all(b"two\n").unwrap();
        assert_eq!(texts(&reader.read(9, 900)), ["two"]);
    }
    assert_eq!(reader.follow.open_files().count(), 2);
    reader.now += ROTATE_WAIT;
    assert_eq!(texts(&reader.read(9, 900)), [""; 0]);
    assert_eq!(reader.follow.open_files().count(), 1);
}

/// A position belongs to its path; but what was read under another one is known.
#[test]
fn another_path_begins_anew() {
    let (log, other) = (Log::new(), Log::new());
    log.append(b"one\n");
    other.append(b"two\n");
    let first = Reader::open(&log.path(), None).read_all().pop().unwrap().position.encode();
    let mut reader = Reader::open(&other.path(), Some(&first));
    let items = reader.read_all();
    assert_eq!(texts(&items), ["two"]);
    assert_eq!(reader.notices.take(), []);
    log.append(b"three\n");
    let mut back = Reader::open(&log.path(), Some(&items[0].position.encode()));
    assert_eq!(texts(&back.read_all()), ["three"]);
}

/// What can heal is told once, and once when it has.
#[test]
fn what_cannot_be_read_is_waited_for() {
    let log = Log::new();
    let mut reader = Reader::open(&log.path(), None);
    for _ in 0..5 {
        assert!(reader.read_all().is_empty());
    }
    let told = reader.notices.take();
    assert!(matches!(told[..], [Notice::Unreadable { .. }]), "{told:?}");
    assert!(reader.follow.trouble().is_some());
    log.append(b"one\n");
    assert_eq!(texts(&reader.read_all()), ["one"]);
    assert_eq!(reader.notices.take(), [Notice::Readable]);
    assert_eq!(reader.follow.trouble(), None);
    log.append(b"two");
    reader.read_all();
    assert_eq!(reader.follow.lag_bytes(), 3);
}

#[test]
fn a_long_line_comes_in_pieces_and_is_told() {
    fn check(length: usize, pieces: &[usize], told: bool) {
        let log = Log::new();
        log.append(b"first\n");
        log.append(&vec![b'x'; length]);
        log.append(b"\nlast\n");
        let mut reader = Reader::open(&log.path(), None);
        let items = reader.read_all();
        let lengths: Vec<usize> = items.iter().map(|item| item.payload.len()).collect();
        assert_eq!(lengths, [&[5], pieces, &[4]].concat());
        let last = pieces.len() - 1;
        let of_long = (0..=last).map(|piece| Part::of(piece == 0, piece == last));
        let parts: Vec<_> = [Part::Whole].into_iter().chain(of_long).chain([Part::Whole]).collect();
        let parts_of = |items: &[Item]| items.iter().map(|item| item.part).collect::<Vec<_>>();
        assert_eq!(parts_of(&items), parts);
        let notices = if told { vec![Notice::LineTooLong { offset_bytes: 6 }] } else { vec![] };
        assert_eq!(reader.notices.take(), notices);
        // Every piece has a position of its own.
        for (number, item) in items.iter().enumerate() {
            let position = item.position.encode();
            let rest = Reader::open(&log.path(), Some(&position)).read_all();
            assert!(texts(&rest) == texts(&items[number + 1..]), "after item {number}");
            assert_eq!(parts_of(&rest), parts[number + 1..], "after item {number}");
        }
    }
    const MAX: usize = ITEM_BYTES_MAX;
    check(0, &[0], false);
    check(MAX, &[MAX], false);
    check(MAX + 1, &[MAX, 1], true);
    check(3 * MAX, &[MAX, MAX, MAX], true);
    check(3 * MAX + 7, &[MAX, MAX, MAX, 7], true);
}

#[test]
fn starting_at_the_end_skips_what_is_there() {
    fn check(before: &[u8], expected: &[&str]) {
        let log = Log::new();
        log.append(before);
        let mut reader = Reader::start(&log.path(), None, StartAt::End);
        log.append(b"new\n");
        assert_eq!(texts(&reader.read_all()), expected);
    }
    check(b"", &["new"]);
    check(b"old\nolder\n", &["new"]);
    check(b"old\nunfinished ", &["unfinished new"]);
    check(&[&[b'\n'; 200_000][..], b"x"].concat(), &["xnew"]);
}

/// Whoever dies before it read anything finds its beginning again, under another name too.
#[test]
fn the_beginning_is_a_place_as_any_other() {
    let log = Log::new();
    log.append(b"one\ntwo\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let open = |position: Option<&[u8]>| Source::open(tail(log.path()), position).unwrap();
        let beginning = open(None).position().encode();
        log.rotate();
        log.append(b"three\n");
        let mut source = open(Some(&beginning));
        assert_eq!(wait_for_lines(&mut source, 3).await, ["one", "two", "three"]);
    });
}

#[test]
fn a_position_of_another_version_is_refused() {
    let log = Log::new();
    log.append(b"one\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(async { Source::open(tail(log.path()), Some(b"\x03later")) });
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("does not know"), "{text}");
}

fn tail(path: PathBuf) -> SourceSpec {
    SourceSpec::Tail(TailConfig::new(path))
}

/// Reads until it has that many items, woken by the system alone.
async fn wait_for_lines(source: &mut Source, count: usize) -> Vec<String> {
    let read = async {
        let mut items = Vec::new();
        while items.len() < count {
            items.extend(source.next_batch(100, 1 << 20).await.unwrap());
        }
        texts(&items)
    };
    tokio::time::timeout(DEADLINE, read).await.expect("within the deadline")
}

/// Appends, rotation, and files and directories that only come to be wake the reader.
#[test]
fn a_waiting_reader_is_woken() {
    let log = Log::new();
    let directory = log.directory.path().join("later");
    let path = directory.join("log");
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut source = Source::open(tail(path.clone()), None).unwrap();
        let change = async {
            tokio::task::yield_now().await;
            fs::create_dir(&directory).unwrap();
            append("one\n");
        };
        let (lines, ()) = tokio::join!(wait_for_lines(&mut source, 1), change);
        assert_eq!(lines, ["one"]);

        // By the system's event and not by the look once a second: a hundred of those take longer.
        let started = Instant::now();
        for _ in 0..100 {
            let change = async {
                tokio::task::yield_now().await;
                append("again\n");
            };
            let (lines, ()) = tokio::join!(wait_for_lines(&mut source, 1), change);
            assert_eq!(lines, ["again"]);
        }
        assert!(started.elapsed() < DEADLINE);

        // The writer goes on with the renamed file for a moment, then reopens.
        let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
        let change = async {
            tokio::task::yield_now().await;
            fs::rename(&path, directory.join("log.1")).unwrap();
            append("new\n");
            tokio::task::yield_now().await;
            writer.write_all(b"late\n").unwrap();
        };
        let (mut lines, ()) = tokio::join!(wait_for_lines(&mut source, 2), change);
        // Each is read as soon as it is there.
        lines.sort();
        assert_eq!(lines, ["late", "new"]);
        assert_eq!(source.take_notices().last(), Some(&Notice::Rotated));
    });
}

/// A notice alone ends the wait too.
#[test]
fn a_truncation_is_told_at_once() {
    let log = Log::new();
    log.append(b"one\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut source = Source::open(tail(log.path()), None).unwrap();
        assert_eq!(wait_for_lines(&mut source, 1).await, ["one"]);
        log.truncate();
        let batch = tokio::time::timeout(DEADLINE, source.next_batch(1, 1)).await.unwrap().unwrap();
        assert!(batch.is_empty());
        assert_eq!(source.take_notices(), [Notice::Truncated { offset_bytes: 4 }]);
    });
}

/// Standard input is one; the second taker is told. The test's own input is not read.
#[test]
fn standard_input_is_taken_once() {
    let first = Source::open(SourceSpec::Stdin, None);
    let second = Source::open(SourceSpec::Stdin, None);
    assert!(first.is_ok());
    assert!(matches!(second, Err(SourceError::StdinTaken)));
}
