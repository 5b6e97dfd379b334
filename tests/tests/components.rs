//! Components that others bring: what the compiler can't bear is one refused image, what takes long holds up
//! nobody, and what is no component is told what it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its helpers fail it too")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duende_tests::{Fleet, Outcome, Process, artifact, component, duende, image_at, wait_for};
use rustix::process::Signal;

/// A daemon by hand, with something more in its component.
fn daemon_with(more: &str) -> Vec<u8> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/0.2/wait.wat");
    let text = fs::read_to_string(text).unwrap();
    let (rest, end) = text.trim_end().rsplit_once(')').unwrap();
    wat::parse_str(format!("{rest}\n{more}\n){end}")).unwrap()
}

/// A length, as WebAssembly writes it.
fn leb(mut left: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(left & 0x7f).unwrap();
        left >>= 7;
        bytes.push(if left == 0 { low } else { low | 0x80 });
        if left == 0 {
            return bytes;
        }
    }
}

/// A section of a component or module: its number, its length and its content.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Components within each other, so many.
fn nested(depth: usize) -> Vec<u8> {
    // Built from the inside, backwards.
    let mut reversed: Vec<u8> = COMPONENT.iter().rev().copied().collect();
    for _ in 0..depth {
        let length = leb(reversed.len());
        reversed.extend(length.iter().rev());
        reversed.push(4);
        reversed.extend(COMPONENT.iter().rev());
    }
    reversed.reverse();
    reversed
}

/// Many components beside each other.
fn beside(count: usize) -> Vec<u8> {
    [COMPONENT.to_vec(), section(4, COMPONENT).repeat(count)].concat()
}

/// Instance types, each with the one before it in it: a few bytes each, and the validator goes down by recursion.
fn types_in_each_other(depth: usize) -> String {
    let mut types = "(type $t0 (instance))".to_owned();
    for index in 1..depth {
        let before = index - 1;
        write!(types, "(type $t{index} (instance (alias outer 1 $t{before} (type $q)) (export \"a\" (instance (type $q)))))").unwrap();
    }
    types
}

/// Functions in one core module.
fn functions(count: usize) -> String {
    format!("(core module {})", "(func)".repeat(count))
}

/// A daemon, and in it a core module with these functions from a number to nothing.
fn with_functions(count: usize, body: &[u8]) -> Vec<u8> {
    let body = [&[0], body, &[0x0b]].concat();
    let function = [leb(body.len()), body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\x01\x7f\0"),
        section(3, &[leb(count), vec![0; count]].concat()),
        section(10, &[leb(count), function.repeat(count)].concat()),
    ];
    [daemon_with(""), section(1, &module.concat())].concat()
}

/// A function whose blocks lie in each other.
fn blocks(depth: usize) -> Vec<u8> {
    with_functions(1, &[b"\x02\x40".repeat(depth), b"\x0b".repeat(depth)].concat())
}

/// A daemon whose `run` has another type.
fn wrong_type() -> Vec<u8> {
    wat::parse_str(
        "(component (core module $m (func (export \"r\") (result i32) (i32.const 0)))
         (core instance $i (instantiate $m))
         (func $run (result u32) (canon lift (core func $i \"r\")))
         (instance $x (export \"init\" (func $run)) (export \"run\" (func $run)) (export \"shutdown\" (func $run))
           (export \"health-check\" (func $run)) (export \"metrics\" (func $run)))
         (export \"duende:daemon/lifecycle@0.2.0\" (instance $x)))",
    )
    .unwrap()
}

/// What is refused, and what is said of it: `check` and the fleet say the same, and beside all of them one
/// goes on that has nothing to do with it.
#[test]
fn what_the_compiler_cannot_bear_is_one_refused_image() {
    let cases: [(&str, Vec<u8>, &str); 9] = [
        (
            "nested",
            nested(30_000),
            "it has 33 components within each other or more, and an image has at most 32",
        ),
        (
            "beside",
            beside(1_001),
            "it has 1001 components within components or more, and an image has at most 1000",
        ),
        // The validator panics.
        ("types", daemon_with(&types_in_each_other(200)), "the compiler failed on it"),
        (
            "functions",
            daemon_with(&functions(500_001)),
            "functions or more, and an image has at most 500000",
        ),
        (
            "feature",
            daemon_with("(core module (memory 1 (pagesize 1)))"),
            "a feature of WebAssembly that is off here",
        ),
        ("wrong-type", wrong_type(), "its types do not fit the contract 0.2: lifecycle.init"),
        ("cut", daemon_with("")[..1_000].to_vec(), "not a valid component"),
        ("module", b"\0asm\x01\0\0\0".to_vec(), "a core module, not a component"),
        ("text", b"#!/bin/sh\n".to_vec(), "not a WebAssembly file"),
    ];
    let mut fleet = Fleet::new("bad", "");
    let mut daemons = component("bystander", "flaky", "[daemon.config]\ninterval_ms = 10");
    for (name, bytes, _) in &cases {
        let file = fleet.home().join(format!("{name}.wasm"));
        fs::write(&file, bytes).unwrap();
        daemons += &image_at(name, &file, "");
    }
    fleet.configure(&daemons);

    let check = Outcome::of(duende(fleet.home()).arg("check").arg(fleet.file()));
    assert_eq!(check.code, Some(3), "{check:?}");
    fleet.start();
    fleet.wait_state("bystander", "running");
    for (name, _, words) in &cases {
        let row = fleet.wait_state(name, "failed");
        assert!(check.stdout.contains(words), "{name}: {}", check.stdout);
        let said = row.last_exit.unwrap_or_default();
        assert!(said.contains(words), "{name}: {said}");
        assert_eq!(said.contains("copy it again"), *name == "cut", "{name}: {said}");
    }
    let bystander = fleet.row("bystander");
    assert_eq!((bystander.state.as_str(), bystander.incarnation), ("running", 1));
    fleet.down();
}

/// At its limits a component is compiled, or refused by them and by nothing else.
#[test]
fn a_component_at_a_limit_runs() {
    let cases = [
        // One is the outermost.
        ("nested", daemon_with(&format!("{}{}", "(component".repeat(31), ")".repeat(31)))),
        ("beside", daemon_with(&"(component)".repeat(1_000))),
        ("modules", daemon_with(&"(core module)".repeat(900))),
        ("blocks", blocks(500)),
    ];
    let mut fleet = Fleet::new("limits", "");
    let mut daemons = String::new();
    for (name, bytes) in &cases {
        let file = fleet.home().join(format!("{name}.wasm"));
        fs::write(&file, bytes).unwrap();
        daemons += &image_at(name, &file, "grant = [\"log\"]");
    }
    fleet.configure(&daemons);
    fleet.start();
    for (name, _) in &cases {
        fleet.wait_state(name, "running");
    }
    fleet.down();
}

/// What one compilation may take is taken from it, and the reason names the key.
#[test]
fn a_compilation_has_limits() {
    // x = x * (x + 7), again and again.
    let slow = with_functions(400, &b"\x20\0\x20\0\x41\x07\x6a\x6c\x21\0".repeat(10_000));
    // It is read whole, before anything is known of it.
    let large = [daemon_with(""), section(0, &vec![0; 150 << 20])].concat();
    for (heavy, limit, words) in [
        (
            &large,
            "memory_bytes = \"128MiB\"",
            "compiling it takes more than 128.0 MiB of memory: give it more (compile.memory_bytes)",
        ),
        (
            &slow,
            "cpu_time = \"1s\"",
            "compiling it takes more than 1s of processor time: give it more (compile.cpu_time)",
        ),
        (
            &slow,
            "timeout = \"1s\"",
            "compiling it takes more than 1s: give it more time (compile.timeout)",
        ),
    ] {
        let mut fleet = Fleet::new("limited", "");
        let file = fleet.home().join("heavy.wasm");
        fs::write(&file, heavy).unwrap();
        let daemons = image_at("heavy", &file, "") + &component("bystander", "flaky", "");
        fleet.configure(&format!("{daemons}[compile]\n{limit}\n"));
        fleet.start();
        fleet.wait_state("bystander", "running");
        let said = fleet.wait_state("heavy", "failed").last_exit.unwrap_or_default();
        assert!(said.contains(words), "{limit}: {said}");
        fleet.down();
    }
}

/// The process that compiles, once there is one.
fn compiler(fleet: &Fleet) -> Process {
    wait_for("a compiler", || {
        fleet
            .processes()
            .into_iter()
            .find(|process| process.command().contains("compile-worker guarded"))
    })
}

/// A cache of its own for a fleet: what others compiled is not in it.
fn start_afresh(fleet: &mut Fleet) {
    let cache = fleet.home().join("cache");
    fleet.start_with(&[("DUENDE_CACHE_DIR", cache.to_str().unwrap())]);
}

/// A compilation that takes longer than the start may: the start has not begun. Others are not held up, and
/// whoever wants the same waits for the same.
#[test]
fn the_start_begins_when_the_image_is_there() {
    let slow = "start_timeout = \"1s\"\ngrant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                channel.lines.from = { interval = \"1h\" }";
    let daemons = component("slow", "log-sentinel", slow)
        + &component("same", "log-sentinel", slow)
        + &component("other", "flaky", "");
    let mut fleet = Fleet::new("slow", &format!("{daemons}[compile]\njobs = 1\n"));
    let mut beforehand = duende(fleet.home());
    beforehand
        .arg("compile")
        .arg(artifact("flaky"))
        .env("DUENDE_CACHE_DIR", fleet.home().join("cache"));
    assert_eq!(Outcome::of(&mut beforehand).code, Some(0));
    start_afresh(&mut fleet);
    let held = compiler(&fleet);
    held.signal(Signal::STOP);
    fleet.wait_state("other", "running");
    let row = fleet.wait_row("slow", |row| {
        row.state == "compiling" && row.detail.contains("is compiled, for 3 s")
    });
    assert!(row.detail.contains("KiB"), "{}", row.detail);
    assert_eq!(fleet.row("same").state, "compiling");
    assert_eq!(fleet.row("other").state, "running");
    // It can be stopped, and the compilation goes on for the others.
    assert_eq!(fleet.run(&["stop", "same"]).code, Some(0));
    held.signal(Signal::CONT);
    let row = fleet.wait_state("slow", "running");
    assert_eq!((row.incarnation, row.restarts), (1, 0));
    fleet.down();
}

/// A compiler that the system kills is nobody's failure: the daemon waits, and its image is made anew.
#[test]
fn a_compiler_that_is_killed_is_asked_again() {
    let mut fleet = Fleet::new("killed", &component("it", "flaky", ""));
    start_afresh(&mut fleet);
    let _ = compiler(&fleet).kill();
    let row = fleet.wait_row("it", |row| row.state == "waiting" || row.incarnation > 1);
    assert!(row.last_exit.is_some_and(|exit| exit.contains("killed by signal 9")));
    fleet.wait_state("it", "running");
    fleet.down();
}

/// It ends with its manager, however that ends.
#[test]
fn a_compiler_dies_with_its_manager() {
    let mut fleet = Fleet::new("orphan", &component("it", "log-sentinel", ""));
    start_afresh(&mut fleet);
    let compiler = compiler(&fleet);
    compiler.signal(Signal::STOP);
    fleet.kill_manager();
    assert!(compiler.ends_within(Duration::from_secs(5)));
}

/// `down` does not wait for a compilation.
#[test]
fn a_fleet_that_compiles_can_be_ended() {
    let mut fleet = Fleet::new("leave", &component("it", "log-sentinel", ""));
    start_afresh(&mut fleet);
    let compiler = compiler(&fleet);
    compiler.signal(Signal::STOP);
    let began = Instant::now();
    fleet.down();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// `compile` and `check` fill the cache: what follows starts no compiler.
#[test]
fn what_was_compiled_beforehand_is_not_compiled_again() {
    for verb in ["compile", "check"] {
        let mut fleet = Fleet::new("before", &component("it", "flaky", ""));
        let cache = fleet.home().join("cache");
        let what = if verb == "check" { fleet.file() } else { artifact("flaky") };
        let done =
            Outcome::of(duende(fleet.home()).arg(verb).arg(what).env("DUENDE_CACHE_DIR", &cache));
        assert_eq!(done.code, Some(0), "{done:?}");
        let entries = || -> Vec<(PathBuf, std::time::SystemTime)> {
            let entries = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap());
            entries
                .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
                .collect()
        };
        let before = entries();
        assert_eq!(before.len(), 1, "{before:?}");
        start_afresh(&mut fleet);
        fleet.wait_state("it", "running");
        assert_eq!(entries(), before);
        fleet.down();
    }
    // Several, of which one is none.
    let home = tempfile::TempDir::new().unwrap();
    let none = home.path().join("none.wasm");
    let mut command = duende(home.path());
    command.args(["--json", "compile"]).arg(artifact("flaky")).arg(&none);
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let said: serde_json::Value = outcome.json();
    assert_eq!(said["images"][0]["contract"], "duende:daemon@0.2", "{said}");
    assert!(said["images"][1]["error"].as_str().unwrap().contains("No such file"), "{said}");
}

/// A pipe in the place of an image blocks nobody, and is told; when the image is back, so is its daemon.
#[test]
fn what_is_no_file_is_waited_for_by_nobody() {
    let mut fleet = Fleet::new("fifo", "");
    let image = fleet.home().join("image.wasm");
    fs::copy(artifact("flaky"), &image).unwrap();
    let daemons = image_at("it", &image, "") + &component("bystander", "flaky", "");
    fleet.configure(&daemons);
    fleet.start();
    fleet.wait_state("it", "running");
    fs::remove_file(&image).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &image, mode).unwrap();
    assert_eq!(fleet.run(&["restart", "bystander"]).code, Some(0));
    // It can't be started now, which is said.
    let _ = fleet.run(&["restart", "it"]);
    fleet.wait_row("bystander", |row| row.state == "running" && row.incarnation == 2);
    let row = fleet.wait_state("it", "waiting");
    assert!(row.last_exit.is_some_and(|exit| exit.contains("it is a pipe (FIFO)")));
    fs::remove_file(&image).unwrap();
    fs::copy(artifact("flaky"), &image).unwrap();
    fleet.wait_state("it", "running");
    fleet.down();
}

/// Whoever removes the cache loses time, and no daemon: neither one that runs nor one that starts.
#[test]
fn a_cache_that_is_removed_is_made_anew() {
    let mut fleet = Fleet::new("removed", &component("it", "flaky", ""));
    start_afresh(&mut fleet);
    fleet.wait_state("it", "running");
    let worker = fleet.row("it").worker_pid;
    fs::remove_dir_all(fleet.home().join("cache")).unwrap();
    for incarnation in 2..4 {
        assert_eq!(fleet.run(&["restart", "it"]).code, Some(0));
        fleet.wait_row("it", |row| row.state == "running" && row.incarnation == incarnation);
    }
    assert!(fleet.home().join("cache").read_dir().unwrap().count() == 1);
    assert_eq!(fleet.row("it").worker_pid, worker);
    fleet.down();
}

/// What a slice does to its worker is charged to nobody; who does it twice is held, alone, until somebody
/// releases it.
#[test]
fn who_ends_its_worker_twice_is_held_alone() {
    let hang = "slice_budget = \"60s\"\nhealth.period = \"1h\"\n[daemon.config]\nmode = \"hang\"";
    let daemons = component("guilty", "flaky", hang) + &component("bystander", "flaky", "");
    let mut fleet = Fleet::new("held", &daemons);
    fleet.start();
    let kill = |fleet: &Fleet, incarnation: u32, signal: Signal| {
        let runs = |name: &str| {
            fleet.wait_row(name, |row| {
                row.state == "running" && row.incarnation == incarnation && row.worker_pid.is_some()
            })
        };
        runs("bystander");
        let worker = Process::of(runs("guilty").worker_pid.unwrap());
        // It runs: its slice is open.
        let before = worker.processor_time();
        wait_for("a slice", || {
            (worker.processor_time() > before + Duration::from_millis(50)).then_some(())
        });
        worker.signal(signal);
        assert!(worker.ends_within(Duration::from_secs(5)));
    };
    // Somebody else's doing, as often as they like; then a crash, and another one.
    for (incarnation, signal) in (1..).zip([
        Signal::KILL,
        Signal::KILL,
        Signal::TERM,
        Signal::ABORT,
        Signal::KILL,
        Signal::ABORT,
    ]) {
        kill(&fleet, incarnation, signal);
    }
    let row = fleet.wait_state("guilty", "held");
    assert!(
        row.detail.contains("while a slice of it was open, for the second time"),
        "{}",
        row.detail
    );
    let bystander = fleet.wait_state("bystander", "running");
    assert_eq!(bystander.incarnation, 7);
    assert!(fleet.events().iter().any(|event| event.is("guilty", "held")));
    assert_eq!(fleet.run(&["restart", "guilty"]).code, Some(0));
    fleet.wait_state("guilty", "running");
    fleet.down();
}

/// A daemon with any byte changed is a component or is refused; nobody crashes of it, and those that are still
/// components do to others what any daemon may.
#[test]
fn any_damage_is_refused_or_runs() {
    let mut fleet = Fleet::new("damage", "");
    let whole = daemon_with("");
    let mut random = 0x2545_f491_u64;
    let mut below = |most: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(most).unwrap()).unwrap()
    };
    let files: Vec<PathBuf> = (0..300)
        .map(|index| {
            let mut bytes = whole.clone();
            for _ in 0..=below(3) {
                let at = 8 + below(bytes.len() - 8);
                bytes[at] = u8::try_from(below(256)).unwrap();
            }
            let file = fleet.home().join(format!("{index}.wasm"));
            fs::write(&file, bytes).unwrap();
            file
        })
        .collect();
    let mut command = duende(fleet.home());
    command.args(["--json", "compile"]).args(&files);
    let outcome = Outcome::of(command.env("DUENDE_CACHE_DIR", fleet.home().join("cache")));
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let said: serde_json::Value = outcome.json();
    let mut daemons = component("bystander", "flaky", "[daemon.config]\ninterval_ms = 10");
    let mut sound = 0;
    for (image, file) in said["images"].as_array().unwrap().iter().zip(&files) {
        let Some(error) = image["error"].as_str() else {
            sound += 1;
            daemons += &image_at(
                &format!("d{sound}"),
                file,
                "restart.policy = \"never\"\nstart_timeout = \"2s\"",
            );
            continue;
        };
        assert!(!error.contains("please report"), "{error}");
    }
    assert!((10..290).contains(&sound), "{sound} of 300 are components");
    fleet.configure(&daemons);
    start_afresh(&mut fleet);
    let worker = fleet.wait_state("bystander", "running").worker_pid;
    for index in 1..=sound {
        fleet.wait_row(&format!("d{index}"), |row| row.state == "running" || row.state == "failed");
    }
    let bystander = fleet.row("bystander");
    assert_eq!((bystander.incarnation, bystander.worker_pid), (1, worker));
    fleet.down();
}
