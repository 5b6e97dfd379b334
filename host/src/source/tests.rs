//! Followed files against a model, in special cases, and woken by the system.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::tail::Tail;
use super::{
    Batch, ITEM_BYTES_MAX, Item, Notice, Notices, Source, SourceError, SourceSpec, StartAt,
};

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

/// A tail that is looked at by hand, without lingering.
struct Reader {
    tail: Tail,
    notices: Notices,
}

impl Reader {
    fn open(path: &Path, position: Option<&[u8]>) -> Self {
        Self::start(path, position, StartAt::Beginning)
    }

    fn start(path: &Path, position: Option<&[u8]>, start_at: StartAt) -> Self {
        let mut notices = Notices::default();
        let tail =
            Tail::open(path.to_owned(), position, start_at, Duration::ZERO, &mut notices).unwrap();
        Self { tail, notices }
    }

    fn read(&mut self, items_max: usize, bytes_max: usize) -> Vec<Item> {
        let mut batch = Batch::new(items_max, bytes_max);
        self.tail.look(Instant::now(), &mut batch, &mut self.notices).unwrap();
        batch.items
    }

    fn read_all(&mut self) -> Vec<Item> {
        self.read(usize::MAX, usize::MAX)
    }
}

fn texts(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| String::from_utf8(item.payload.clone()).unwrap()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Lines of this many bytes beside their number, the last one perhaps unfinished.
    Append {
        lengths: Vec<usize>,
        finished: bool,
    },
    Rotate,
    /// After everything was read.
    Truncate,
    Read {
        items_max: usize,
        bytes_max: usize,
    },
    /// At a committed position: this share of those that there are, in 256ths.
    Reopen {
        share: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![10 => 0..100_usize, 1 => 60_000..ITEM_BYTES_MAX / 2 + 30_000];
    prop_oneof![
        6 => (prop::collection::vec(length, 1..6), any::<bool>())
            .prop_map(|(lengths, finished)| Step::Append { lengths, finished }),
        2 => Just(Step::Rotate),
        1 => Just(Step::Truncate),
        5 => (1..8_usize, 0..200_000_usize)
            .prop_map(|(items_max, bytes_max)| Step::Read { items_max, bytes_max }),
        3 => (0..=256_usize).prop_map(|share| Step::Reopen { share }),
    ]
}

/// What was written, and what a reader has made of it.
struct World {
    log: Log,
    /// The complete lines, in order.
    lines: Vec<String>,
    /// The beginning of a line at the end of the file.
    unfinished: String,
    reader: Reader,
    /// The position after each delivered line.
    positions: Vec<Vec<u8>>,
    /// Lines before this one are no longer in any file.
    floor: usize,
    written: usize,
}

impl World {
    fn new() -> Self {
        let log = Log::new();
        // A file that came and was rotated before it was ever opened would not be seen.
        log.append(b"");
        let reader = Reader::open(&log.path(), None);
        Self {
            log,
            lines: vec![],
            unfinished: String::new(),
            reader,
            positions: vec![],
            floor: 0,
            written: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { lengths, finished } => {
                let mut text = String::new();
                for (index, length) in lengths.iter().enumerate() {
                    // No line looks like a part of another one.
                    let number = format!("{}:", self.written);
                    let rest = number.repeat(1 + length / number.len());
                    self.written += 1;
                    text += &rest;
                    self.unfinished += &rest;
                    if *finished || index + 1 < lengths.len() {
                        text.push('\n');
                        self.lines.push(std::mem::take(&mut self.unfinished));
                    }
                }
                // An unfinished line must stay within one piece.
                if self.unfinished.len() > ITEM_BYTES_MAX / 2 {
                    text.push('\n');
                    self.lines.push(std::mem::take(&mut self.unfinished));
                }
                self.log.append(text.as_bytes());
            }
            Step::Rotate => {
                {
                    self.log.rotate();
                    // It will not be finished any more.
                    let line = std::mem::take(&mut self.unfinished);
                    self.lines.extend((!line.is_empty()).then_some(line));
                }
            }
            Step::Truncate => {
                if self.unfinished.is_empty() {
                    self.read(usize::MAX, usize::MAX);
                    assert_eq!(self.positions.len(), self.lines.len(), "not everything was read");
                    self.log.truncate();
                    self.floor = self.positions.len();
                }
            }
            Step::Read { items_max, bytes_max } => self.read(*items_max, *bytes_max),
            Step::Reopen { share } => {
                let kept = self.floor + (self.positions.len() - self.floor) * share / 256;
                // Without a position only the file of that name is read: as on the very first start.
                if let Some(position) = self.positions[..kept].last() {
                    self.reader = Reader::open(&self.log.path(), Some(position));
                    self.positions.truncate(kept);
                }
            }
        }
    }

    fn read(&mut self, items_max: usize, bytes_max: usize) {
        let items = self.reader.read(items_max, bytes_max);
        assert!(items.len() <= items_max);
        let bytes: usize = items.iter().map(|item| item.payload.len()).sum();
        assert!(items.len() <= 1 || bytes <= bytes_max);
        for item in items {
            let expected = self.lines.get(self.positions.len()).map(String::as_bytes);
            let number = self.positions.len();
            assert!(expected == Some(&item.payload[..]), "line {number} is not what was written");
            self.positions.push(item.position);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every complete line is delivered once and in order, as seen by one who goes on from committed
    /// positions.
    #[test]
    fn lines_come_once_and_in_order(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.read(usize::MAX, usize::MAX);
        prop_assert_eq!(world.positions.len(), world.lines.len());
    }
}

/// What happens to a log of which `one` and `two` were read and committed, while nobody reads; what
/// is then delivered, and what is told.
#[test]
fn changes_while_nobody_reads() {
    fn check(change: impl FnOnce(&Log), expected: &[&str], told: &[Notice]) {
        let log = Log::new();
        log.append(b"one\ntwo\n");
        let position = Reader::open(&log.path(), None).read_all().pop().unwrap().position;
        change(&log);
        let mut reader = Reader::open(&log.path(), Some(&position));
        assert_eq!(texts(&reader.read_all()), expected);
        assert_eq!(reader.notices.take(), told);
    }
    let truncated = || [Notice::Truncated { offset_bytes: 8 }];
    let gap = || [Notice::Gap { offset_bytes: 8 }];
    check(|_| {}, &[], &[]);
    check(|log| log.append(b"three\nfo"), &["three"], &[]);
    // Truncated: shorter, as long, and longer than before.
    check(
        |log| {
            log.truncate();
            log.append(b"new\n");
        },
        &["new"],
        &truncated(),
    );
    check(
        |log| {
            log.truncate();
            log.append(b"new\nold\n");
        },
        &["new", "old"],
        &truncated(),
    );
    check(
        |log| {
            log.truncate();
            log.append(b"a longer line\n");
        },
        &["a longer line"],
        &truncated(),
    );
    // Rotated, once and twice, under other names than logrotate's.
    let rotated = |count| vec![Notice::Rotated; count];
    let twice = |log: &Log| {
        log.append(b"three\n");
        log.rotate();
        log.append(b"four\n");
        log.rotate();
        log.append(b"five\n");
    };
    check(
        |log| {
            log.append(b"three\n");
            log.rotate();
        },
        &["three"],
        &rotated(1),
    );
    check(twice, &["three", "four", "five"], &rotated(2));
    check(
        |log| {
            log.append(b"three\n");
            fs::rename(log.path(), log.directory.path().join("elsewhere")).unwrap();
            log.append(b"four\n");
        },
        &["three", "four"],
        &rotated(1),
    );
    // Neither a compressed file nor a copy is taken for a rotated one.
    check(
        |log| {
            log.rotate();
            for name in ["log.1.gz", "log.bak", "log.1~", "log2"] {
                fs::write(log.directory.path().join(name), "not this\n").unwrap();
            }
            log.append(b"three\n");
        },
        &["three"],
        &rotated(1),
    );
    // Unfinished when it was rotated.
    check(
        |log| {
            log.append(b"thr");
            log.rotate();
            log.append(b"ee\n");
        },
        &["thr", "ee"],
        &[Notice::LineUnfinished { length_bytes: 3 }, Notice::Rotated],
    );
    // Gone.
    check(
        |log| {
            twice(log);
            fs::remove_file(log.rotated(2)).unwrap();
        },
        &["five"],
        &gap(),
    );
    check(|log| fs::remove_file(log.path()).unwrap(), &[], &gap());
    check(
        |log| {
            // Made while the old one is there, so that it has another inode.
            fs::write(log.directory.path().join("new"), "three\n").unwrap();
            fs::rename(log.directory.path().join("new"), log.path()).unwrap();
        },
        &["three"],
        &gap(),
    );
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
        let notices = if told { vec![Notice::LineTooLong { offset_bytes: 6 }] } else { vec![] };
        assert_eq!(reader.notices.take(), notices);
        // Every piece has a position of its own.
        for (number, item) in items.iter().enumerate() {
            let rest = Reader::open(&log.path(), Some(&item.position)).read_all();
            assert!(rest == items[number + 1..], "after item {number}");
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
        let open = |position: Option<&[u8]>| {
            let spec = SourceSpec::Tail { path: log.path() };
            Source::open(spec, position, StartAt::Beginning).unwrap()
        };
        let beginning = open(None).position().unwrap();
        log.rotate();
        log.append(b"three\n");
        let mut source = open(Some(&beginning));
        assert_eq!(wait_for_lines(&mut source, 3).await, ["one", "two", "three"]);
    });
}

#[test]
fn what_cannot_be_followed_is_refused() {
    fn check(make: impl FnOnce(&Log), position: Option<&[u8]>, expected: &str) {
        let log = Log::new();
        make(&log);
        let spec = SourceSpec::Tail { path: log.path() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(async { Source::open(spec, position, StartAt::Beginning) });
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    check(|log| fs::create_dir(log.path()).unwrap(), None, "not a regular file");
    check(
        |log| {
            let socket = std::os::unix::net::UnixListener::bind(log.path());
            drop(socket.unwrap());
        },
        None,
        "cannot read",
    );
    check(|log| log.append(b"one\n"), Some(b"\x02later"), "does not know");
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
        let spec = SourceSpec::Tail { path: path.clone() };
        let mut source = Source::open(spec, None, StartAt::Beginning).unwrap();
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
        let (lines, ()) = tokio::join!(wait_for_lines(&mut source, 2), change);
        assert_eq!(lines, ["late", "new"]);
        assert_eq!(source.take_notices(), [Notice::Rotated]);
    });
}

/// A notice alone ends the wait too.
#[test]
fn a_truncation_is_told_at_once() {
    let log = Log::new();
    log.append(b"one\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spec = SourceSpec::Tail { path: log.path() };
        let mut source = Source::open(spec, None, StartAt::Beginning).unwrap();
        assert_eq!(wait_for_lines(&mut source, 1).await, ["one"]);
        log.truncate();
        let batch = tokio::time::timeout(DEADLINE, source.next_batch(1, 1)).await.unwrap().unwrap();
        assert_eq!(batch, []);
        assert_eq!(source.take_notices(), [Notice::Truncated { offset_bytes: 4 }]);
    });
}

/// Standard input is one; the second taker is told. The test's own input is not read.
#[test]
fn standard_input_is_taken_once() {
    let first = Source::open(SourceSpec::Stdin, None, StartAt::Beginning);
    let second = Source::open(SourceSpec::Stdin, None, StartAt::Beginning);
    assert!(first.is_ok());
    assert!(matches!(second, Err(SourceError::StdinTaken)));
}
