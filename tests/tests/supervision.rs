//! What the configuration says about failures, and what operators do to what runs: as the real
//! program does it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::fs;

use duende_tests::rows::Row;
use duende_tests::{AccessLog, Fleet, Process, component, linked, program, script, wait_for};
use rustix::process::Signal;

/// A sentinel that follows the fleet's access log.
const SENTINEL: &str = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                        [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n";
/// Restarts follow at once.
const AT_ONCE: &str = "[daemon.restart]\nbackoff = \"constant\"\nbackoff_initial = \"0s\"\n";
const SLEEP: &str = "exec sleep infinity";

#[test]
fn what_is_paused_does_nothing_until_it_is_resumed() {
    let daemons = linked("native", "log-sentinel", SENTINEL)
        + &component("wos", "log-sentinel", SENTINEL)
        + &script("plain", SLEEP, "");
    let mut fleet = Fleet::new("pause", &daemons);
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    fleet.start();
    log.write(10);
    for sentinel in ["native", "wos"] {
        fleet.wait_row(sentinel, |row| row.count("requests_total") == 10);
    }
    let running: Vec<Row> =
        ["native", "wos", "plain"].map(|daemon| fleet.wait_state(daemon, "running")).into();
    fleet.run(&["pause", "native", "wos", "plain"]).done();
    for row in &running {
        assert_eq!(fleet.row(&row.name).state, "paused");
        if row.isolation == "native" {
            let process = Process::of(row.pid.expect("it runs"));
            wait_for("SIGSTOP", || (process.state() == 'T').then_some(()));
        }
    }
    // Twice is once; what does not run can't be paused.
    fleet.run(&["pause", "plain"]).done();
    log.write(10);
    // A third sentinel, that is not paused, would have counted by the time that this one has.
    fleet.run(&["resume", "wos"]).done();
    fleet.wait_row("wos", |row| row.count("requests_total") == 20);
    assert_eq!(fleet.row("native").count("requests_total"), 10);
    fleet.run(&["resume", "native"]).done();
    let row = fleet.wait_row("native", |row| row.count("requests_total") == 20);
    assert_eq!(row.incarnation, 1);
    let refused = fleet.run(&["resume", "native"]).refused(7);
    assert!(refused.error.message.contains("can't be resumed"), "{refused:?}");
    // What is held still can be stopped.
    fleet.run(&["stop", "plain"]).done();
    assert_eq!(fleet.row("plain").state, "stopped");
    fleet.down();
}

#[test]
fn a_reload_changes_what_runs() {
    let config = |ratio: &str| {
        component(
            "wos",
            "log-sentinel",
            &format!("{SENTINEL}[daemon.config]\nerror_ratio_alert = {ratio}\n"),
        ) + &script(
            "plain",
            "trap 'echo reloaded >> reloads' HUP; : > ready; while :; do sleep 0.05; done",
            "",
        )
    };
    let mut fleet = Fleet::new("reload", &config("0.5"));
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    fleet.start();
    fleet.wait_state("wos", "running");
    // One in ten fails, which is below the threshold.
    log.write(100);
    fleet.wait_row("wos", |row| row.count("requests_total") == 100);
    let logged = |fleet: &Fleet| fs::read_to_string(fleet.row("wos").log_path).unwrap();
    assert!(!logged(&fleet).contains("is above"), "{}", logged(&fleet));
    let ready = fleet.home().join("ready");
    wait_for("the trap", || ready.exists().then_some(()));
    fleet.run(&["reload", "plain"]).done();
    let reloads = fleet.home().join("reloads");
    wait_for("SIGHUP", || fs::read_to_string(&reloads).ok().filter(|text| text == "reloaded\n"));

    // A file that is not valid changes nothing.
    fleet.configure("[[daemon]]\n");
    let refused = fleet.run(&["reload", "wos"]).refused(7);
    assert!(refused.error.message.contains("nothing was reloaded"), "{refused:?}");
    log.write(10);
    fleet.wait_row("wos", |row| row.count("requests_total") == 110);
    assert!(!logged(&fleet).contains("is above"), "{}", logged(&fleet));
    fleet.configure(&config("0.0625"));
    fleet.run(&["reload", "wos"]).done();
    let updated = fleet.next("", "config_updated");
    let told = serde_json::to_string(&updated.kernel).unwrap();
    assert_eq!(told, r#"{"type":"ConfigUpdated","version":2}"#);
    // The same share is above the new one: it is that one which is at work, in the same incarnation.
    log.write(10);
    wait_for("a warning", || logged(&fleet).contains("requests is above 0.0625").then_some(()));
    let row = fleet.row("wos");
    assert_eq!((row.state.as_str(), row.incarnation), ("running", 1));
    fleet.down();
}

/// The processes of a daemon are counted when somebody looks at it.
#[test]
fn status_counts_the_processes_of_a_daemon() {
    let daemons = "[[daemon]]\nname = \"many\"\ncommand = [\"sh\", \"-c\", \"sleep 1000 & sleep 1000 & wait\"]\n"
        .to_owned()
        + "[[daemon]]\nname = \"one\"\ncommand = [\"sleep\", \"1000\"]\n";
    let mut fleet = Fleet::up("counts", &daemons);
    let status = |fleet: &Fleet, name| {
        let table: duende_tests::rows::Table = fleet.run(&["status", name]).done().json();
        table.daemons[0].processes
    };
    fleet.wait_state("one", "running");
    assert_eq!(status(&fleet, "one"), 1);
    wait_for("the children", || (status(&fleet, "many") == 3).then_some(()));
    fleet.down();
}

/// One that says that it lives outlives the other, which does not, as often as that is killed; and when it says
/// so no more it is killed too.
#[test]
fn a_watchdog_that_is_fed_keeps_its_daemon() {
    let watchdog = format!("watchdog = \"200ms\"\n{AT_ONCE}window = \"0s\"\n");
    let fed = format!(
        "[[daemon]]\nname = \"fed\"\ncommand = [\"{}\", \"feed\", \"20\", \"{{home}}/fed\"]\n{watchdog}",
        program("puppet").display()
    );
    let mut fleet = Fleet::up("watchdog", &(fed + &script("silent", SLEEP, &watchdog)));
    // Five kills, one after the other, are five whole periods at least.
    for incarnation in 1..=5 {
        let killed = fleet.next("silent", "unhealthy");
        assert_eq!(killed.incarnation, incarnation);
        assert!(killed.detail.contains("no WATCHDOG=1 for 200 ms"), "{killed:?}");
    }
    let row = fleet.wait_row("silent", |row| row.incarnation == 6 && row.state == "running");
    assert_eq!(row.restarts, 5, "{row:?}");
    let row = fleet.row("fed");
    assert_eq!((row.state.as_str(), row.incarnation), ("running", 1), "{}", fleet.story());
    // Often enough for five periods.
    let said = fs::metadata(fleet.home().join("fed")).unwrap().len();
    assert!(said >= 5, "only {said} signs of life");
    Process::of(row.pid.unwrap()).signal(Signal::STOP);
    let killed = fleet.next("fed", "unhealthy");
    assert!(killed.detail.contains("no WATCHDOG=1 for 200 ms"), "{killed:?}");
    fleet.wait_row("fed", |row| row.incarnation == 2 && row.state == "running");
    fleet.down();
}

#[test]
fn a_group_restarts_together() {
    let group = "[[group]]\nname = \"pair\"\nstrategy = \"one-for-all\"\nrestarts = 5\n";
    let member = format!("member_of = \"pair\"\n{AT_ONCE}");
    let daemons = group.to_owned()
        + &script("a", SLEEP, &member)
        + &script("b", SLEEP, &member)
        + &script("alone", SLEEP, "");
    let mut fleet = Fleet::up("group", &daemons);
    for daemon in ["a", "b", "alone"] {
        fleet.wait_state(daemon, "running");
    }
    let _ = Process::of(fleet.row("b").pid.unwrap()).kill();
    for daemon in ["a", "b"] {
        fleet.wait_row(daemon, |row| row.incarnation == 2 && row.state == "running");
    }
    assert_eq!(fleet.row("alone").incarnation, 1);
    fleet.down();
}

#[test]
fn exits_decide_as_they_are_configured() {
    let ends = |name: &str, code: u8, keys: &str| {
        script(name, &format!("exit {code}"), &format!("[daemon.restart]\n{keys}\n"))
    };
    let daemons = ends("clean", 3, "success_exit = [3]")
        + &ends("prevented", 4, "policy = \"always\"\nprevent_restart_exit = [4]")
        + &ends(
            "forced",
            0,
            "policy = \"never\"\nforce_restart_exit = [0]\nbackoff_initial = \"1h\"\nbackoff_max = \"1h\"",
        );
    let mut fleet = Fleet::up("exits", &daemons);
    // None of them was started twice: the last one is about to be, which its policy alone would never do.
    for (daemon, state) in [("clean", "stopped"), ("prevented", "failed"), ("forced", "backoff")] {
        let row = fleet.wait_state(daemon, state);
        assert_eq!((row.incarnation, row.restarts), (1, 0), "{row:?}");
    }
    fleet.down();
}
