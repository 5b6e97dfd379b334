//! Claims of the specification about a daemon's life, each one test named after it and at its own criterion.
//! Those about its edges are in `claims_edges.rs`, and those whose criterion is a matter of milliseconds in
//! `claims_timed.rs`.
//!
//! A test that measures prints its figure; `cargo xtask falsify` runs these tests, one at a time, and
//! shows the table.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use duende_tests::{
    AccessLog, Fleet, Outcome, Process, component, duende, get, linked, program, report, script,
    wait_for,
};
use rustix::process::Signal;

/// What `flaky` needs.
const LOG: &str = "grant = [\"log\"]\n";
/// A sentinel that follows the fleet's access log.
const SENTINEL: &str = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                        [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n";

fn between(began_us: u64, ended_us: u64) -> Duration {
    Duration::from_micros(ended_us.saturating_sub(began_us))
}

#[test]
fn f006_graceful_shutdown_within_the_timeout() {
    let grace = Duration::from_secs(2);
    let rest = &format!("{LOG}stop_grace = \"2s\"\n");
    let plain = script(
        "plain",
        "trap \"exit 0\" TERM; while :; do sleep 0.05; done",
        "stop_grace = \"2s\"",
    );
    let daemons = linked("native", "flaky", rest) + &component("wos", "flaky", rest) + &plain;
    let mut fleet = Fleet::up("f006", &daemons);
    for daemon in ["native", "wos", "plain"] {
        fleet.wait_state(daemon, "running");
        fleet.run(&["stop", daemon]).done();
        let asked = fleet.next(daemon, "stopping");
        let exited = fleet.next(daemon, "exited");
        // By itself: nothing killed it.
        assert!(!exited.detail.contains("killed"), "{exited:?}");
        assert_eq!(fleet.row(daemon).state, "stopped");
        let took = between(asked.time_unix_us, exited.time_unix_us);
        report("F006", &format!("graceful shutdown, {daemon}: {took:.1?}"), "<= 2s");
        assert!(took <= grace, "{daemon}: {took:?}");
    }
    for daemon in ["native", "wos"] {
        let log = fs::read_to_string(fleet.row(daemon).log_path).unwrap();
        assert!(log.contains("asked to stop"), "{daemon}: its `shutdown` was not called: {log}");
    }
    fleet.down();
}

#[test]
fn f008_restarts_after_a_crash() {
    let limit = Duration::from_secs(5);
    let daemons = linked("native", "flaky", LOG) + &script("plain", "exec sleep infinity", "");
    let mut fleet = Fleet::up("f008", &daemons);
    for daemon in ["native", "plain"] {
        let row = fleet.wait_state(daemon, "running");
        let process = Process::of(row.pid.expect("it runs"));
        // Rust's runtime takes the first one for a possible stack overflow, and lets the next one kill.
        while !process.ends_within(Duration::from_millis(1)) {
            process.signal(Signal::SEGV);
        }
        let exited = fleet.next(daemon, "exited");
        assert!(exited.detail.contains("SIGSEGV"), "{exited:?}");
        let running = fleet.next(daemon, "running");
        let took = between(exited.time_unix_us, running.time_unix_us);
        report("F008", &format!("restart after SIGSEGV, {daemon}: {took:.1?}"), "< 5s");
        assert!(took < limit, "{daemon}: {took:?}");
        assert_ne!(fleet.row(daemon).pid, row.pid);
    }
    // WebAssembly's way to a segmentation fault is a trap.
    let mut fleet = Fleet::up(
        "f008-wos",
        &component(
            "wos",
            "flaky",
            "grant = [\"log\"]\n[daemon.config]\nmode = \"crash\"\nafter_slices = 1\n",
        ),
    );
    let exited = fleet.next("wos", "exited");
    assert!(exited.detail.contains("unreachable"), "{exited:?}");
    let running = fleet.next("wos", "running");
    assert_eq!(running.incarnation, 2);
    let took = between(exited.time_unix_us, running.time_unix_us);
    report("F008", &format!("restart after a trap, WOS: {took:.1?}"), "< 5s");
    assert!(took < limit, "{took:?}");
}

/// The request from which on the last incarnation of a sentinel counts: what its `init` found in
/// its state, by its own log.
fn counts_from(fleet: &Fleet, sentinel: &str) -> u64 {
    let log = fs::read_to_string(fleet.row(sentinel).log_path).unwrap();
    let (_, rest) = log.rsplit_once("watching, from request ").expect("it said so");
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn f009_state_survives_restarts() {
    let daemons =
        linked("native", "log-sentinel", SENTINEL) + &component("wos", "log-sentinel", SENTINEL);
    let mut fleet = Fleet::new("f009", &daemons);
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    let all_counted = |fleet: &Fleet, log: &AccessLog| {
        for sentinel in ["native", "wos"] {
            let row = fleet.wait_row(sentinel, |row| row.count("requests_total") == log.lines);
            assert_eq!(row.count("errors_total"), log.lines / 10, "{row:?}");
        }
    };
    fleet.start();
    log.write(500);
    all_counted(&fleet, &log);

    // The daemons are killed.
    for (sentinel, process) in
        [("native", fleet.row("native").pid), ("wos", fleet.row("wos").worker_pid)]
    {
        let _ = Process::of(process.expect("it runs")).kill();
        fleet.wait_row(sentinel, |row| row.incarnation == 2 && row.state == "running");
        assert_eq!(counts_from(&fleet, sentinel), 500, "{sentinel}");
    }
    log.write(100);
    all_counted(&fleet, &log);

    // The manager is killed; what is written meanwhile is counted afterwards.
    fleet.kill_manager();
    log.write(50);
    fleet.start();
    all_counted(&fleet, &log);
    assert!(counts_from(&fleet, "native") >= 500 && counts_from(&fleet, "wos") >= 500);

    // All is stopped in order.
    fleet.down();
    fleet.start();
    all_counted(&fleet, &log);
    for sentinel in ["native", "wos"] {
        fleet.wait_state(sentinel, "running");
        assert_eq!(counts_from(&fleet, sentinel), 650, "{sentinel}");
    }
    fleet.down();
    report("F009", "650 of 650 requests after kills of daemon, worker and manager", "equal");
}

/// Makes a link name another directory, at one moment, as a release does.
fn relink(link: &Path, target: &str) {
    let next = link.with_extension("next");
    symlink(target, &next).unwrap();
    fs::rename(next, link).unwrap();
}

#[test]
fn f010_a_new_configuration_is_in_force_within_a_second() {
    let limit = Duration::from_secs(1);
    let daemons = |alert: &str| {
        let sentinel = format!("{SENTINEL}[daemon.config]\nerror_ratio_alert = {alert}\n");
        let web = format!(
            "[[daemon]]\nname = \"web\"\nready = \"notify\"\ncommand = [\"{}\", \"--listen\", \"127.0.0.1:0\", \
             \"--root\", \"{{home}}/current\", \"--access-log\", \"{{home}}/web.log\"]\n",
            program("webd").display()
        );
        linked("native", "log-sentinel", &sentinel)
            + &component("wos", "log-sentinel", &sentinel)
            + &web
    };
    let fleet = Fleet::new("f010", &daemons("0.5"));
    for release in ["one", "two", "three"] {
        fs::create_dir(fleet.home().join(release)).unwrap();
        fs::write(fleet.home().join(release).join("which"), release).unwrap();
    }
    let current = fleet.home().join("current");
    symlink("one", &current).unwrap();
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    let mut up = duende(fleet.home());
    Outcome::of(up.args(["--json", "up", "--detach", "--wait"]).arg(fleet.file())).done();
    let logged = |daemon: &str| fs::read_to_string(fleet.row(daemon).log_path).unwrap_or_default();
    let server: SocketAddr = wait_for("the server's address", || {
        let log = logged("web");
        log.split_once("listening on ")?.1.split_once(',')?.0.parse().ok()
    });
    let serves = |release: &str| get(server, "/which", limit).as_deref() == Some(release);
    assert!(serves("one"));

    // A server that reloads by SIGHUP: by the signal itself, and by the verb.
    let web = Process::of(fleet.row("web").pid.unwrap());
    for (how, release) in [("SIGHUP", "two"), ("reload", "three")] {
        relink(&current, release);
        assert!(!serves(release), "served before anybody said so");
        let began = Instant::now();
        match how {
            "SIGHUP" => web.signal(Signal::HUP),
            _ => drop(fleet.run(&["reload", "web"]).done()),
        }
        wait_for("the new root", || serves(release).then_some(()));
        let took = began.elapsed();
        report("F010", &format!("new root of webd by {how}: {took:.1?}"), "<= 1s");
        assert!(took <= limit, "{how}: {took:?}");
    }

    // SIGHUP to a detached manager, and the verb: one in ten is above the one threshold, not the other.
    let warned = "is above 0.05";
    log.write(100);
    for sentinel in ["native", "wos"] {
        fleet.wait_row(sentinel, |row| row.count("requests_total") == log.lines);
        assert!(!logged(sentinel).contains(warned), "{}", logged(sentinel));
    }
    let manager = Process::of(fleet.ps().fleet.pid);
    for (how, alert, said) in
        [("SIGHUP", "0.05", warned), ("reload", "0.5", "error ratio recovered to 0.100")]
    {
        fleet.configure(&daemons(alert));
        let began = Instant::now();
        match how {
            "SIGHUP" => manager.signal(Signal::HUP),
            _ => drop(fleet.run(&["reload", "native", "wos"]).done()),
        }
        for sentinel in ["native", "wos"] {
            wait_for(said, || {
                // It judges when a line comes.
                log.write(1);
                logged(sentinel).contains(said).then_some(())
            });
            let took = began.elapsed();
            report("F010", &format!("new threshold, {sentinel}, by {how}: {took:.1?}"), "<= 1s");
            assert!(took <= limit, "{sentinel}, {how}: {took:?}");
        }
    }
    for row in fleet.ps().daemons {
        assert_eq!((row.state.as_str(), row.incarnation), ("running", 1), "{row:?}");
    }
    fleet.run(&["down"]).done();
}

#[test]
fn f011_daemons_run_concurrently() {
    let daemons: String = (0..100)
        .map(|i| {
            linked(&format!("n{i}"), "flaky", LOG) + &component(&format!("w{i}"), "flaky", LOG)
        })
        .collect();
    let mut fleet = Fleet::up("f011", &daemons);
    let running = |isolation: &str| {
        let rows = fleet.ps().daemons;
        let running =
            rows.iter().filter(|row| row.isolation == isolation && row.state == "running");
        running.count()
    };
    wait_for("all are Running", || {
        ((running("native"), running("wos")) == (100, 100)).then_some(())
    });
    let (native, wos) = (running("native"), running("wos"));
    report("F011", &format!("{native} native and {wos} WOS daemons Running"), "100 and 100");
    assert_eq!((native, wos), (100, 100));
    fleet.down();
}

/// The process that a pid file names.
fn named_by(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.strip_suffix('\n')?.parse().ok()
}

/// A daemon with a pid file, `{home}/NAME.pid`.
fn with_pid_file(rest: &str, daemon: impl Fn(&str, &str) -> String, name: &str) -> String {
    daemon(name, &format!("pid_file = \"{{home}}/{name}.pid\"\n{rest}"))
}

#[test]
fn f012_the_pid_file_is_there_when_running_is_said() {
    const AT_ONCE: &str = "[daemon.restart]\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\n";
    let plain = |name: &str, rest: &str| script(name, "exec sleep infinity", rest);
    let daemons = with_pid_file(AT_ONCE, plain, "plain")
        + &with_pid_file(
            &format!("{LOG}{AT_ONCE}"),
            |name, rest| linked(name, "flaky", rest),
            "linked",
        );
    let mut fleet = Fleet::new("f012", &daemons);
    let file = |fleet: &Fleet, daemon: &str| fleet.home().join(format!("{daemon}.pid"));
    // What lies there already, be it of a process that lives, is not believed: it is this test's.
    for daemon in ["plain", "linked"] {
        fs::write(file(&fleet, daemon), format!("{}\n", std::process::id())).unwrap();
    }
    fleet.start();
    let mut starts = 0;
    while starts < 6 {
        let running = fleet.next_event(|event| event.kind == "running");
        starts += 1;
        // Now, and not a moment later; and by the clock of its file system, not after it was said.
        let file = file(&fleet, &running.daemon);
        let found = named_by(&file).expect("a pid file");
        let written = fs::metadata(&file).unwrap();
        let written_us = written.mtime() * 1_000_000 + written.mtime_nsec() / 1_000;
        assert!(u64::try_from(written_us).unwrap() <= running.time_unix_us, "{running:?}");
        let row = fleet.row(&running.daemon);
        assert_eq!((Some(found), running.incarnation), (row.pid, row.incarnation), "{row:?}");
        if running.incarnation < 3 {
            let _ = Process::of(found).kill();
        }
    }
    report("F012", "3 starts of 2 daemons, the last two after kill -9", "exists, with the pid");
    fleet.down();
}

#[test]
fn f013_the_pid_file_is_removed_at_every_end() {
    let never = "[daemon.restart]\npolicy = \"never\"\n";
    let daemon =
        |name: &str, text: &str| with_pid_file(never, |name, rest| script(name, text, rest), name);
    let sleep = "exec sleep infinity";
    let daemons = ["stopped", "killed", "foreign", "of-keep", "of-manager", "down"]
        .map(|name| daemon(name, sleep))
        .concat()
        + &daemon("exits", "read x < {home}/go; exit 0")
        + &daemon("crashes", "read x < {home}/go; kill -SEGV $$");
    let mut fleet = Fleet::new("f013", &daemons);
    assert!(
        Outcome::of(std::process::Command::new("mkfifo").arg(fleet.home().join("go"))).code
            == Some(0)
    );
    let file = |fleet: &Fleet, daemon: &str| fleet.home().join(format!("{daemon}.pid"));
    let is_its = |fleet: &Fleet, daemon: &str| {
        let row = fleet.wait_state(daemon, "running");
        assert_eq!(named_by(&file(fleet, daemon)), row.pid, "{daemon}");
        row.pid.unwrap()
    };
    // Nobody is there when an end is told but the file was not removed before.
    let is_gone = |fleet: &Fleet, daemon: &str, state: &str| {
        fleet.wait_state(daemon, state);
        assert!(!file(fleet, daemon).exists(), "{daemon}: {}", fleet.story());
    };
    fleet.start();
    for name in ["stopped", "killed", "foreign", "exits", "crashes"] {
        is_its(&fleet, name);
    }
    fleet.run(&["stop", "stopped"]).done();
    is_gone(&fleet, "stopped", "stopped");
    let _ = Process::of(is_its(&fleet, "killed")).kill();
    is_gone(&fleet, "killed", "failed");
    // Both readers have opened it, or open it while it is open here.
    let mut go = fs::File::options().read(true).write(true).open(fleet.home().join("go")).unwrap();
    std::io::Write::write_all(&mut go, b"go\ngo\n").unwrap();
    is_gone(&fleet, "exits", "stopped");
    is_gone(&fleet, "crashes", "failed");

    // What somebody else wrote there is neither believed nor removed: this test is not ended.
    let its = Process::of(is_its(&fleet, "foreign"));
    let mine = format!("{}\n", std::process::id());
    fs::write(file(&fleet, "foreign"), &mine).unwrap();
    fleet.run(&["stop", "foreign"]).done();
    assert!(its.ends_within(Duration::ZERO));
    assert_eq!(fs::read_to_string(file(&fleet, "foreign")).unwrap(), mine);

    // Those who remove it are killed themselves: `keep`, then the manager.
    is_its(&fleet, "of-keep");
    let of_keep = |process: &Process| process.command().contains("duende keep");
    let keep = fleet.processes().into_iter().find(of_keep).expect("keep runs");
    let _ = keep.kill();
    is_gone(&fleet, "of-keep", "failed");
    fleet.run(&["start", "of-manager"]).done();
    is_its(&fleet, "of-manager");
    fleet.kill_manager();
    assert!(!file(&fleet, "of-manager").exists());

    fleet.start();
    is_its(&fleet, "down");
    fleet.down();
    assert!(!file(&fleet, "down").exists());
    let ends = "stop, exit, SIGSEGV, kill -9, keep killed, manager killed, down";
    report("F013", ends, "file does not exist");
}

#[test]
fn f014_a_double_start_is_an_error() {
    let daemons = linked("native", "flaky", LOG) + &component("wos", "flaky", LOG);
    let mut fleet = Fleet::up("f014", &daemons);
    for daemon in ["native", "wos"] {
        let before = fleet.wait_state(daemon, "running");
        let failure = fleet.run(&["start", daemon]).refused(7);
        assert!(failure.error.message.contains("started already"), "{failure:?}");
        let after = fleet.row(daemon);
        let instance = |row: &duende_tests::rows::Row| (row.pid, row.incarnation);
        assert_eq!(instance(&after), instance(&before));
    }
    report("F014", "exit code 7, one instance", "an error, one instance");
    fleet.down();
}

#[test]
fn f015_a_double_stop_is_fine() {
    let daemons = linked("native", "flaky", LOG) + &component("wos", "flaky", LOG);
    let mut fleet = Fleet::up("f015", &daemons);
    for daemon in ["native", "wos"] {
        fleet.wait_state(daemon, "running");
        for _ in 0..2 {
            fleet.run(&["stop", daemon]).done();
            assert_eq!(fleet.row(daemon).state, "stopped");
        }
        assert_eq!(fleet.events().iter().filter(|event| event.is(daemon, "stopped")).count(), 1);
    }
    report("F015", "exit code 0 both times", "idempotent");
    fleet.down();
}

/// It says that something outside is missing, and is not tried again soon.
const LACKING: &str = "[daemon.restart]\nbackoff_initial = \"1h\"\nbackoff_max = \"1h\"\n\
                       [daemon.config]\nmode = \"later\"\n";

#[test]
fn f016_status_in_every_state() {
    let hang = |verb: &str| {
        format!(
            "{LOG}slice_budget = \"600s\"\nstart_timeout = \"600s\"\nstop_grace = \"600s\"\n\
             [daemon.health]\nperiod = \"600s\"\n[daemon.config]\nmode = \"hang\"\nverb = \"{verb}\"\n"
        )
    };
    let crash = |restart: &str| {
        format!("{LOG}[daemon.restart]\n{restart}\n[daemon.config]\nmode = \"crash\"\n")
    };
    let daemons = component("starting", "flaky", &hang("init"))
        + &component("waiting", "flaky", "grant = [\"log\"]\ndepends_on = [\"starting\"]")
        + &component("running", "flaky", LOG)
        + &component("stopping", "flaky", &hang("shutdown"))
        + &component("stopped", "flaky", "grant = [\"log\"]\n[daemon.config]\nmode = \"exit\"\n")
        + &component("backoff", "flaky", &crash("backoff_initial = \"1h\"\nbackoff_max = \"1h\""))
        + &component("failed", "flaky", &(crash("policy = \"never\"") + "verb = \"init\"\n"))
        + &component("quarantined", "flaky", &crash("limit = 0"))
        + &component("blocked", "flaky", "grant = [\"log\"]\ndepends_on = [\"failed\"]")
        + &component("lacking", "flaky", LACKING)
        + &component("paused", "flaky", LOG)
        // It never gets as far as to read a new configuration.
        + &component("reloading", "flaky", &format!("reload_timeout = \"600s\"\n{}", hang("run")));
    let mut fleet = Fleet::new("f016", &daemons);
    fleet.start();
    for daemon in ["stopping", "paused", "reloading"] {
        fleet.wait_state(daemon, "running");
    }
    fleet.run(&["pause", "paused"]).done();
    // These are not done while the test looks.
    let mut asked = [["stop", "stopping"], ["reload", "reloading"]].map(|verb| {
        fleet.command(&verb).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    // Of the words that there are, `created` is the one that nobody sees: `up` starts all daemons before it
    // answers.
    let states = [
        ("waiting", "waiting"),
        ("lacking", "waiting"),
        ("blocked", "blocked"),
        ("starting", "starting"),
        ("running", "running"),
        ("reloading", "reloading"),
        ("paused", "paused"),
        ("stopping", "stopping"),
        ("stopped", "stopped"),
        ("backoff", "backoff"),
        ("failed", "failed"),
        ("quarantined", "quarantined"),
    ];
    for (daemon, state) in states {
        fleet.wait_state(daemon, state);
    }
    // Each on its own, by `status`, with all the others in their states.
    for (daemon, state) in states {
        let rows =
            fleet.run(&["status", daemon]).done().json::<duende_tests::rows::Table>().daemons;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].name.as_str(), rows[0].state.as_str()), (daemon, state));
    }
    assert_eq!(fleet.row("waiting").waits_for, ["starting"]);
    assert_eq!(fleet.row("blocked").waits_for, ["failed"]);
    assert_eq!(fleet.row("reloading").incarnation, 1);
    let distinct: std::collections::BTreeSet<_> = states.iter().map(|(_, state)| state).collect();
    assert_eq!(distinct.len(), 11);
    report("F016", "11 states, by `ps` and by `status`", "a valid state");
    // What hangs is killed when asked twice.
    let manager = Process::of(fleet.manager().id());
    manager.signal(Signal::TERM);
    fleet.next("running", "stopping");
    manager.signal(Signal::TERM);
    assert_eq!(fleet.wait_end(), Some(0), "{}", fleet.story());
    for verb in &mut asked {
        verb.wait().unwrap();
    }
    fleet.assert_empty();
}

#[test]
fn f017_logs_at_the_configured_destination() {
    let daemons = format!(
        "log_dir = \"{{home}}/elsewhere\"\n{}{}",
        script("native", "echo to the log; echo and an error >&2; exec sleep infinity", ""),
        component("wos", "flaky", LOG)
    );
    let mut fleet = Fleet::up("f017", &daemons);
    for (daemon, lines) in [
        ("native", &["stdout to the log", "stderr and an error"][..]),
        ("wos", &["here, after 0 slices"]),
    ] {
        let file = fleet.home().join("elsewhere").join(format!("{daemon}.log"));
        for line in lines {
            wait_for(line, || fs::read_to_string(&file).ok()?.contains(line).then_some(()));
            let text = line.trim_start_matches("stdout ").trim_start_matches("stderr ");
            let shown = fleet.run(&["logs", daemon]).done().stdout;
            assert!(shown.contains(text), "{shown}");
        }
    }
    report("F017", "standard output, standard error and `log` in log_dir", "present");
    fleet.down();
}

/// The size at which a log is rotated.
const LOG_BYTES_MAX: u64 = 16 << 20;

#[test]
fn f018_logs_are_rotated_by_their_size() {
    // 142 bytes a line in the log: more than one file holds, and less than two.
    const LINES: u64 = 160_000;
    let text = "x".repeat(87);
    let native =
        script("native", &format!("seq -f 'line %07.0f {text}' {LINES}; exec sleep infinity"), "");
    let daemons =
        format!("log_dir = \"{{home}}/logs\"\n{native}{}", component("wos", "flaky", LOG));
    let mut fleet = Fleet::new("f018", &daemons);
    let logs = fleet.home().join("logs");
    let [file, old] = ["native.log", "native.log.1"].map(|name| logs.join(name));
    // A component says little: its log is nearly full already.
    fs::create_dir(&logs).unwrap();
    let line = "2026-11-21T09:07:29.123456Z info  log    before\n";
    let before = line.repeat(usize::try_from(LOG_BYTES_MAX).unwrap() / line.len());
    fs::write(logs.join("wos.log"), &before).unwrap();
    fleet.start();
    let last = format!("line {LINES:07} ");
    wait_for("the last line", || fs::read_to_string(&file).ok()?.contains(&last).then_some(()));
    let [archived, new] = [&old, &file].map(|file| fs::read_to_string(file).unwrap());
    let sizes = [archived.len(), new.len()].map(|bytes| bytes as u64);
    // The old one is full but for less than a batch, and none is longer than it may be.
    assert!((LOG_BYTES_MAX - (128 << 10)..=LOG_BYTES_MAX).contains(&sizes[0]), "{sizes:?}");
    assert!(sizes[1] <= LOG_BYTES_MAX, "{sizes:?}");
    // Every line is in one of the two, once and in its place.
    let number = |line: &str| -> Option<u64> {
        line.split_once(" stdout line ")?.1.split(' ').next()?.parse().ok()
    };
    let numbers = archived.lines().chain(new.lines()).filter_map(number);
    assert!(numbers.eq(1..=LINES), "lines were lost, doubled or moved");
    let shown = fleet.run(&["logs", "native", "--lines", "1"]).done().stdout;
    assert!(shown.contains(&last), "{shown}");

    wait_for("the log of a component", || {
        let new = fs::read_to_string(logs.join("wos.log")).ok()?;
        (new.contains("here, after 0 slices") && !new.contains("before")).then_some(())
    });
    assert!(fs::read_to_string(logs.join("wos.log.1")).unwrap() == before, "it was not archived");
    for daemon in ["native", "wos"] {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let files = fs::read_dir(&logs).unwrap().flatten().map(name);
        let mut files: Vec<_> = files.filter(|name| name.starts_with(daemon)).collect();
        files.sort();
        assert_eq!(files, [format!("{daemon}.log"), format!("{daemon}.log.1")]);
    }
    let [old, new] = sizes.map(|bytes| bytes >> 10);
    let measured = format!("{LINES} lines: {old} KiB archived, {new} KiB new, none lost");
    report("F018", &measured, "old logs archived, new file created");
    fleet.down();
}

#[test]
fn f019_environments_are_isolated() {
    let print = "env > {home}/$0.env; exec sleep infinity";
    let with = script("with", &print.replace("$0", "with"), "env = { DUENDE_F019 = \"secret\" }");
    let without = script("without", &print.replace("$0", "without"), "");
    // What a daemon sets itself stays with it too.
    let sets = script("sets", "export DUENDE_F019=own; exec sleep infinity", "");
    let mut fleet = Fleet::up("f019", &(with + &without + &sets));
    let has = |daemon: &str| {
        let file = fleet.home().join(format!("{daemon}.env"));
        let whole = |text: &String| text.contains("PATH=");
        let text = wait_for("its environment", || fs::read_to_string(&file).ok().filter(whole));
        text.contains("DUENDE_F019=secret")
    };
    assert!(has("with"));
    assert!(!has("without"));
    let leaked: Vec<_> = fleet
        .processes()
        .iter()
        .filter(|process| process.variable("DUENDE_F019").as_deref() == Some("secret"))
        .map(|process| process.pid)
        .collect();
    // Neither manager, nor keep, nor another daemon: only the one that was given it.
    assert_eq!(leaked, [fleet.row("with").pid.unwrap()]);
    assert!(std::env::var_os("DUENDE_F019").is_none());
    report("F019", "one process of the fleet has it, its daemon", "host unchanged");
    fleet.down();
}

#[test]
fn f020_the_working_directory_is_configurable() {
    let given =
        script("given", "pwd > there; exec sleep infinity", "working_dir = \"{home}/deep/er\"");
    // Without it: the directory of the configuration file.
    let default = script("default", "pwd > here; exec sleep infinity", "");
    let mut fleet = Fleet::new("f020", "");
    fs::create_dir_all(fleet.home().join("deep/er")).unwrap();
    fleet.configure(&(given + &default));
    fleet.start();
    let home = fs::canonicalize(fleet.home()).unwrap();
    for (file, directory) in [("deep/er/there", home.join("deep/er")), ("here", home.clone())] {
        let said = wait_for(file, || {
            fs::read_to_string(home.join(file)).ok().filter(|text| text.ends_with('\n'))
        });
        assert_eq!(said.trim_end(), directory.to_str().unwrap());
    }
    report("F020", "files are relative to working_dir", "relative to cwd");
    fleet.down();
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
fn f095_the_binary_runs_on_linux() {
    let began = Instant::now();
    let bytes = fs::read(program("duende")).unwrap();
    // ELF, 64 bit, little endian; machine 62 is x86-64.
    assert_eq!(&bytes[..6], b"\x7fELF\x02\x01");
    assert_eq!(u16::from_le_bytes([bytes[18], bytes[19]]), 62);
    let home = tempfile::TempDir::new().unwrap();
    let version = Outcome::of(duende(home.path()).arg("--version")).done().stdout;
    assert_eq!(version.trim_end(), format!("duende {}", env!("CARGO_PKG_VERSION")));
    let doctor = Outcome::of(duende(home.path()).args(["--json", "doctor"])).done();
    assert!(doctor.json::<serde_json::Value>().is_object());
    report("F095", &format!("x86-64 ELF, executed in {:.1?}", began.elapsed()), "executes");
}
