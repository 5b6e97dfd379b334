//! The cache of compiled images, with a real component: nothing but what it wrote itself, whole, is
//! ever used.

#![allow(clippy::expect_used, reason = "a test program: a helper that fails fails its test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use duende::worker::{Engines, ImageCache};

/// Built by `cargo xtask guests`.
const COMPONENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../artifacts/flaky.wasm");

struct Fixture {
    cache: ImageCache,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        assert!(Path::new(COMPONENT).exists(), "{COMPONENT} is missing: run `cargo xtask guests`");
        let dir = tempfile::tempdir().expect("a directory");
        let engines = Engines::for_fleet(1).expect("engines");
        let cache = ImageCache::new(&engines, dir.path().join("images")).expect("a cache");
        Self { cache, dir }
    }

    fn load(&self) {
        self.cache.load(Path::new(COMPONENT)).expect("a daemon");
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("images")).expect("the cache's directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    fn entry(&self) -> PathBuf {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.into_iter().next().expect("an entry")
    }
}

#[test]
fn a_cached_image_is_not_compiled_again() {
    let fixture = Fixture::new();
    fixture.load();
    let written = fs::metadata(fixture.entry()).expect("an entry").modified().expect("a time");
    fixture.load();
    let entry = fs::metadata(fixture.entry()).expect("an entry");
    assert_eq!(entry.modified().expect("a time"), written);
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let fixture = Fixture::new();
    fixture.load();
    let entry = fixture.entry();
    let whole = fs::read(&entry).expect("an entry");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let torn = whole[..whole.len() / 2].to_vec();
    for damaged in [flipped, torn, Vec::new()] {
        fs::write(&entry, damaged).expect("writable");
        fixture.load();
        assert_eq!(fs::read(fixture.entry()).expect("an entry"), whole);
    }
}

#[test]
fn the_oldest_entries_make_room() {
    let fixture = Fixture::new();
    let images = fixture.dir.path().join("images");
    fs::create_dir_all(&images).expect("a directory");
    for index in 0..300 {
        fs::write(images.join(format!("b3-{index}.cwasm")), "old").expect("writable");
    }
    fixture.load();
    let entries = fixture.entries();
    assert_eq!(entries.len(), 256);
    let is_new = |entry: &PathBuf| fs::metadata(entry).is_ok_and(|metadata| metadata.len() > 1_000);
    assert_eq!(entries.iter().filter(|entry| is_new(entry)).count(), 1);
}
