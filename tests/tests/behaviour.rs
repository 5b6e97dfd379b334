//! How the whole program behaves: nothing is lost, nothing is left behind, orders are obeyed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use duende_tests::rows::{Event, Table};
use duende_tests::{
    AccessLog, Fleet, Outcome, Process, TIMEOUT, artifact, component, duende, line, linked,
    program, script, wait_for,
};
use rustix::process::Signal;

const LOG: &str = "grant = [\"log\"]\n";
/// A sentinel that follows the fleet's access log, however often it is killed.
const SENTINEL: &str = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                        [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n\
                        [daemon.restart]\nbackoff_initial = \"5ms\"\nbackoff_max = \"5ms\"\nwindow = \"0s\"\n";

fn sentinels() -> String {
    linked("native", "log-sentinel", SENTINEL) + &component("wos", "log-sentinel", SENTINEL)
}

#[test]
fn lines_are_counted_once_over_kills_and_rotations() {
    const ROUNDS: u64 = 40;
    let mut fleet = Fleet::new("exact", &sentinels());
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    fleet.start();
    // From the first commit on, a sentinel's place in the log is durable.
    log.write(1);
    for sentinel in ["native", "wos"] {
        fleet.wait_row(sentinel, |row| row.count("requests_total") == 1);
    }
    let mut kills = 0;
    for round in 0..ROUNDS {
        // Not a multiple of a slice's share, so that slices end anywhere in it.
        log.write(700 + 37 * round);
        if round % 5 == 4 {
            log.rotate();
        }
        let (sentinel, process) = match round % 4 {
            0 | 2 => ("native", fleet.wait_row("native", |row| row.pid.is_some()).pid),
            1 => ("wos", fleet.wait_row("wos", |row| row.worker_pid.is_some()).worker_pid),
            _ => continue,
        };
        if let Some(pid) = process {
            let _ = Process::of(pid).kill();
            kills += 1;
            fleet.next(sentinel, "exited");
        }
    }
    assert!(kills >= 20, "only {kills} kills hit a process");
    for sentinel in ["native", "wos"] {
        // Two more lines would be seen as well as two too few: a count that is passed never comes back.
        let row = fleet.wait_row(sentinel, |row| row.count("requests_total") >= log.lines);
        assert_eq!(row.count("requests_total"), log.lines, "{sentinel}");
        assert_eq!(row.count("errors_total"), log.lines / 10, "{sentinel}");
        assert_eq!(row.count("bytes_total"), log.lines * 10, "{sentinel}");
        assert_eq!(row.count("malformed_total"), 0, "{sentinel}");
    }
    // Nothing more comes: the next line is the only one that is counted.
    log.write(1);
    for sentinel in ["native", "wos"] {
        let row = fleet.wait_row(sentinel, |row| row.count("requests_total") > log.lines - 1);
        assert_eq!(row.count("requests_total"), log.lines, "{sentinel}");
    }
    assert!(!fleet.events().iter().any(|event| event.kind == "source_gap"));
    fleet.down();
}

#[test]
fn run_reads_standard_input_and_ends_with_it() {
    let home = tempfile::TempDir::new().unwrap();
    let lines: String = (0..5_000).map(|number| line(number, 200)).collect();
    let file = home.path().join("lines");
    fs::write(&file, lines).unwrap();
    let mut run = duende(home.path());
    run.args(["run", "--stdin", "lines"]).arg(artifact("log-sentinel"));
    let outcome = Outcome::of(run.stdin(fs::File::open(&file).unwrap()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let printed: Vec<Vec<&str>> =
        outcome.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(printed.contains(&vec!["requests_total", "5000"]), "{outcome:?}");
    // All of it was counted: that is what the next one finds in its state.
    let mut again = duende(home.path());
    again.args(["--json", "run", "--stdin", "lines"]).arg(artifact("log-sentinel"));
    fs::write(&file, line(5_000, 200)).unwrap();
    let outcome = Outcome::of(again.stdin(fs::File::open(&file).unwrap()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let last: serde_json::Value =
        serde_json::from_str(outcome.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["daemon"], "log-sentinel", "{last}");
    assert_eq!(last["metrics"]["requests_total"], 5_001.0, "{last}");
    let log = home.path().join("state/log-sentinel/log/log-sentinel.log");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("watching, from request 5000 on"), "{log}");
}

#[test]
fn an_interval_feeds_a_channel() {
    // Each message is empty, and names no command.
    let rest = "grant = [\"log\", \"channel:commands\"]\n[daemon.channel.commands]\n\
                from = { interval = \"20ms\" }\n[daemon.config]\ninterval_ms = 600000\n";
    let mut fleet = Fleet::up("interval", &component("d", "flaky", rest));
    let log = fleet.wait_state("d", "running").log_path;
    wait_for("three messages", || {
        let text = fs::read_to_string(&log).ok()?;
        (text.matches("no such command").count() >= 3).then_some(())
    });
    fleet.down();
}

#[test]
fn a_second_copy_of_a_fleet_is_refused_and_harms_nothing() {
    let mut fleet = Fleet::up("twice", &component("d", "flaky", LOG));
    let before = fleet.wait_state("d", "running");
    for arguments in [&["--json", "up"][..], &["--json", "up", "--detach"]] {
        let outcome = Outcome::of(duende(fleet.home()).args(arguments).arg(fleet.file()));
        assert_eq!(outcome.code, Some(6), "{outcome:?}");
        assert!(format!("{outcome:?}").contains("duende down"), "no way out: {outcome:?}");
    }
    let after = fleet.row("d");
    assert_eq!((after.incarnation, after.worker_pid), (before.incarnation, before.worker_pid));
    fleet.down();
}

#[test]
fn nothing_survives_a_killed_manager_and_the_next_one_starts() {
    // Neither a daemon that ignores SIGTERM, nor what it has started, survives.
    let stubborn = script(
        "stubborn",
        "trap \"\" TERM; (trap \"\" TERM; sleep infinity) & while :; do sleep 1; done",
        "stop_grace = \"100ms\"",
    );
    let daemons = linked("native", "flaky", LOG) + &component("wos", "flaky", LOG) + &stubborn;
    let mut fleet = Fleet::up("killed", &daemons);
    for daemon in ["native", "wos", "stubborn"] {
        fleet.wait_state(daemon, "running");
    }
    // Manager, keep, worker, two natives and the one below a native.
    wait_for("all processes", || (fleet.processes().len() >= 7).then_some(()));
    fleet.kill_manager();
    assert!(fleet.socket().exists(), "what is to be replaced is not there");
    assert_eq!(fleet.run(&["ps"]).refused(4).error.kind, "not_running");
    fleet.start();
    for daemon in ["native", "wos", "stubborn"] {
        fleet.wait_state(daemon, "running");
    }
    fleet.down();
}

/// The order of events of a kind.
fn order(events: &[Event], kind: &str) -> Vec<String> {
    events.iter().filter(|event| event.kind == kind).map(|event| event.daemon.clone()).collect()
}

/// In the configuration's order, `a` is last and all depend on it in a chain.
fn chain() -> String {
    component("c", "flaky", "grant = [\"log\"]\ndepends_on = [\"b\"]\n")
        + &linked("b", "flaky", "grant = [\"log\"]\ndepends_on = [\"a\"]\n")
        + &component("a", "flaky", LOG)
}

#[test]
fn dependencies_start_first_and_stop_last() {
    let mut fleet = Fleet::up("order", &chain());
    fleet.wait_state("c", "running");
    // As a terminal's Ctrl-C does.
    Process::of(fleet.manager().id()).signal(Signal::INT);
    assert_eq!(fleet.wait_end(), Some(0), "{}", fleet.story());
    fleet.assert_empty();
    let events = fleet.events();
    assert_eq!(order(events, "running"), ["a", "b", "c"]);
    assert_eq!(order(events, "exited"), ["c", "b", "a"]);
    // Each is ready before the next is started, and gone before the next is asked.
    let place = |daemon: &str, kind: &str| events.iter().position(|event| event.is(daemon, kind));
    assert!(place("a", "running") < place("b", "started"));
    assert!(place("b", "running") < place("c", "started"));
    assert!(place("c", "exited") < place("b", "stopping"));
    assert!(place("b", "exited") < place("a", "stopping"));
    assert!(events.iter().all(|event| !event.detail.contains("killed")), "{events:?}");
}

#[test]
fn a_second_interrupt_kills() {
    let hangs = "grant = [\"log\"]\nstop_grace = \"600s\"\n\
                 [daemon.config]\nmode = \"hang\"\nverb = \"shutdown\"\n";
    let budget = format!("slice_budget = \"600s\"\n{hangs}");
    let stubborn =
        script("plain", "trap \"\" TERM; while :; do sleep 1; done", "stop_grace = \"600s\"");
    let daemons =
        component("wos", "flaky", &budget) + &linked("native", "flaky", hangs) + &stubborn;
    let mut fleet = Fleet::up("interrupt", &daemons);
    for daemon in ["wos", "native", "plain"] {
        fleet.wait_state(daemon, "running");
    }
    let manager = Process::of(fleet.manager().id());
    manager.signal(Signal::INT);
    for daemon in ["wos", "native", "plain"] {
        fleet.wait_state(daemon, "stopping");
    }
    manager.signal(Signal::INT);
    assert_eq!(fleet.wait_end(), Some(0), "{}", fleet.story());
    fleet.assert_empty();
}

#[test]
fn a_detached_fleet_runs_until_it_is_told_to_stop() {
    let fleet =
        Fleet::new("detached", &(linked("native", "flaky", LOG) + &component("wos", "flaky", LOG)));
    let mut up = duende(fleet.home());
    Outcome::of(up.args(["--json", "up", "--detach"]).arg(fleet.file())).done();
    let manager = fleet.ps().fleet;
    assert_eq!(manager.fleet, "detached");
    for daemon in ["native", "wos"] {
        fleet.wait_state(daemon, "running");
    }
    // A session of its own: no terminal can end it.
    let stat = fs::read_to_string(format!("/proc/{}/stat", manager.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[3], manager.pid.to_string(), "its session: {stat}");
    let process = Process::of(manager.pid);
    fleet.run(&["down"]).done();
    assert!(process.ends_within(TIMEOUT));
    wait_for("the end of all", || fleet.processes().is_empty().then_some(()));
    fleet.assert_empty();
    assert_eq!(fleet.run(&["ps"]).refused(4).error.kind, "not_running");
}

/// `up --detach --wait` ends when all are ready; else it says who is not and why, and the fleet runs on.
#[test]
fn a_detached_fleet_is_waited_for() {
    let up = |fleet: &Fleet, rest: &[&str]| {
        let mut up = duende(fleet.home());
        up.args(["--json", "up", "--detach", "--wait"]).args(rest).arg(fleet.file());
        Outcome::of(&mut up)
    };
    let good = script("good", "exec sleep 1000", "");
    let fleet = Fleet::new("waited", &good);
    up(&fleet, &[]).done();
    assert_eq!(fleet.row("good").state, "running");
    fleet.run(&["down"]).done();

    let bad = script("bad", "echo no port; exit 3", "restart.policy = \"never\"");
    let fleet = Fleet::new("waited2", &(good.clone() + &bad));
    let failure = up(&fleet, &[]).refused(7).error;
    assert!(
        failure.message.contains("bad") && failure.message.contains("exit code 3"),
        "{failure:?}"
    );
    assert_eq!(fleet.row("good").state, "running");
    fleet.run(&["down"]).done();

    let slow = script("slow", "exec sleep 1000", "ready = \"notify\"");
    let fleet = Fleet::new("waited3", &(good + &slow));
    let failure = up(&fleet, &["--timeout", "1s"]).refused(7).error;
    assert!(failure.message.contains("slow is starting"), "{failure:?}");
    assert!(!failure.message.contains("good"), "{failure:?}");
    fleet.run(&["down"]).done();
    wait_for("the end of all", || fleet.processes().is_empty().then_some(()));
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    let mut fleet = Fleet::up("mine", &component("d", "flaky", LOG));
    fleet.wait_state("d", "running");
    let (socket, directory) = (fleet.socket(), fleet.home().join("run"));
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
    // Daemons of root's fleet may run as others, and pass it on their way to another socket.
    let root = rustix::process::geteuid().is_root();
    let expected = if root { 0o711 } else { 0o700 };
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, expected);

    // Were the modes wrong, the credentials would still be looked at.
    for path in [fleet.home(), &directory] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let answer = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody)
            .expect("this test becomes another user for a moment: run the tests as root");
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let answer = answer.join().unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("user 65534 may not control this fleet"), "{text}");
    fleet.down();
}

#[test]
fn rubbish_on_the_control_socket_harms_its_sender_only() {
    let mut fleet = Fleet::up("rubbish", &component("d", "flaky", LOG));
    fleet.wait_state("d", "running");
    for rubbish in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100_000], &[0; 64], b""] {
        let mut stream = UnixStream::connect(fleet.socket()).unwrap();
        // It may have been closed on us before all was written.
        let _ = stream.write_all(rubbish);
    }
    assert_eq!(fleet.row("d").incarnation, 1);
    fleet.down();
}

#[test]
fn a_program_says_itself_when_it_is_ready() {
    let home = tempfile::TempDir::new().unwrap();
    let fifo = home.path().join("go");
    // Nobody is ready before webd has said so; what depends on it waits.
    let webd = program("webd");
    let text = format!(
        "[[daemon]]\nname = \"web\"\nready = \"notify\"\ncommand = [\"sh\", \"-c\", '''mkfifo {fifo}; read x \
         < {fifo}; exec {webd} --listen 127.0.0.1:0 --root . --access-log access.log''']\n{}",
        component("after", "flaky", "grant = [\"log\"]\ndepends_on = [\"web\"]\n"),
        fifo = fifo.display(),
        webd = webd.display(),
    );
    let mut fleet = Fleet::up("ready", &text);
    let row = fleet.wait_row("web", |row| row.state == "starting" && row.pid.is_some());
    wait_for("the fifo", || fifo.exists().then_some(()));
    assert_eq!(fleet.row("after").waits_for, ["web"]);
    assert!(!fleet.events().iter().any(|event| event.kind == "running"));
    fs::write(&fifo, "go\n").unwrap();
    let ready = fleet.next("web", "running");
    let started = fleet.next("after", "started");
    assert!(ready.time_unix_us <= started.time_unix_us);
    assert_eq!(fleet.wait_state("web", "running").pid, row.pid);
    fleet.wait_state("after", "running");
    fleet.down();
}

#[test]
fn a_follower_sees_events_and_a_closed_pipe_is_no_failure() {
    let mut fleet = Fleet::up("follow", &component("d", "flaky", LOG));
    fleet.wait_state("d", "running");
    let mut follower = fleet.command(&["events"]);
    let mut follower = follower.arg("--follow").stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = std::io::BufReader::new(follower.stdout.take().unwrap());
    let mut next = |wanted: &str| {
        loop {
            let mut text = String::new();
            std::io::BufRead::read_line(&mut seen, &mut text).unwrap();
            let event: Event = serde_json::from_str(&text).unwrap();
            if event.is("d", wanted) {
                return event;
            }
        }
    };
    assert_eq!(next("running").incarnation, 1);
    fleet.run(&["restart", "d"]).done();
    assert_eq!(next("running").incarnation, 2);
    drop(seen);
    let ended = wait_for("the end of the follower", || follower.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    let table: Table = fleet.run(&["status"]).done().json();
    // An operator's restart is none that a failure made.
    assert_eq!(table.daemons[0].restarts, 0);
    fleet.down();
}

#[test]
fn kernel_events_stand_beside_the_records() {
    let daemons = script("plain", "exec sleep infinity", "");
    let mut fleet = Fleet::up("kernel", &daemons);
    let told = |event: &Event| serde_json::to_string(&event.kernel).unwrap();
    let running = fleet.next("plain", "running");
    assert_eq!(told(&running), r#"{"ok":true,"service":"plain","type":"Health"}"#);
    let _ = Process::of(fleet.wait_state("plain", "running").pid.unwrap()).kill();
    let judged = fleet.next("plain", "backoff");
    let crashed = r#"{"reason":"killed by SIGKILL","service":"plain","type":"ServiceCrashed"}"#;
    assert_eq!(told(&judged), crashed);
    // What operators ask for is no crash.
    fleet.next("plain", "running");
    fleet.run(&["stop", "plain"]).done();
    assert_eq!(told(&fleet.next("plain", "stopped")), "null");
    fleet.down();
    let end = fleet.events().iter().find(|event| event.kind == "shutdown").expect("it was said");
    assert_eq!(told(end), r#"{"type":"Shutdown"}"#);
}

/// What others use to reopen logs or to dump something ends no fleet; SIGQUIT asks for the end.
#[test]
fn a_signal_without_a_meaning_ends_no_fleet() {
    let mut fleet = Fleet::up("signals", &script("d", "exec sleep infinity", ""));
    fleet.wait_state("d", "running");
    let manager = Process::of(fleet.manager().id());
    for signal in [Signal::USR1, Signal::USR2, Signal::ALARM] {
        manager.signal(signal);
        assert_eq!(fleet.row("d").state, "running");
    }
    let log = fleet.home().join("state").join("signals").join("log/duende.log");
    wait_for("its log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.matches("means nothing here").count() == 3).then_some(())
    });
    manager.signal(Signal::QUIT);
    assert_eq!(fleet.wait_end(), Some(0));
    fleet.assert_empty();
}

/// Killed together, manager and `keep` can end nobody. The next `up` does, before it starts anything.
#[test]
fn whoever_outlived_manager_and_keep_is_ended_by_the_next_one() {
    let stubborn = "trap '' TERM; setsid sleep infinity & while :; do sleep 0.05; done";
    let mut fleet = Fleet::up("orphans", &script("d", stubborn, "stop_grace = \"300ms\"\n"));
    fleet.wait_state("d", "running");
    let sleepers = |fleet: &Fleet| -> Vec<Process> {
        let sleeps = |process: &Process| process.command().starts_with("sleep infinity");
        fleet.processes().into_iter().filter(sleeps).collect()
    };
    wait_for("what leads a session of its own", || (sleepers(&fleet).len() == 1).then_some(()));
    let old = sleepers(&fleet).remove(0);
    let is_keep = |process: &Process| process.command().split(' ').nth(1) == Some("keep");
    let keep = fleet.processes().into_iter().find(is_keep).expect("keep");
    let manager = Process::of(fleet.manager().id());
    // Stopped first: neither sees the end of the other.
    for process in [&keep, &manager] {
        process.signal(Signal::STOP);
    }
    for process in [&keep, &manager] {
        process.signal(Signal::KILL);
    }
    fleet.wait_end();
    fleet.start();
    fleet.wait_state("d", "running");
    assert!(old.ends_within(std::time::Duration::ZERO), "it runs beside its successor");
    wait_for("its successor", || (sleepers(&fleet).len() == 1).then_some(()));
    fleet.down();
}
