//! Claims of the specification, each one test named after it and at its own criterion. Those whose
//! criterion is a matter of milliseconds are in `claims_timed.rs`.
//!
//! A test that measures prints its figure; `cargo xtask falsify` runs these tests, one at a time, and
//! shows the table.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use duende_tests::{
    AccessLog, Fleet, Outcome, Process, component, duende, linked, program, report, script,
    unpacked, wait_for,
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
        + &component("failed", "flaky", &crash("policy = \"never\""))
        + &component("quarantined", "flaky", &crash("limit = 0"));
    let mut fleet = Fleet::up("f016", &daemons);
    fleet.wait_state("stopping", "running");
    let mut stop = fleet.command(&["stop", "stopping"]).stdout(Stdio::null()).spawn().unwrap();
    let states = [
        ("waiting", "waiting"),
        ("starting", "starting"),
        ("running", "running"),
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
    report("F016", "8 of 8 states, by `ps` and by `status`", "a valid state");
    // What hangs is killed when asked twice.
    let manager = Process::of(fleet.manager().id());
    manager.signal(Signal::TERM);
    fleet.next("running", "stopping");
    manager.signal(Signal::TERM);
    assert_eq!(fleet.wait_end(), Some(0), "{}", fleet.story());
    stop.wait().unwrap();
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

/// Debian's libfaketime: as `cargo xtask setup` unpacked it, or the machine's.
fn libfaketime() -> PathBuf {
    let bases = [unpacked("faketime").join("usr/lib"), "/usr/lib".into()];
    let dirs = bases.iter().flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten());
    let mut found = dirs.map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    found
        .find(|path| path.is_file())
        .expect("no libfaketime: `cargo xtask setup` fetches it, or says why not")
}

#[test]
fn f101_a_clock_that_jumps_back_hangs_no_daemon() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let quick = "[daemon.health]\nperiod = \"50ms\"\n\
                 [daemon.restart]\nbackoff_initial = \"5ms\"\nbackoff_max = \"5ms\"\n";
    let sentinel = format!("{SENTINEL}{quick}");
    let daemons = linked("native", "log-sentinel", &sentinel)
        + &component("wos", "log-sentinel", &sentinel)
        + &script("plain", "exec sleep infinity", "");
    let mut fleet = Fleet::new("f101", &daemons);
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    let clock = fleet.home().join("clock");
    let set_clock = |offset: &str| {
        // Renamed, so that nobody reads half of it.
        let next = clock.with_extension("next");
        fs::write(&next, offset).unwrap();
        fs::rename(&next, &clock).unwrap();
    };
    set_clock("+0");
    fleet.start_with(&[
        ("LD_PRELOAD", libfaketime().to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // The time of day jumps. No system lets its monotonic clock do so.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    log.write(100);
    for sentinel in ["native", "wos"] {
        fleet.wait_row(sentinel, |row| row.count("requests_total") == 100);
    }
    let running = fleet.next("plain", "running");
    set_clock("-1h");

    // What runs goes on: lines are counted, and no health check fails.
    log.write(100);
    for sentinel in ["native", "wos"] {
        let row = fleet.wait_row(sentinel, |row| {
            row.count("requests_total") == 200 && row.health == "healthy"
        });
        assert_eq!(row.incarnation, 1, "{row:?}");
    }
    // What ends is started again, after its backoff of milliseconds.
    let began = Instant::now();
    for daemon in ["native", "plain"] {
        let _ = Process::of(fleet.row(daemon).pid.unwrap()).kill();
        fleet.wait_row(daemon, |row| row.incarnation == 2 && row.state == "running");
    }
    let _ = Process::of(fleet.row("wos").worker_pid.unwrap()).kill();
    fleet.wait_row("wos", |row| row.incarnation == 2 && row.state == "running");
    let took = began.elapsed();
    // The clock did jump, for the manager at least.
    let again = loop {
        let event = fleet.next("plain", "running");
        if event.incarnation == 2 {
            break event;
        }
    };
    let back = between(again.time_unix_us, running.time_unix_us);
    assert!(back > HOUR - Duration::from_secs(60), "only {back:?} back");
    log.write(100);
    for sentinel in ["native", "wos"] {
        fleet.wait_row(sentinel, |row| row.count("requests_total") == 300);
    }
    fleet.down();

    // The core's clock is injected, so even that one can step back: nothing that runs is disturbed by
    // it, and what fails comes back once the clock has made up for the step.
    let back = supervisor_after_a_jump(HOUR);
    assert!((HOUR..HOUR + Duration::from_secs(1)).contains(&back), "{back:?}");
    report(
        "F101",
        &format!("3 restarts in {took:.1?} after the jump"),
        "daemon continues, no hang",
    );
}

/// How long after its clock has stepped back a supervisor starts a daemon again that crashes then. It
/// must not touch one that runs.
fn supervisor_after_a_jump(step: Duration) -> Duration {
    use duende_core::restart::Exit;
    use duende_core::supervise::{Effect, Input, Slot, Spec, Supervisor};
    use duende_core::time::Instant as Clock;

    let mut supervisor = Supervisor::new([const { Slot::EMPTY }; 1]);
    let id = supervisor.add(Spec::default()).unwrap();
    let (mut spawned, mut ended) = (0, 0);
    let mut tell = |now: Clock, input| {
        supervisor
            .handle(now, u64::MAX, input, &mut |effect| match effect {
                Effect::Spawn { incarnation, .. } => spawned = incarnation,
                Effect::Terminate { .. } | Effect::Kill { .. } => ended += 1,
                _ => {}
            })
            .unwrap();
        assert_eq!((ended, supervisor.check_invariants()), (0, Ok(())));
        (spawned, supervisor.next_deadline())
    };
    let late = Clock::ZERO.saturating_add(2 * step);
    tell(late, Input::Start(id));
    tell(late, Input::Ready { id, incarnation: 1 });
    let early = Clock::ZERO.saturating_add(step);
    tell(early, Input::Tick);
    tell(early, Input::Exited { id, incarnation: 1, exit: Exit::Signal(11) });
    let mut now = early;
    loop {
        let (spawned, deadline) = tell(now, Input::Tick);
        if spawned == 2 {
            return now.saturating_since(early);
        }
        now = deadline.expect("it is to be started again").max(now);
    }
}
