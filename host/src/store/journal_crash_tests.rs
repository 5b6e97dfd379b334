//! A power failure after every change of either file, with whatever was not synced before it there or not: what is
//! found then is the state after one of the groups, and after no earlier one than was called durable.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::database::Database;
use super::disk::{Event, Which};
use super::journal::path_of;
use super::journal_tests::apply;
use super::tests::unlocked;
use super::{Commit, Loaded, Write};

const DAEMONS: [&str; 2] = ["d", "other"];

/// A group that says which one it is, of one daemon or of both.
fn group(number: u64) -> Vec<Commit> {
    // Past the journal; of several blocks; of one.
    let size = match number {
        n if n % 9 == 4 => 70_000,
        n if n % 4 == 1 => 9_000,
        _ => 8,
    };
    let commit = |daemon: &&str| Commit {
        daemon: (*daemon).to_owned(),
        writes: vec![
            Write::Set { key: "group".to_owned(), value: number.to_le_bytes().to_vec() },
            Write::Set { key: format!("size {}", number % 3), value: vec![7; size] },
            Write::Delete { key: format!("size {}", (number + 1) % 3) },
        ],
        positions: vec![("lines".to_owned(), number.to_le_bytes().to_vec())],
        counters: vec![("groups".to_owned(), 1)],
        gauges: vec![("level".to_owned(), 0.5)],
    };
    DAEMONS[..1 + usize::from(number.is_multiple_of(2))].iter().map(commit).collect()
}

/// The two files, as far as they are on the disk for certain, and as they would be without a failure.
#[derive(Clone, Default)]
struct Disks {
    now: [Option<Vec<u8>>; 2],
    synced: [Option<Vec<u8>>; 2],
}

impl Disks {
    fn take(&mut self, which: Which, event: &Event) {
        let at = which as usize;
        let now = &mut self.now[at];
        match event {
            Event::Made(data) => *now = Some(data.clone()),
            Event::Write { offset, data } => {
                let file = now.as_mut().unwrap();
                let offset = usize::try_from(*offset).unwrap();
                if file.len() < offset + data.len() {
                    file.resize(offset + data.len(), 0);
                }
                file[offset..offset + data.len()].copy_from_slice(data);
            }
            Event::SetLen(len) => now.as_mut().unwrap().resize(usize::try_from(*len).unwrap(), 0),
            Event::Removed => *now = None,
            Event::Sync | Event::Durable(_) => {}
        }
        // A name is synced where it is made. That one is gone may be forgotten by the disk.
        if matches!(event, Event::Made(_) | Event::Sync) {
            self.synced[at].clone_from(&self.now[at]);
        }
    }

    /// What may be left.
    fn left(&self) -> Vec<[Option<Vec<u8>>; 2]> {
        let mut all = Vec::new();
        for (database, journal) in
            [(&self.now, &self.now), (&self.synced, &self.now), (&self.now, &self.synced)]
        {
            let left = [database[0].clone(), journal[1].clone()];
            if !all.contains(&left) {
                all.push(left);
            }
        }
        let both = self.synced.clone();
        if !all.contains(&both) {
            all.push(both);
        }
        all
    }
}

fn files(path: &Path) -> [Option<Vec<u8>>; 2] {
    [fs::read(path).ok(), fs::read(path_of(path)).ok()]
}

#[test]
fn a_power_failure_at_any_moment_leaves_a_group() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = unlocked(|| Database::open(&path, None)).unwrap();
    apply(&mut database, &group(1));
    database.until_journal = 1;
    let mut disks = Disks { now: files(&path), synced: files(&path) };
    let failures = database.failures.clone();
    *failures.events.lock().unwrap() = Some(Vec::new());
    // What was written, as it is read after each group.
    let mut read = vec![Vec::new()];
    let mut state = |database: &mut Database| {
        read.push(DAEMONS.map(|daemon| database.load(daemon).unwrap()).to_vec());
    };
    state(&mut database);
    for number in 2..=16 {
        apply(&mut database, &group(number));
        failures.tape(Which::Journal, || Event::Durable(number));
        state(&mut database);
        if number == 11 {
            database.settle().unwrap();
        }
    }
    assert!(!database.pending.groups.is_empty() && database.journal.is_some());
    database.finish().unwrap();
    let events = failures.events.lock().unwrap().take().unwrap();
    drop(database);
    assert_eq!(read.len(), 17);

    let (mut durable, mut crashes, mut earlier) = (1, 0, 0);
    let mut check = |left: &[Option<Vec<u8>>; 2], durable: u64, what: &str| {
        let after = TempDir::new().unwrap();
        let path = after.path().join("state.redb");
        fs::write(&path, left[0].as_ref().unwrap()).unwrap();
        if let Some(journal) = &left[1] {
            fs::write(path_of(&path), journal).unwrap();
        }
        let looked = DAEMONS.map({
            let mut database = unlocked(|| Database::look(&path))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            move |daemon| database.load(daemon).unwrap()
        });
        assert!(files(&path) == *left, "{what}: looking changed something");
        let mut database = unlocked(|| Database::open(&path, None)).unwrap();
        let opened: [Loaded; 2] = DAEMONS.map(|daemon| database.load(daemon).unwrap());
        assert!(looked == opened, "{what}");
        let group = read.iter().position(|state| *state == opened).unwrap_or_else(|| {
            panic!("{what}: it is the state after none of the groups: {:?}", opened[0].counters)
        });
        assert!(group as u64 >= durable, "{what}: {group}, of {durable} that were durable");
        assert!(group as u64 <= durable + 1, "{what}: {group} after {durable}");
        // It goes on.
        database.until_journal = 0;
        for _ in 0..2 {
            apply(&mut database, &super::journal_crash_tests::group(1));
        }
        drop(database);
        let mut database = unlocked(|| Database::open(&path, None)).unwrap();
        let more = database.load("d").unwrap();
        assert_eq!(more.counters[0].1, opened[0].counters[0].1 + 2, "{what}");
        crashes += 1;
        earlier += u32::from(group as u64 == durable);
    };
    for (number, (which, event)) in events.iter().enumerate() {
        if let Event::Durable(group) = event {
            durable = *group;
        }
        // In the middle of a write.
        if let Event::Write { offset, data } = event {
            let mut cut = disks.clone();
            let data = data[..data.len() / 2].to_vec();
            cut.take(*which, &Event::Write { offset: *offset, data });
            check(&cut.now, durable, &format!("half of event {number}, of {which:?}"));
        }
        disks.take(*which, event);
        for (variant, left) in disks.left().iter().enumerate() {
            check(left, durable, &format!("event {number}, of {which:?}, variant {variant}"));
        }
    }
    println!("{crashes} failures at {} events, {earlier} before the group", events.len());
    assert!(crashes > 150 && earlier > 50 && earlier < crashes, "{crashes} {earlier}");
}
