//! The cache of compiled images, with a real component: nothing but what it wrote itself, whole, is
//! ever used, and a cache that can't be written costs time alone.

#![allow(clippy::expect_used, reason = "a test program: a helper that fails fails its test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use duende::{
    config::CompileConfig,
    image::{CachedImage, GoesOn, ImageError, Images, Progress, Settings},
};

/// Built by `cargo xtask guests`.
const COMPONENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../artifacts/flaky.wasm");

struct Fixture {
    settings: Settings,
    dir: tempfile::TempDir,
    compiled: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(&CompileConfig::default())
    }

    fn with(config: &CompileConfig) -> Self {
        assert!(Path::new(COMPONENT).exists(), "{COMPONENT} is missing: run `cargo xtask guests`");
        let dir = tempfile::tempdir().expect("a directory");
        let refuge = dir.path().join("refuge");
        let mut settings = Settings::new(&dir.path().join("images"), Some(refuge), config);
        settings.program = Some(env!("CARGO_BIN_EXE_duende").into());
        Self { settings, dir, compiled: Arc::default() }
    }

    /// As a process that has just begun.
    fn load(&self) -> Arc<CachedImage> {
        self.ready(&Images::new(self.settings.clone()), &[COMPONENT.into()])
            .remove(0)
            .expect("a daemon")
    }

    /// Several at once.
    fn ready(
        &self,
        images: &Images,
        paths: &[PathBuf],
    ) -> Vec<Result<Arc<CachedImage>, Arc<ImageError>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let compiled = self.compiled.clone();
        let goes_on: GoesOn = Arc::new(move |progress| {
            if let Progress::Compiles { time: Duration::ZERO, .. } = progress {
                compiled.fetch_add(1, Ordering::Relaxed);
            }
        });
        runtime.expect("a runtime").block_on(async {
            let tasks: Vec<_> = paths
                .iter()
                .map(|path| {
                    let (images, path, goes_on) = (images.clone(), path.clone(), goes_on.clone());
                    tokio::spawn(async move { images.ready(&path, goes_on).await })
                })
                .collect();
            let mut made = Vec::new();
            for task in tasks {
                made.push(task.await.expect("no panic"));
            }
            made
        })
    }

    /// How often something was compiled since this was asked last.
    fn compiled(&self) -> usize {
        self.compiled.swap(0, Ordering::Relaxed)
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.images()).expect("the cache's directory");
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
    let first = fixture.load();
    assert_eq!(fixture.compiled(), 1);
    assert_eq!(fixture.load(), first);
    assert_eq!(fixture.compiled(), 0);
    assert_eq!(first.entry, fixture.entry());
    assert_eq!(first.survey.contract, "0.2");
}

#[test]
fn equal_ones_are_compiled_once() {
    let fixture = Fixture::new();
    let copies: Vec<PathBuf> =
        (0..4).map(|index| fixture.dir.path().join(format!("{index}.wasm"))).collect();
    for copy in &copies {
        fs::copy(COMPONENT, copy).expect("a copy");
    }
    let images = Images::new(fixture.settings.clone());
    let wanted: Vec<PathBuf> = copies.iter().cycle().take(100).cloned().collect();
    let made = fixture.ready(&images, &wanted);
    assert!(
        made.iter().all(|image| image.as_ref().is_ok_and(|image| image.entry == fixture.entry()))
    );
    assert_eq!(fixture.compiled(), 1);
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let fixture = Fixture::new();
    fixture.load();
    let entry = fixture.entry();
    let whole = fs::read(&entry).expect("an entry");
    let flipped = |at: usize| {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        flipped
    };
    let torn = |bytes: usize| whole[..bytes].to_vec();
    let length = whole.len();
    let damaged = [
        flipped(0),
        flipped(length / 2),
        // What is known of the component, its length, and the digest.
        flipped(length - 40),
        flipped(length - 34),
        flipped(length - 1),
        torn(length / 2),
        torn(20),
        Vec::new(),
    ];
    for (index, damaged) in damaged.into_iter().enumerate() {
        fs::write(&entry, damaged).expect("writable");
        fixture.compiled();
        fixture.load();
        assert_eq!(fixture.compiled(), 1, "{index}");
        assert!(fs::read(fixture.entry()).expect("an entry") == whole, "{index}");
    }
}

/// One that was used goes later than one that was written after it.
#[test]
fn those_that_were_used_longest_ago_make_room() {
    let config = CompileConfig { cache_bytes: 2 << 20, ..CompileConfig::default() };
    let fixture = Fixture::with(&config);
    let ours = fixture.load().entry.clone();
    let age = |path: &Path, hours: u64| {
        let file = fs::File::open(path).expect("an entry");
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3_600)).expect("its own");
    };
    age(&ours, 100);
    fixture.load();
    let images = fixture.images();
    for index in 0..30_u64 {
        let path = images.join(format!("b3-{index}.cwasm"));
        fs::write(&path, vec![0; 100 << 10]).expect("writable");
        age(&path, 10 + index);
    }
    let left = images.join("b3-x.1.unfinished");
    fs::write(&left, "half").expect("writable");
    age(&left, 2);
    let fresh = images.join("b3-y.2.unfinished");
    fs::write(&fresh, "half").expect("writable");
    // Another component, so that one is written.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../artifacts/log-sentinel.wasm");
    let made = fixture.ready(&Images::new(fixture.settings.clone()), &[other.into()]);
    let made = made[0].as_ref().expect("a daemon").entry.clone();
    let entries = fixture.entries();
    let bytes: u64 = entries.iter().map(|path| fs::metadata(path).expect("there").len()).sum();
    assert!(bytes <= (2 << 20) + 4, "{bytes}");
    assert!(entries.contains(&ours) && entries.contains(&made) && entries.contains(&fresh));
    assert!(!entries.contains(&left));
    assert!(
        entries.contains(&images.join("b3-0.cwasm"))
            && !entries.contains(&images.join("b3-29.cwasm"))
    );
}

/// A directory that can't be made stands for a disk that is full or read only: for root, too.
#[test]
fn a_cache_that_cannot_be_written_costs_no_image() {
    let fixture = Fixture::new();
    fs::write(fixture.images(), "no directory").expect("writable");
    let image = fixture.load();
    assert!(image.entry.starts_with(fixture.dir.path().join("refuge")), "{image:?}");
    fixture.compiled();
    assert_eq!(fixture.load(), image);
    assert_eq!(fixture.compiled(), 0);
    // Nowhere to keep it: it may pass.
    fs::remove_dir_all(fixture.dir.path().join("refuge")).expect("ours");
    fs::write(fixture.dir.path().join("refuge"), "no directory").expect("writable");
    let images = Images::new(fixture.settings.clone());
    let error = fixture.ready(&images, &[COMPONENT.into()]).remove(0).expect_err("no place");
    assert!(error.may_pass() && error.to_string().contains("can't be kept in"), "{error}");
    // And has: the same asker gets it.
    fs::remove_file(fixture.images()).expect("ours");
    assert!(fixture.ready(&images, &[COMPONENT.into()])[0].is_ok());
}

/// An entry that goes while a manager lives is made anew, and a file that is replaced is another one.
#[test]
fn what_was_known_of_a_file_is_not_believed_for_ever() {
    let fixture = Fixture::new();
    let images = Images::new(fixture.settings.clone());
    let path = fixture.dir.path().join("daemon.wasm");
    fs::copy(COMPONENT, &path).expect("a copy");
    let wanted = [path.clone()];
    let first = fixture.ready(&images, &wanted).remove(0).expect("a daemon");
    fs::remove_dir_all(fixture.images()).expect("ours");
    assert_eq!(fixture.ready(&images, &wanted).remove(0).expect("a daemon"), first);
    assert_eq!(fixture.compiled(), 2);
    fs::write(&path, "no component").expect("ours");
    assert!(fixture.ready(&images, &wanted)[0].is_err());
    fs::copy(COMPONENT, &path).expect("a copy");
    assert_eq!(fixture.ready(&images, &wanted).remove(0).expect("a daemon"), first);
}
