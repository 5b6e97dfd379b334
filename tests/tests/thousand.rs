//! As many components as README promises, and those that need more room than most.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its helpers fail it too")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use duende_tests::rows::Row;
use duende_tests::{Fleet, Process, TIMEOUT, component, image_at, report, wait_for};

/// README's limit.
const COMPONENTS: usize = 1_000;
/// What `duende doctor` and admission reckon with, and what is left to the worker itself.
const MAPPINGS_PER_COMPONENT: usize = 8;
const MAPPINGS_RESERVED: usize = 4_000;

/// How many daemons of the fleet are in each state that was asked for.
fn count(fleet: &Fleet, state: &str) -> usize {
    fleet.ps().daemons.iter().filter(|row| row.state == state).count()
}

/// One line of a process's status, in KiB.
fn kib(pid: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_thousand_components_live_at_once() {
    let daemons: String =
        (0..COMPONENTS).map(|number| component(&format!("d{number}"), "flaky", "")).collect();
    let fleet = Fleet::up("thousand", &daemons);
    let all_run = || (count(&fleet, "running") == COMPONENTS).then_some(());
    wait_for("a thousand components", all_run);

    let worker = fleet.row("d0").worker_pid.unwrap();
    let mappings = fs::read_to_string(format!("/proc/{worker}/maps")).unwrap().lines().count();
    assert!(mappings <= COMPONENTS * MAPPINGS_PER_COMPONENT + MAPPINGS_RESERVED, "{mappings}");
    assert!(mappings >= COMPONENTS * 2, "{mappings}: is that the worker?");
    let each = kib(worker, "RssAnon:") / COMPONENTS;
    report(
        "1,000 components",
        &format!("{each} KiB, {mappings} mappings in all"),
        "each under 128 KiB",
    );
    assert!(each < 128, "{each} KiB for each");

    // All of them come back after a death of their worker, too.
    assert!(Process::of(worker).kill() < TIMEOUT);
    wait_for("their return", || {
        let rows = fleet.ps().daemons;
        let back = |row: &Row| row.state == "running" && row.incarnation > 1;
        rows.iter().all(back).then_some(())
    });
}

/// A component by hand, with more in it, as a file in a fleet's home.
fn by_hand(home: &Path, name: &str, from: &str, to: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/0.2/wait.wat");
    let text = fs::read_to_string(golden).unwrap();
    assert!(text.contains(from), "{from}");
    let file = home.join(format!("{name}.wasm"));
    fs::write(&file, wat::parse_str(text.replace(from, to)).unwrap()).unwrap();
    file
}

/// The pool has slots for what most components are. Whatever does not fit one runs beside it, as far as its
/// limits allow.
#[test]
fn what_does_not_fit_the_pool_runs_on_demand() {
    let mut fleet = Fleet::new("demand", "");
    let memory = "(memory (export \"memory\") 1)";
    let pages = |pages: u32| format!("(memory (export \"memory\") {pages})");
    let instance = "(core instance $memory (instantiate $memory))";
    let instances = "(core instance (instantiate $memory))".repeat(40);
    let tables = format!("{memory}{}", "(table 30000 funcref)".repeat(5));
    let by = |name: &str, from: &str, to: &str| by_hand(fleet.home(), name, from, to);
    let large = "limits.memory_bytes = \"3GiB\"\n";
    let daemons = [
        image_at("small", &by("small", memory, memory), ""),
        image_at("small-granted", &by("small", memory, memory), large),
        image_at("instances", &by("instances", instance, &format!("{instance}{instances}")), ""),
        image_at("tables", &by("tables", memory, &tables), ""),
        // 2.5 GiB at its start.
        image_at("large", &by("large", memory, &pages(40_000)), large),
        image_at("greedy", &by("large", memory, &pages(40_000)), ""),
    ];
    fleet.configure(&daemons.concat());
    fleet.start();
    for name in ["small", "small-granted", "instances", "tables", "large"] {
        fleet.wait_state(name, "running");
    }
    assert_eq!(
        fleet.wait_row("large", |row| row.memory_bytes.is_some()).memory_bytes,
        Some(40_000 << 16)
    );
    // Nobody is given more than its limit, wherever it lies.
    let greedy = fleet.wait_row("greedy", |row| row.last_exit.is_some());
    let why = greedy.last_exit.unwrap();
    assert!(why.contains("more memory than its 67108864 bytes"), "{why}");
    // They stop and come back like all others.
    for name in ["instances", "large"] {
        fleet.run(&["restart", name]).done();
        fleet.wait_row(name, |row| row.state == "running" && row.incarnation == 2);
    }
}

/// Where addresses are scarce, components run with checked accesses; those that find no room wait, and
/// are not charged for it.
#[test]
fn components_run_where_addresses_are_scarce() {
    let limited = |kibibytes: u32| {
        let script = format!("ulimit -v {kibibytes}; exec \"$@\"");
        ["sh".to_owned(), "-c".into(), script, "sh".into()]
    };
    for kibibytes in [1_500_000, 4_000_000] {
        let wrapper = limited(kibibytes);
        let mut fleet = Fleet::new("scarce", &component("one", "flaky", ""));
        fleet.start_under(&wrapper.each_ref().map(String::as_str));
        fleet.wait_state("one", "running");
    }

    let daemons: String =
        (0..COMPONENTS).map(|number| component(&format!("d{number}"), "flaky", "")).collect();
    let mut fleet = Fleet::new("crowded", &daemons);
    fleet.start_under(&limited(1_500_000).each_ref().map(String::as_str));
    wait_for("what fits, and those that wait", || {
        let (running, waiting) = (count(&fleet, "running"), count(&fleet, "waiting"));
        (running >= 100 && running + waiting == COMPONENTS).then_some(())
    });
    let rows = fleet.ps().daemons;
    let waiting = rows.iter().find(|row| row.state == "waiting").unwrap();
    assert!(waiting.detail.contains("this WOS is full"), "{waiting:?}");
    // Those that run are not harmed, and one of those that wait takes the place of one that ends.
    let runs = rows.iter().find(|row| row.state == "running").unwrap().name.clone();
    assert_eq!(fleet.row(&runs).restarts, 0);
}

/// What a component uses of the processor is seen as it is for a program, and a loop that does nothing is called
/// one.
#[test]
fn a_busy_loop_is_seen_as_what_it_is() {
    let quiet = component("quiet", "flaky", "");
    let spinner = component("spinner", "flaky", "[daemon.config]\nmode = \"spin\"\n");
    let fleet = Fleet::up("busy", &format!("metrics_interval = \"1s\"\n{quiet}{spinner}"));
    let status = |name: &str| fleet.run(&["status", name]).done().json::<Value>();
    let seen = wait_for("the loop", || {
        let row = status("spinner")["daemons"][0].clone();
        (row["detail"].as_str()?.contains("busy loop") && row["processor_percent"].as_f64()? > 5.0)
            .then_some(row)
    });
    assert_eq!(seen["state"], "running");
    let quiet = status("quiet")["daemons"][0].clone();
    assert_eq!(quiet["detail"], "");
    assert!(quiet["processor_percent"].as_f64().is_some_and(|percent| percent < 5.0), "{quiet}");
    let history = fleet.run(&["history", "spinner"]).done().stdout;
    assert!(history.contains("processor_ms"), "{history}");
}
