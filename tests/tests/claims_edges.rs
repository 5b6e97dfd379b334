//! Claims of the specification about the edges of a system: no descriptors, no disk, no room for a path, a
//! clock that jumps, daemons that are held still. Each is one test named after it, at its own criterion.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use duende_tests::rows::{History, Problem};
use duende_tests::{
    AccessLog, Fleet, Outcome, Process, TIMEOUT, component, duende, get, libfaketime, linked,
    program, report, script, under, wait_for,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

/// What `flaky` needs.
const LOG: &str = "grant = [\"log\"]\n";
/// A sentinel that follows the fleet's access log.
const SENTINEL: &str = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
                        [daemon.channel.lines]\nfrom = { tail = \"{home}/access.log\" }\n";
const SLEEP: &str = "exec sleep infinity";
/// Started again at once.
const AT_ONCE: &str =
    "[daemon.restart]\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\nwindow = \"0s\"\n";

fn between(began_us: u64, ended_us: u64) -> Duration {
    Duration::from_micros(ended_us.saturating_sub(began_us))
}

/// `puppet`, as a native daemon.
fn puppet(name: &str, words: &[&str], rest: &str) -> String {
    let program = program("puppet");
    let words = words.iter().map(|word| format!(", \"{word}\"")).collect::<String>();
    format!("[[daemon]]\nname = \"{name}\"\ncommand = [\"{}\"{words}]\n{rest}\n", program.display())
}

fn log_of(fleet: &Fleet, daemon: &str) -> String {
    fs::read_to_string(fleet.row(daemon).log_path).unwrap_or_default()
}

/// Sets what a process may have open at most, its hard limit left alone.
fn limit_open_files(process: &Process, soft: u64) {
    let pid = Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap();
    let [_, hard] = process.open_files_max();
    let limit = Rlimit { current: Some(soft), maximum: hard.parse().ok() };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

#[test]
fn f023_open_gives_emfile_at_the_limit() {
    const LIMIT: usize = 64;
    // Standard input, output and error are three of them.
    let says = format!("open after {}: Too many open files (os error 24)", LIMIT - 3);
    let limited = format!("[daemon.limits]\nopen_files_max = {LIMIT}\n");
    let daemons = puppet("hoard", &["hoard"], &limited) + &script("other", SLEEP, "");
    let mut fleet = Fleet::up("f023", &daemons);
    wait_for(&says, || log_of(&fleet, "hoard").contains(&says).then_some(()));
    let of = |daemon: &str| Process::of(fleet.row(daemon).pid.unwrap());
    // By the kernel's own table, soft and hard: it can't raise it.
    let text = LIMIT.to_string();
    assert_eq!(of("hoard").open_files_max(), [text.clone(), text]);
    assert_eq!(of("hoard").descriptors().len(), LIMIT);
    // It is this daemon's limit: another one has the session's.
    let own = Process::of(std::process::id()).open_files_max();
    assert_eq!(of("other").open_files_max()[0], own[0]);
    report("F023", &format!("limit {LIMIT}: {says}"), "open() returns EMFILE");
    fleet.down();
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

/// The server's address, from its log.
fn address(fleet: &Fleet, daemon: &str) -> SocketAddr {
    wait_for("the server's address", || {
        let log = log_of(fleet, daemon);
        log.split_once("listening on ")?.1.split_once(',')?.0.parse().ok()
    })
}

#[test]
fn f103_a_lack_of_descriptors_is_an_error_and_no_end() {
    let limited = "[daemon.limits]\nopen_files_max = 32\n";
    let web = format!(
        "[[daemon]]\nname = \"web\"\nready = \"notify\"\ncommand = [\"{}\", \"--listen\", \"127.0.0.1:0\", \
         \"--root\", \"{{home}}/root\", \"--access-log\", \"{{home}}/web.log\"]\n{limited}",
        program("webd").display()
    );
    let daemons = puppet("hoard", &["hoard"], limited)
        + &web
        + &linked("native", "flaky", &format!("{LOG}[daemon.restart]\nlimit = 1\n"))
        + &component("wos", "flaky", LOG);
    let mut fleet = Fleet::new("f103", &daemons);
    fs::create_dir(fleet.home().join("root")).unwrap();
    fs::write(fleet.home().join("root/page"), "here").unwrap();
    fleet.start();
    for daemon in ["hoard", "web", "native", "wos"] {
        fleet.wait_state(daemon, "running");
    }

    // A program with all of its descriptors taken: `open` and `socket` are errors, and it logs on.
    wait_for("lines after the last descriptor", || {
        let log = log_of(&fleet, "hoard");
        let refused = log.contains("socket: Too many open files (os error 24)");
        (refused && log.contains("still here 5")).then_some(())
    });

    // A server whose descriptors its clients take: it says so, and serves again once they are gone.
    let server = address(&fleet, "web");
    let clients: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(server).unwrap()).collect();
    let said = "cannot accept connections: Too many open files";
    wait_for(said, || log_of(&fleet, "web").contains(said).then_some(()));
    drop(clients);
    wait_for("a page", || (get(server, "/page", TIMEOUT)? == "here").then_some(()));

    // The manager. As many followers as it has descriptors for, so that not one is left but its reserve.
    let manager = Process::of(fleet.manager().id());
    // The limit is on numbers: what is open above it stays, and counts for nothing.
    let free_below = |limit: u64| {
        let taken = manager.descriptors();
        (0..limit).filter(|number| !taken.contains(number)).count()
    };
    let most = (0..).find(|limit| free_below(*limit) == 4).unwrap();
    limit_open_files(&manager, most);
    let mut followers = Followers(Vec::new(), Vec::new());
    let refused = wait_for("a lack of descriptors", || {
        let mut follower = fleet.command(&["events", "--follow"]);
        let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(follower.stdout.take().unwrap());
        followers.0.push(follower);
        // It has its place, and is told what happened before; or it is told why it has none.
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "{}", fleet.story());
        if line.starts_with("{\"") {
            followers.1.push(said);
            return None;
        }
        said.read_to_string(&mut line).unwrap();
        Some(line)
    });
    assert!(refused.contains("no descriptor left"), "{refused}");
    // Who asks is answered, by the reserve.
    for _ in 0..3 {
        assert_eq!(fleet.ps().daemons.len(), 4);
    }
    // With none whatever, a start is tried again and again, says for want of what, and is not charged: one
    // restart is all that is allowed.
    let native = Process::of(fleet.row("native").pid.unwrap());
    limit_open_files(&manager, 3);
    let _ = native.kill();
    for _ in 0..3 {
        fleet.next_event(|event| event.daemon == "native" && event.detail.contains("os error 24"));
    }
    limit_open_files(&manager, 1_024);
    let row = fleet.wait_state("native", "running");
    assert!(row.incarnation > 3, "{row:?}");
    for daemon in ["hoard", "web", "wos"] {
        let row = fleet.row(daemon);
        assert_eq!((row.state.as_str(), row.incarnation), ("running", 1), "{row:?}");
    }
    drop(followers);
    fleet.down();

    // A session in which it could not work is told so beforehand, and by how many.
    let mut up = duende(fleet.home());
    let up = under(&["prlimit", "--nofile=64:64"], up.args(["--json", "up"]).arg(fleet.file()));
    let refused = Outcome::of(&mut { up }).refused(3).error;
    assert!(refused.message.contains("open files"), "{refused:?}");
    report(
        "F103",
        "daemon, server and manager without a descriptor: errors said, `ps` answered, all go on",
        "safe error/alert, no crash",
    );
}

/// Clients that only listen. They end with this.
struct Followers(Vec<Child>, Vec<BufReader<ChildStdout>>);

impl Drop for Followers {
    fn drop(&mut self) {
        for follower in &mut self.0 {
            let _ = follower.kill();
            let _ = follower.wait();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file system of its own for state and logs, in a mount namespace that lives as long as this.
struct SmallDisk {
    holder: Child,
    directory: PathBuf,
}

impl SmallDisk {
    fn mount(directory: PathBuf, size: &str) -> Self {
        fs::create_dir(&directory).unwrap();
        let text = format!(
            "mount -t tmpfs -o size={size} tmpfs \"$0\" && : > \"$0/mounted\" && exec sleep infinity"
        );
        let mut holder = Command::new("unshare");
        if !is_root() {
            // Whoever is no root is one in a namespace of its own.
            holder.arg("--map-root-user");
        }
        holder.args(["--mount", "sh", "-c", &text]).arg(&directory).stdin(Stdio::null());
        let mut disk = Self { holder: holder.spawn().expect("`unshare` of util-linux"), directory };
        wait_for("a tmpfs: root mounts it", || {
            assert!(
                disk.holder.try_wait().unwrap().is_none(),
                "no mount: neither as root nor in a user namespace"
            );
            disk.path("mounted").exists().then_some(())
        });
        disk
    }

    /// What runs a program there.
    fn enter(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        let user: &[&str] = if is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        let words = [&["nsenter"], user, &["--mount", "--target", &pid]].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// A file on it, as it is seen from outside.
    fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.directory.strip_prefix("/").unwrap()).join(name)
    }

    /// Leaves no byte.
    fn fill(&self) {
        let mut file = fs::File::create(self.path("filler")).unwrap();
        for size in [1 << 16, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn f104_a_full_disk_corrupts_nothing() {
    let sentinels =
        linked("native", "log-sentinel", SENTINEL) + &component("wos", "log-sentinel", SENTINEL);
    let chatty =
        script("chatty", "i=0; while :; do i=$((i+1)); echo number $i; sleep 0.01; done", "");
    let mut fleet = Fleet::new("f104", "");
    let disk = SmallDisk::mount(fleet.home().join("disk"), "24m");
    let daemons = format!("log_dir = \"{{home}}/disk/logs\"\n{sentinels}{chatty}");
    fleet.configure(&daemons);
    // Stronger than the harness's own variable.
    let state = fleet.home().join("disk/state").display().to_string();
    let variable = format!("DUENDE_STATE_DIR={state}");
    let enter = disk.enter();
    let wrapper: Vec<&str> = enter.iter().map(String::as_str).chain(["env", &variable]).collect();
    let mut log = AccessLog::create(&fleet.home().join("access.log"));
    let all_counted = |fleet: &Fleet, log: &AccessLog| {
        for sentinel in ["native", "wos"] {
            let row = fleet.wait_row(sentinel, |row| row.count("requests_total") >= log.lines);
            assert_eq!(row.count("requests_total"), log.lines, "{row:?}");
            assert_eq!(row.count("errors_total"), log.lines / 10, "{row:?}");
        }
    };
    fleet.start_under(&wrapper);
    log.write(100);
    all_counted(&fleet, &log);
    wait_for("something printed", || {
        let text = fs::read_to_string(disk.path("logs/chatty.log")).ok()?;
        text.contains("number 3").then_some(())
    });

    // Full while all of it runs: lines of logs are lost and counted, nobody ends, and who asks is answered.
    disk.fill();
    log.write(100);
    fleet.wait_row("chatty", |row| row.lost_lines > 0);
    all_counted(&fleet, &log);
    disk.free();
    log.write(100);
    all_counted(&fleet, &log);
    // Both are said once there is room to say it: state was refused, lines were lost.
    for (file, says) in [("duende", "state can be written again"), ("chatty", "lost here")] {
        wait_for(says, || {
            let text = fs::read_to_string(disk.path(&format!("logs/{file}.log"))).ok()?;
            text.contains(says).then_some(())
        });
    }
    for row in fleet.ps().daemons {
        assert_eq!((row.state.as_str(), row.incarnation), ("running", 1), "{row:?}");
    }

    // Full while it ends: it does end, and says what it could not keep. That comes again. On a new database, as
    // above: one that has grown has pages to spare, and small commits need no others.
    fleet.down();
    fs::remove_file(disk.path("state/f104/state.redb")).unwrap();
    fleet.start_under(&wrapper);
    all_counted(&fleet, &log);
    disk.fill();
    log.write(100);
    all_counted(&fleet, &log);
    let _ = fleet.run(&["down"]);
    assert!(fleet.manager().try_wait().unwrap().is_some(), "`down` is over, and the manager too");
    let code = fleet.wait_end();
    let said = fleet.story();
    assert!(code == Some(1) && said.contains("commits are lost"), "{code:?}\n{said}");
    assert!(said.contains("No space left on device (os error 28)"), "{said}");
    fleet.assert_empty();

    // Still full while it begins: either it runs, or it says why not.
    let mut up = duende(fleet.home());
    up.args(["--json", "up", "--detach"]).arg(fleet.file());
    let outcome = Outcome::of(&mut under(&wrapper, &up));
    if outcome.code == Some(0) {
        assert_eq!(fleet.ps().daemons.len(), 3);
        let _ = fleet.run(&["down"]);
        wait_for("the end of all", || fleet.processes().is_empty().then_some(()));
    } else {
        let said = format!("{outcome:?}");
        assert!(outcome.code == Some(1) && said.contains("os error 28"), "{said}");
    }
    disk.free();
    fleet.start_under(&wrapper);
    log.write(100);
    all_counted(&fleet, &log);
    fleet.down();

    // The logs: whole entries, numbers that rise, and a mark wherever a line was cut.
    let text = fs::read_to_string(disk.path("logs/chatty.log")).unwrap();
    let mut last = 0;
    for line in text.lines() {
        let is_entry =
            line.get(..27).is_some_and(|time| time.ends_with('Z') && time.starts_with("20"));
        assert!(is_entry || line.ends_with("[cut here: the log could not be written]"), "{line:?}");
        let number = line.split_once("stdout number ").and_then(|(_, number)| number.parse().ok());
        if let Some(number) = number {
            assert!(number > last || number == 1, "{number} after {last}");
            last = number;
        }
    }
    let measured =
        format!("full while running, ending, beginning: {} of {0} lines counted", log.lines);
    report("F104", &measured, "safe error/alert, no corruption");
}

#[test]
fn f105_orphans_leave_no_zombies() {
    const CHILDREN: usize = 1_000;
    let limit = Duration::from_secs(5);
    // Each child's parent ends at once; then each waits, so that it is seen where it comes to.
    let text = format!(
        "mkfifo {{home}}/go; i=0; while [ $i -lt {CHILDREN} ]; do (sh -c \"read x < {{home}}/go\" &); i=$((i+1)); \
         done; : > {{home}}/made; {SLEEP}"
    );
    let daemons = script("parent", &text, "") + &script("other", SLEEP, "");
    let mut fleet = Fleet::up("f105", &daemons);
    fleet.wait_state("other", "running");
    let of_keep = |process: &Process| process.command().contains("duende keep");
    let keep = fleet.processes().into_iter().find(of_keep).expect("keep runs");
    let made = fleet.home().join("made");
    wait_for("the children", || made.exists().then_some(()));
    // All of them, the two daemons as well, are its children now.
    wait_for("orphans", || (keep.children().1 == CHILDREN + 2).then_some(()));
    let began = Instant::now();
    // Whoever reads meets the end of the file; it is opened again for those that came to it late.
    wait_for("the end of all", || {
        let go = fs::File::options().read(true).write(true).open(fleet.home().join("go"));
        drop(go.expect("a fifo"));
        (keep.children().1 == 2).then_some(())
    });
    wait_for("no zombies", || (keep.children() == (0, 2)).then_some(()));
    let took = began.elapsed();
    let parent = Process::of(fleet.row("parent").pid.unwrap());
    assert_eq!(parent.children(), (0, 0));
    report("F105", &format!("{CHILDREN} orphans ended and reaped in {took:.1?}"), "none after 5s");
    assert!(took <= limit, "{took:?}");
    fleet.run(&["stop", "parent"]).done();
    assert_eq!(fleet.row("other").incarnation, 1);
    fleet.down();
}

/// Waits until a daemon that writes a byte from time to time has written so many more: time has passed.
fn ticks(file: &std::path::Path, more: u64) {
    let length = || fs::metadata(file).map_or(0, |found| found.len());
    let until = length() + more;
    wait_for("ticks", || (length() >= until).then_some(()));
}

#[test]
fn f107_what_is_held_still_is_not_judged_for_it() {
    let watchdog = format!("watchdog = \"500ms\"\n{AT_ONCE}");
    let health = format!(
        "{LOG}[daemon.health]\nperiod = \"100ms\"\ntimeout = \"250ms\"\nfailures = 3\n{AT_ONCE}"
    );
    let daemons = "metrics_interval = \"100ms\"\n".to_owned()
        + &puppet("fed", &["feed", "20", "{home}/fed"], &watchdog)
        + &script("silent", SLEEP, &watchdog)
        + &script("plain", SLEEP, "")
        // Twenty of these are about two seconds: all deadlines of the others are over.
        + &script("clock", "while :; do printf . >> {home}/clock; sleep 0.1; done", "")
        + &linked("native", "flaky", &health)
        + &component("wos", "flaky", &health);
    let mut fleet = Fleet::new("f107", &daemons);
    let [fed, clock] = ["fed", "clock"].map(|name| fleet.home().join(name));
    fleet.start();
    let held = ["fed", "plain", "native", "wos"];
    let before = held.map(|daemon| fleet.wait_state(daemon, "running"));
    for daemon in ["native", "wos"] {
        fleet.wait_row(daemon, |row| row.health == "healthy");
    }
    ticks(&fed, 5);
    let unharmed = |fleet: &Fleet| {
        for (daemon, before) in held.iter().zip(&before) {
            let row = fleet.wait_state(daemon, "running");
            assert_eq!((row.incarnation, row.pid), (1, before.pid), "{row:?}\n{}", fleet.story());
        }
    };

    // By the verbs. The deadlines of what is paused do not run; the one of the daemon beside it does.
    fleet.run(&["pause", "fed", "plain", "native", "wos"]).done();
    let process = Process::of(before[0].pid.unwrap());
    wait_for("SIGSTOP", || (process.state() == 'T').then_some(()));
    let uptime = |fleet: &Fleet| Duration::from_millis(fleet.row("fed").uptime_ms.unwrap());
    let used = process.processor_time();
    let (asked, up_before, answered) = (Instant::now(), uptime(&fleet), Instant::now());
    let fed_before = fs::metadata(&fed).unwrap().len();
    let barks = fleet.row("silent").restarts;
    ticks(&clock, 20);
    let barks = fleet.row("silent").restarts - barks;
    assert!(barks >= 2, "nothing was watched: {barks}");
    for daemon in held {
        assert_eq!(fleet.row(daemon).state, "paused");
    }
    // What is shown is what is so: it used no processor, and has been up all the while.
    assert_eq!(process.processor_time(), used);
    assert_eq!(fs::metadata(&fed).unwrap().len(), fed_before);
    let (at_least, up, at_most) = (answered.elapsed(), uptime(&fleet), asked.elapsed());
    let shown = up - up_before;
    // Both are cut to milliseconds.
    let cut = Duration::from_millis(1);
    assert!(
        shown + cut >= at_least && shown <= at_most + cut,
        "{at_least:?}, {shown:?}, {at_most:?}"
    );
    let history: History = fleet.run(&["history", "fed"]).done().json();
    let last = history.figures["processor_ms"].last().unwrap().value;
    assert!((last - used.as_secs_f64() * 1e3).abs() < 20.0, "{last} ms, not {used:?}");
    fleet.run(&["resume", "fed", "plain", "native", "wos"]).done();
    ticks(&fed, 20);
    ticks(&clock, 20);
    unharmed(&fleet);

    // Stopped from outside, and the manager too: of what it slept through it judges nobody.
    let manager = Process::of(fleet.manager().id());
    let missed = |fleet: &Fleet| {
        fleet.run(&["history", "fed"]).done().json::<History>().sampling.missed_total
    };
    let missed_before = missed(&fleet);
    manager.signal(Signal::STOP);
    ticks(&clock, 20);
    manager.signal(Signal::CONT);
    ticks(&clock, 20);
    unharmed(&fleet);
    let missed = missed(&fleet) - missed_before;
    assert!(missed >= 5, "samples that were not taken are not said: {missed}");

    // A plain daemon goes on; one that is watched has given no sign of life, and is judged by that.
    let [watched, plain] = [&before[0], &before[1]].map(|row| Process::of(row.pid.unwrap()));
    for process in [&watched, &plain] {
        process.signal(Signal::STOP);
    }
    wait_for("SIGSTOP", || (plain.state() == 'T').then_some(()));
    let killed = fleet.next("fed", "unhealthy");
    assert!(killed.detail.contains("no WATCHDOG=1 for 500 ms"), "{killed:?}");
    fleet.wait_row("fed", |row| row.incarnation == 2 && row.state == "running");
    let row = fleet.row("plain");
    assert_eq!((row.state.as_str(), row.incarnation), ("running", 1));
    plain.signal(Signal::CONT);
    wait_for("SIGCONT", || (plain.state() == 'S').then_some(()));
    assert_eq!(fleet.row("plain").pid, Some(plain.pid));
    let measured = format!(
        "paused {at_least:.1?}: 4 unharmed, a watchdog beside them barked {barks} times; uptime +{shown:.1?}, processor +0"
    );
    report("F107", &measured, "metrics adjusted, no crash");
    fleet.down();
}

/// What `check` or `up` says is wrong: it must say so at once, and in a few lines.
fn problems(fleet: &Fleet, verb: &str, file: &std::path::Path) -> Vec<Problem> {
    let began = Instant::now();
    let outcome = Outcome::of(duende(fleet.home()).args(["--json", verb]).arg(file));
    assert!(began.elapsed() < TIMEOUT, "it hung");
    outcome.refused(3).error.problems
}

#[test]
fn f108_a_variable_that_is_too_long_is_refused() {
    const MIB: usize = 1 << 20;
    // What the system takes (`MAX_ARG_STRLEN`, with the zero at the end): 32 pages.
    let most = 32 * rustix::param::page_size() - 1;
    let mut fleet = Fleet::new("f108", "");
    let long = "x".repeat(MIB);
    fs::write(fleet.home().join("long.env"), format!("A=1\nBIG={long}\n")).unwrap();
    let with = |keys: &str| script("d", SLEEP, keys);
    for (what, daemon, says) in [
        ("env", with(&format!("env = {{ BIG = \"{long}\" }}")), "`BIG` has 1048580 bytes"),
        (
            "env_file",
            with("env_file = \"long.env\""),
            "long.env:2: the variable `BIG` has 1048580 bytes",
        ),
        (
            "command",
            format!("[[daemon]]\nname = \"d\"\ncommand = [\"echo\", \"{long}\"]\n"),
            "an argument of 1048576 bytes",
        ),
    ] {
        fleet.configure(&daemon);
        for verb in ["check", "up"] {
            let problem = problems(&fleet, verb, &fleet.file()).remove(0);
            assert!(problem.message.contains(says), "{what}: {problem:?}");
            assert!(problem.message.contains(&most.to_string()), "{what}: {problem:?}");
            // For people it is a few lines, not the variable.
            let said = Outcome::of(duende(fleet.home()).arg(verb).arg(fleet.file())).stderr;
            assert!(said.len() < 2_000, "{what}: {} bytes", said.len());
        }
    }

    // A long one arrives whole. More of them than fit into the one message to `keep` are refused, too; and of a
    // file that has grown since, they are that daemon's failure.
    let much = "y".repeat(100 << 10);
    let whole = script(
        "whole",
        "echo it has ${#BIG} bytes; exec sleep infinity",
        &format!("env = {{ BIG = \"{much}\" }}"),
    );
    let many: Vec<String> = (0..24).map(|number| format!("V{number:02}=\"{much}\"\n")).collect();
    let file = fleet.home().join("many.env");
    fs::write(&file, many.concat()).unwrap();
    let many_of_file = script("many", SLEEP, "env_file = \"many.env\"");
    fleet.configure(&many_of_file);
    for verb in ["check", "up"] {
        let problem = problems(&fleet, verb, &fleet.file()).remove(0);
        let said = &problem.message;
        assert!(said.contains("is the most") && said.contains("variable `V"), "{problem:?}");
    }
    fs::write(&file, "A=1\n").unwrap();
    fleet.configure(&(whole + &many_of_file + &script("other", SLEEP, "")));
    fleet.start();
    let says = format!("it has {} bytes", much.len());
    wait_for(&says, || log_of(&fleet, "whole").contains(&says).then_some(()));
    fleet.wait_state("many", "running");
    fs::write(&file, many.concat()).unwrap();
    let _ = fleet.run(&["restart", "many"]);
    let exit = fleet.wait_state("many", "failed").last_exit.unwrap();
    assert!(exit.contains("environment of a daemon must fit into one message"), "{exit}");
    assert!(exit.len() < 1_000, "{} bytes", exit.len());
    assert_eq!(fleet.wait_state("other", "running").incarnation, 1);
    report(
        "F108",
        "1 MiB by env, env_file and argument: refused by name and size",
        "rejected or truncated safely",
    );
    fleet.down();
}

/// Configurations in which one path is this one, by the key that it stands under.
fn with_path(path: &str) -> Vec<(&'static str, String)> {
    let native = |keys: &str| format!("[[daemon]]\nname = \"d\"\ncommand = [\"true\"]\n{keys}\n");
    let tail =
        |file: &str| format!("link = true\n[daemon.channel.x]\nfrom = {{ tail = \"{file}\" }}");
    vec![
        ("working_dir", native(&format!("working_dir = \"{path}\""))),
        ("command", format!("[[daemon]]\nname = \"d\"\ncommand = [\"./{path}\"]\n")),
        ("image", format!("[[daemon]]\nname = \"d\"\nimage = \"{path}\"\n")),
        ("env_file", native(&format!("env_file = \"{path}\""))),
        ("pid_file", native(&format!("pid_file = \"{path}/file\""))),
        ("tail", native(&tail(&format!("{path}/file")))),
    ]
}

/// Each key with this path, and the configuration itself there, is refused with these words; nothing is
/// made.
fn refused_everywhere(fleet: &Fleet, path: &str, words: &str) -> usize {
    let mut refused = 0;
    for (key, daemon) in with_path(path) {
        fleet.configure(&daemon);
        for verb in ["check", "up"] {
            let problem = problems(fleet, verb, &fleet.file()).remove(0);
            assert!(problem.key.contains(key), "{key}: {problem:?}");
            assert!(problem.message.contains(words), "{key}: {}", problem.message);
            refused += 1;
        }
    }
    for verb in ["check", "up"] {
        let problem = problems(fleet, verb, std::path::Path::new(path)).remove(0);
        assert!(problem.message.contains(words), "{problem:?}");
        refused += 1;
    }
    assert!(!fleet.home().join("run").exists() && !fleet.home().join("state").exists());
    // Where logs lie is made by `up`: in the foreground, and by the manager that it would start.
    fleet.configure(&format!("log_dir = \"{path}\"\n{}", script("d", SLEEP, "")));
    for verb in [&["up"][..], &["up", "--detach"]] {
        let outcome = Outcome::of(duende(fleet.home()).args(verb).arg(fleet.file()));
        assert_eq!(outcome.code, Some(1), "{verb:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{verb:?}: {}", outcome.stderr);
        refused += 1;
    }
    fleet.assert_empty();
    refused
}

#[test]
fn f109_a_path_that_is_too_long_is_refused_as_that() {
    // `PATH_MAX` is 4,096.
    let path = "deep/".repeat(1_000) + "end";
    let fleet = Fleet::new("f109", "");
    let refused = refused_everywhere(&fleet, &path, "File name too long (os error 36)");
    report(
        "F109",
        &format!("{} bytes: refused {refused} times by errno 36", path.len()),
        "ENAMETOOLONG",
    );
}

#[test]
fn f110_a_loop_of_links_is_refused_as_that() {
    let words = "Too many levels of symbolic links (os error 40)";
    let mut fleet = Fleet::new("f110", "");
    let link = |name: &str, target: &str| symlink(target, fleet.home().join(name)).unwrap();
    link("one", "two");
    link("two", "one");
    let refused = refused_everywhere(&fleet, "one", words);

    // What becomes a loop once all was checked: the file is waited for, and its daemon runs; the directory fails
    // its start, and the others run.
    let dir = script("dir", SLEEP, "working_dir = \"{home}/place\"");
    let tail = component("tail", "log-sentinel", &SENTINEL.replace("access.log", "late"));
    fs::create_dir(fleet.home().join("place")).unwrap();
    fleet.configure(&(dir + &tail + &script("other", SLEEP, "")));
    fleet.start();
    fleet.wait_state("dir", "running");
    fs::remove_dir(fleet.home().join("place")).unwrap();
    symlink("place", fleet.home().join("place")).unwrap();
    let _ = Process::of(fleet.row("dir").pid.unwrap()).kill();
    let row = fleet.wait_row("dir", |row| ["waiting", "failed"].contains(&row.state.as_str()));
    assert!(row.last_exit.as_ref().is_some_and(|exit| exit.contains(words)), "{row:?}");
    symlink("late", fleet.home().join("late")).unwrap();
    wait_for("the reason", || {
        let shown = Outcome::of(duende(fleet.home()).args(["ps", "--fleet", "f110"])).done();
        shown.stdout.contains("too many symbolic links").then_some(())
    });
    fleet.wait_state("tail", "running");
    assert_eq!(fleet.row("other").incarnation, 1);
    report(
        "F110",
        &format!("refused {refused} times, and twice at a start, by errno 40"),
        "ELOOP, no hang",
    );
    fleet.down();
}
