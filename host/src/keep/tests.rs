//! `keep` with real processes. Each test starts a `keep` of its own: this test program again, in
//! which only [`keep_itself`] runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use duende_core::wire::link::{Address, LogLevel};
use duende_core::wire::{FRAME_BYTES_MAX, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit, kill_process, pidfd_open};
use tokio::runtime::Runtime;

use super::*;
use crate::config::{NativeConfig, Ready, StopScope, native_env, words_too_long};
use crate::daemon_log::{LogEntry, LogOrigin};

/// Set in the process that is `keep`. Also something that must not leak into a daemon.
const ITSELF_VARIABLE: &str = "DUENDE_TEST_KEEP_ITSELF";

/// How long anything may take before the test fails.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn keep_itself() {
    if let Some(options) = std::env::var_os(ITSELF_VARIABLE) {
        let options = options.into_string().unwrap();
        if let Err(error) = run_on_stdin(options.split(' ').map(OsString::from)) {
            eprintln!("duende: {error}");
            std::process::exit(1);
        }
    }
}

/// The longest that a configuration may have, in every shape, with the longest of all that goes with it.
#[test]
fn what_the_configuration_takes_fits_into_a_request() {
    type Words = (Vec<String>, Vec<(String, String)>);
    let words = |bytes: usize, each: usize| vec!["x".repeat(each); bytes / (each + 1)];
    let named = |words: Vec<String>| {
        let named = words.into_iter().enumerate();
        named.map(|(number, word)| (format!("V{number}"), word)).collect::<Vec<_>>()
    };
    let shapes: [&dyn Fn(usize) -> Words; 7] = [
        &|bytes| (words(bytes, bytes.saturating_sub(1)), Vec::new()),
        &|bytes| (words(bytes, 0), Vec::new()),
        &|bytes| (words(bytes, 128), Vec::new()),
        &|bytes| (words(bytes, 16_384), Vec::new()),
        &|bytes| (Vec::new(), named(words(bytes, bytes.saturating_sub(1)))),
        &|bytes| (Vec::new(), named(words(bytes, 0))),
        &|bytes| (Vec::new(), named(words(bytes, 128))),
    ];
    let path = "/".repeat(4_095);
    for (number, shape) in shapes.into_iter().enumerate() {
        let native = |bytes: usize| {
            let (args, env) = shape(bytes);
            NativeConfig {
                program: PathBuf::from("/bin/true"),
                args,
                env: env.into_iter().collect(),
                env_file: None,
                working_dir: PathBuf::from(&path),
                user: None,
                ready: Ready::Notify,
                link: None,
                open_files_max: Some(u64::MAX),
                stop_signal: 15,
                stop_scope: StopScope::Group,
                notify_access: None,
                pid_file: Some(PathBuf::from(&path)),
            }
        };
        let fits = |bytes: usize| words_too_long(&native(bytes), []).is_none();
        let (mut least, mut most) = (0, 130_000);
        assert!(fits(least) && !fits(most), "shape {number}");
        while most - least > 1 {
            let middle = usize::midpoint(least, most);
            *if fits(middle) { &mut least } else { &mut most } = middle;
        }
        let native = native(least);
        let mut argv = vec!["/bin/true".to_owned()];
        argv.extend(native.args.iter().cloned());
        let mut env = native_env(&native, []).unwrap();
        env.push((b"NOTIFY_SOCKET".into(), vec![b'/'; 107]));
        env.push((b"WATCHDOG_USEC".into(), u64::MAX.to_string().into_bytes()));
        let request = KeepRequest::Spawn(Box::new(SpawnRequest {
            at: Address::of(u32::MAX, u32::MAX),
            name: "n".repeat(64),
            argv,
            env,
            working_dir: Some(path.clone()),
            run_as: None,
            open_files_max: Some(u64::MAX),
            log_path: path.clone(),
            stop: StopRule { signal: i32::MAX, scope: StopScope::Group, grace_ms: u64::MAX },
            pid_file: Some(path.clone()),
            link: false,
        }));
        let encoded = encode(&request, &mut vec![0; FRAME_BYTES_MAX]);
        assert!(matches!(encoded, Ok(100_000..)), "shape {number}: {encoded:?}");
    }
}

/// A `keep`, and a directory for the logs.
pub(super) struct Fleet {
    pub(super) keep: KeepClient,
    pub(super) directory: tempfile::TempDir,
    starts: u32,
    /// The process that was started last.
    pub(super) last_pid: u32,
    // Last: the client's socket belongs to it.
    pub(super) runtime: Runtime,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self::with(|_| {}, tempfile::tempdir().unwrap())
    }

    /// Where `keep` can make no cgroup: it sees none.
    pub(super) fn without_cgroups() -> Self {
        let hide = |command: &mut Command| {
            // SAFETY: system calls only.
            unsafe {
                command.pre_exec(|| {
                    use std::ptr::null;
                    let private = libc::MS_REC | libc::MS_PRIVATE;
                    let hidden = libc::unshare(libc::CLONE_NEWNS) == 0
                        && libc::mount(null(), c"/".as_ptr(), null(), private, null()) == 0
                        && libc::umount2(c"/sys/fs/cgroup".as_ptr(), libc::MNT_DETACH) == 0;
                    if hidden { Ok(()) } else { Err(io::Error::last_os_error()) }
                });
            }
        };
        Self::with(hide, tempfile::tempdir().unwrap())
    }

    pub(super) fn with(change: impl FnOnce(&mut Command), directory: tempfile::TempDir) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(format!("{module}::keep_itself"))
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .env(ITSELF_VARIABLE, arguments(&directory));
        change(&mut command);
        // `keep` has one thread; the test program has two, and a signal goes to whichever lets it
        // through. Blocked before the program starts, SIGCHLD is blocked in both.
        // SAFETY: `new` makes system calls only.
        unsafe {
            command.pre_exec(|| sys::ChildSignals::new().map(drop));
        }
        let keep = {
            let _within = runtime.enter();
            KeepClient::start_command(&mut command).unwrap()
        };
        Self { keep, directory, starts: 0, last_pid: 0, runtime }
    }

    pub(super) fn log_path(&self, at: Address) -> PathBuf {
        let name = format!("{}-{}.log", at.daemon, at.incarnation);
        self.directory.path().join(name)
    }

    pub(super) fn request(&mut self, argv: &[&str]) -> SpawnRequest {
        self.starts += 1;
        let at = Address::of(100 + self.starts, 1);
        SpawnRequest {
            at,
            name: "web".into(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            working_dir: None,
            run_as: None,
            open_files_max: None,
            log_path: self.log_path(at).to_str().unwrap().to_owned(),
            stop: StopRule { signal: libc::SIGTERM, scope: StopScope::Group, grace_ms: 60_000 },
            pid_file: None,
            link: false,
        }
    }

    pub(super) fn send(&mut self, request: &SpawnRequest, link: Option<OwnedFd>) {
        let request = KeepRequest::Spawn(Box::new(request.clone()));
        self.keep.send(&request, link).unwrap();
    }

    pub(super) fn next(&mut self) -> Result<KeepEvent, KeepError> {
        let event = self.keep.next_event();
        self.runtime
            .block_on(async { tokio::time::timeout(DEADLINE, event).await })
            .expect("an event in time")
    }

    /// Starts it and returns its process id.
    pub(super) fn spawn(&mut self, request: &SpawnRequest) -> u32 {
        self.send(request, None);
        self.spawned(request.at)
    }

    pub(super) fn spawned(&mut self, expected: Address) -> u32 {
        match self.next().unwrap() {
            KeepEvent::Spawned { at, pid, .. } if at == expected => {
                self.last_pid = pid;
                pid
            }
            event => panic!("{event:?}"),
        }
    }

    /// Waits until nothing of it is left; tells how its main process ended.
    pub(super) fn exited(&mut self, expected: Address) -> Exit {
        self.exited_with_hint(expected).0
    }

    pub(super) fn exited_with_hint(&mut self, expected: Address) -> (Exit, Option<String>) {
        loop {
            match self.next().unwrap() {
                KeepEvent::MainExited { at, .. } if at == expected => {}
                KeepEvent::Exited { at, exit, hint, .. } if at == expected => return (exit, hint),
                event => panic!("{event:?}"),
            }
        }
    }

    pub(super) fn ask(&mut self, request: &KeepRequest) {
        self.keep.send(request, None).unwrap();
    }

    pub(super) fn stop(&mut self, at: Address) {
        self.ask(&KeepRequest::Stop { at, signal: libc::SIGTERM });
    }

    pub(super) fn kill(&mut self, at: Address) {
        self.ask(&KeepRequest::Kill { at });
        self.exited(at);
    }

    /// Runs it to its end and returns its log.
    pub(super) fn output(&mut self, request: &SpawnRequest) -> Vec<LogEntry> {
        self.spawn(request);
        assert_eq!(self.exited(request.at), Exit::Code(0));
        self.log(request.at)
    }

    pub(super) fn log(&self, at: Address) -> Vec<LogEntry> {
        std::fs::read_to_string(self.log_path(at))
            .unwrap_or_default()
            .lines()
            .map(|line| LogEntry::parse(line).unwrap())
            .collect()
    }

    /// Starts a script that writes one line to the link that it inherited; returns that line.
    pub(super) fn spawn_until_it_says(&mut self, request: &mut SpawnRequest) -> String {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        request.link = true;
        self.send(request, Some(theirs));
        self.spawned(request.at);
        let mut said = String::new();
        let mut ours = File::from(ours);
        while !said.ends_with('\n') {
            await_readable(&ours);
            let mut bytes = [0; 64];
            let count = ours.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "it ended after {said:?}");
            said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        said.trim_end().to_owned()
    }
}

/// What `keep` is told in a test: its lock lies beside the logs.
fn arguments(directory: &tempfile::TempDir) -> String {
    let options = KeepOptions {
        fleet: "test".into(),
        lock: directory.path().join("keep.lock"),
        open_files: Some(getrlimit(Resource::Nofile).current.unwrap()),
    };
    let arguments: Vec<_> =
        options.arguments().into_iter().map(|word| word.into_string().unwrap()).collect();
    arguments.join(" ")
}

pub(super) fn sh(script: &str) -> [&str; 3] {
    ["/bin/sh", "-c", script]
}

pub(super) fn texts(log: &[LogEntry]) -> Vec<&str> {
    log.iter().map(|entry| entry.text.as_str()).collect()
}

fn await_readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let deadline = Timespec::try_from(DEADLINE).unwrap();
    assert_eq!(poll(&mut fds, Some(&deadline)).unwrap(), 1, "in time");
}

pub(super) fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

pub(super) fn await_end(of: u32) {
    // No such process: it has ended already.
    if let Ok(process) = pidfd_open(pid(of), PidfdFlags::empty()) {
        await_readable(&process);
    }
}

#[test]
fn an_exit_is_reported_as_it_was() {
    let mut fleet = Fleet::new();
    let killed = |signal| Exit::Signal { signal, core_dumped: false };
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("kill -TERM $$", killed(15)),
        ("kill -KILL $$", killed(9)),
    ] {
        let request = fleet.request(&sh(script));
        let started = fleet.spawn(&request);
        match fleet.next().unwrap() {
            KeepEvent::Exited { at, pid, exit: found, cpu_ns, rss_bytes_max, .. } => {
                assert_eq!((at, pid, found), (request.at, started, exit), "{script}");
                assert!(rss_bytes_max > 100_000, "{rss_bytes_max}");
                assert!(cpu_ns < 10_000_000_000, "{cpu_ns}");
            }
            event => panic!("{script}: {event:?}"),
        }
    }
}

#[test]
fn a_start_that_fails_says_why_and_what_to_do() {
    let mut fleet = Fleet::new();
    let directory = fleet.directory.path().to_str().unwrap().to_owned();
    let file = |name: &str, content: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = format!("{directory}/{name}");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let text = file("text", "just text\n", 0o755);
    let orphan = file("orphan", "#!/no/such/interpreter -x\n", 0o755);
    // As root it is another user who may not pass it.
    let bars = format!("{directory}/barred");
    std::fs::create_dir(&bars).unwrap();
    let barred = file("barred/program", "#!/bin/sh\n", 0o755);
    let mode = |path: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&directory, 0o755);
    mode(&bars, 0o000);
    let is_root = rustix::process::geteuid().is_root();
    let user = if is_root { 65_534 } else { rustix::process::geteuid().as_raw() };
    let may_not = format!("permission denied: user {user} may not pass {bars}");
    let as_other = |request: &mut SpawnRequest| {
        if is_root {
            request.run_as = Some(RunAs { uid: user, gid: user, groups: Vec::new() });
        }
    };
    let in_barred = |request: &mut SpawnRequest| {
        as_other(request);
        request.working_dir = Some(format!("{bars}/program"));
    };
    let of_proc = match crate::reach::is_noexec(std::path::Path::new("/proc/version")) {
        true => "`/proc/version` lies on a file system that is mounted noexec",
        false => "is not executable",
    };
    let change_nothing = |_: &mut SpawnRequest| {};
    type Change<'a> = &'a dyn Fn(&mut SpawnRequest);
    let cases: [(&[&str], Change<'_>, i32, &str); 15] = [
        (&[], &change_nothing, 0, "`command` is empty"),
        (
            &["no-such-program"],
            &change_nothing,
            libc::ENOENT,
            "`no-such-program` was not found in PATH (/usr/bin:/bin): install it",
        ),
        (
            &["plain"],
            &|request| request.env[0].1 = directory.clone().into_bytes(),
            libc::EACCES,
            "is not executable for this user: `chmod +x",
        ),
        (
            &["/no/such/program"],
            &change_nothing,
            libc::ENOENT,
            "`/no/such/program` does not exist: check the path in `command`",
        ),
        (&[&plain], &change_nothing, libc::EACCES, "is not executable"),
        (&["/tmp"], &change_nothing, libc::EACCES, "is a directory"),
        (&["/proc/version"], &change_nothing, libc::EACCES, of_proc),
        (&[&barred], &as_other, libc::EACCES, &may_not),
        (&["/bin/true"], &in_barred, libc::EACCES, &may_not),
        (
            &[&text],
            &change_nothing,
            libc::ENOEXEC,
            "neither a program for this machine nor a script",
        ),
        (
            &[&orphan],
            &change_nothing,
            libc::ENOENT,
            "the interpreter `/no/such/interpreter -x`, which does not exist",
        ),
        (
            &["/bin/true"],
            &|request| request.working_dir = Some("/no/such/place".into()),
            libc::ENOENT,
            "working directory `/no/such/place` of `/bin/true`: No such file",
        ),
        (
            &["/bin/true"],
            &|request| request.working_dir = Some(plain.clone()),
            libc::ENOTDIR,
            "is not a directory; change `working_dir`",
        ),
        (&["/bin/true", "a\0b"], &change_nothing, 0, "a NUL byte"),
        (
            &["/bin/true"],
            &|request| request.open_files_max = Some(1 << 40),
            libc::EPERM,
            "above the hard limit of this session",
        ),
    ];
    for (argv, change, expected_errno, expected_reason) in cases {
        let mut request = fleet.request(argv);
        change(&mut request);
        fleet.send(&request, None);
        match fleet.next().unwrap() {
            KeepEvent::SpawnFailed { at, errno, reason } => {
                assert!(reason.contains(expected_reason), "{argv:?}: {reason}");
                assert_eq!((at, errno), (request.at, expected_errno), "{reason}");
            }
            event => panic!("{argv:?}: {event:?}"),
        }
    }
    mode(&bars, 0o755);
}

#[test]
fn what_was_started_is_started_again_under_a_new_address() {
    let mut fleet = Fleet::new();
    let again = |fleet: &mut Fleet, at| {
        fleet.keep.send(&KeepRequest::SpawnAgain { at }, None).unwrap();
    };
    let unknown = Address::of(8, 1);
    again(&mut fleet, unknown);
    match fleet.next().unwrap() {
        KeepEvent::SpawnFailed { at, errno: 0, .. } if at == unknown => {}
        event => panic!("{event:?}"),
    }

    let mut request = fleet.request(&sh("echo $WHAT"));
    request.env.push(("WHAT".into(), "the same".into()));
    fleet.output(&request);
    for incarnation in 2..=3 {
        let at = Address { incarnation, ..request.at };
        again(&mut fleet, at);
        fleet.spawned(at);
        assert_eq!(fleet.exited(at), Exit::Code(0));
    }
    assert_eq!(texts(&fleet.log(request.at)), ["the same"; 3]);
}

#[test]
fn nothing_leaks_into_a_daemon() {
    let mut fleet = Fleet::new();
    let mut request = fleet.request(&["/usr/bin/env"]);
    request.env = vec![("ONLY".into(), "this".into())];
    assert_eq!(texts(&fleet.output(&request)), ["ONLY=this"]);

    // What is ignored stays so through every exec, but for what `keep` itself catches: that is back
    // at its default. `keep` adds nothing to it.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let of_this_program = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    let caught = [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    let caught = caught.iter().fold(0_u64, |all, signal| all | 1 << (signal - 1));
    let ignored = u64::from_str_radix(of_this_program.unwrap(), 16).unwrap() & !caught;
    let ignored = format!("ignored {}", ignored & 0x7fff_ffff);

    let soft = getrlimit(Resource::Nofile).current.unwrap();
    let mut request = fleet.request(&sh(concat!(
        "pwd; ulimit -Sn; readlink /proc/self/fd/0; ",
        "grep SigBlk /proc/self/status; ",
        // Signals that have a name: glibc's posix_spawn ignores two of its own.
        "ignored=0x$(sed -n 's/SigIgn:\t//p' /proc/self/status); ",
        "echo ignored $((ignored & 0x7fffffff)); ",
        "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done",
    )));
    let directory = fleet.directory.path().canonicalize().unwrap();
    request.working_dir = Some(directory.to_str().unwrap().to_owned());
    for open_files_max in [None, Some(64)] {
        request.at.incarnation += 1;
        request.log_path = fleet.log_path(request.at).to_str().unwrap().to_owned();
        request.open_files_max = open_files_max;
        assert_eq!(
            texts(&fleet.output(&request)),
            [
                directory.to_str().unwrap(),
                &open_files_max.unwrap_or(soft).to_string(),
                "/dev/null",
                "SigBlk:\t0000000000000000",
                &ignored,
                "0",
                "1",
                "2",
                // The directory that the shell is reading.
                "3",
            ]
        );
    }
}

#[test]
fn a_daemon_runs_as_the_user_that_was_asked_for() {
    let mut fleet = Fleet::new();
    let mut request = fleet.request(&sh("id -u; id -g; id -G; grep CapEff /proc/self/status"));
    request.run_as = Some(RunAs { uid: 65_534, gid: 65_533, groups: vec![65_531, 65_532] });
    assert_eq!(
        texts(&fleet.output(&request)),
        ["65534", "65533", "65533 65531 65532", "CapEff:\t0000000000000000"],
        "this test changes users: run it as root"
    );
}

#[test]
fn when_the_link_closes_everything_ends_within_its_grace() {
    let mut fleet = Fleet::new();
    let say = ">/proc/self/fd/$DUENDE_LINK_FD";
    let mut polite = fleet.request(&["placeholder"]);
    polite.argv = sh(&format!("trap 'echo bye; exit' TERM; echo $$ {say}; sleep 1000 & wait"))
        .map(str::to_owned)
        .to_vec();
    let mut stubborn = fleet.request(&["placeholder"]);
    stubborn.argv = sh(&format!("trap '' TERM; echo $$ {say}; while :; do sleep 1000; done"))
        .map(str::to_owned)
        .to_vec();
    stubborn.stop.grace_ms = 50;
    let mut escaping = fleet.request(&["placeholder"]);
    escaping.argv = sh(&format!("setsid sh -c 'echo $$ {say}; exec sleep 1000' & wait"))
        .map(str::to_owned)
        .to_vec();
    let mut pids = Vec::new();
    for request in [&mut polite, &mut stubborn, &mut escaping] {
        pids.push(fleet.spawn_until_it_says(request).parse().unwrap());
    }
    pids.push(fleet.keep.pid());
    let polite_log = fleet.log_path(polite.at);
    let Fleet { keep, directory: _directory, runtime: _runtime, .. } = fleet;
    drop(keep);
    for pid in pids {
        await_end(pid);
    }
    let log = std::fs::read_to_string(polite_log).unwrap();
    assert!(log.trim_end().ends_with(" stdout bye"), "{log}");
}

/// Says so, and is deaf to SIGTERM from then on.
const DEAF: &str = "trap '' TERM; echo deaf >/proc/self/fd/$DUENDE_LINK_FD; exec sleep 1000";

#[test]
fn a_shutdown_reports_every_exit_and_then_the_end() {
    let mut fleet = Fleet::new();
    // It does not go before it is killed: the second request always finds `keep` stopping.
    let mut deaf = fleet.request(&sh(DEAF));
    assert_eq!(fleet.spawn_until_it_says(&mut deaf), "deaf");
    fleet.keep.send(&KeepRequest::Shutdown, None).unwrap();
    let late = fleet.request(&["/bin/true"]);
    fleet.send(&late, None);
    let mut seen = (false, false);
    let how = loop {
        match fleet.next() {
            Ok(KeepEvent::Exited { at, exit, .. }) => {
                assert_eq!(at, deaf.at);
                assert!(matches!(exit, Exit::Signal { signal: 9, .. }));
                seen.0 = true;
            }
            Ok(KeepEvent::SpawnFailed { at, reason, .. }) => {
                assert_eq!(at, late.at);
                assert!(reason.contains("being stopped"), "{reason}");
                seen.1 = true;
                fleet.keep.send(&KeepRequest::Kill { at: deaf.at }, None).unwrap();
            }
            Ok(event) => panic!("{event:?}"),
            Err(KeepError::Gone { how }) => break how,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((seen, how.as_str()), ((true, true), "exit status: 0"));
}

#[test]
fn a_megabyte_of_output_is_in_the_log_when_the_exit_is_reported() {
    let mut fleet = Fleet::new();
    let last = 160_000;
    let script = format!("seq 1 {last}; printf '<3>bad\\nodd' >&2");
    let request = fleet.request(&sh(&script));
    let log = fleet.output(&request);
    let (stdout, stderr): (Vec<_>, Vec<_>) =
        log.into_iter().partition(|entry| entry.origin == LogOrigin::Stdout);
    assert!(stdout.iter().all(|entry| entry.level == LogLevel::Info));
    let expected: Vec<_> = (1..=last).map(|number| number.to_string()).collect();
    assert_eq!(texts(&stdout), expected);
    let stderr: Vec<_> = stderr.iter().map(|entry| (entry.level, entry.text.as_str())).collect();
    assert_eq!(stderr, [(LogLevel::Error, "bad"), (LogLevel::Warn, "odd")]);
}

#[test]
fn output_that_cannot_be_logged_is_counted() {
    let mut fleet = Fleet::new();
    let mut request = fleet.request(&sh("echo one; echo two"));
    // Below a file there is no directory.
    request.log_path.insert_str(0, "/dev/null");
    fleet.spawn(&request);
    assert_eq!(fleet.exited(request.at), Exit::Code(0));
    let dropped = KeepEvent::OutputDropped { at: request.at, lines: 2 };
    assert_eq!(fleet.next().unwrap(), dropped);
}

#[test]
fn a_signal_reaches_the_one_it_is_for_and_nobody_later() {
    let mut fleet = Fleet::new();
    let hup = |at, group| KeepRequest::Signal { at, signal: libc::SIGHUP, group };
    // Alone: the shell counts it, its child sleeps on.
    let mut request = fleet.request(&sh(concat!(
        "sleep 1000 & trap 'kill -0 $! && exit 5' HUP; ",
        "echo ready >/proc/self/fd/$DUENDE_LINK_FD; while :; do wait; done"
    )));
    fleet.spawn_until_it_says(&mut request);
    fleet.keep.send(&hup(request.at, false), None).unwrap();
    assert_eq!(fleet.exited(request.at), Exit::Code(5));
    // The group: the child dies of it, and the shell goes on when the child is gone.
    let mut request = fleet.request(&sh(concat!(
        "trap : HUP; sh -c 'echo ready >/proc/self/fd/$DUENDE_LINK_FD; exec sleep 1000' & ",
        "while kill -0 $! 2>&-; do wait $!; done; exit 9"
    )));
    fleet.spawn_until_it_says(&mut request);
    fleet.keep.send(&hup(request.at, true), None).unwrap();
    assert_eq!(fleet.exited(request.at), Exit::Code(9));
    // Gone: no effect. An address in use: refused.
    let next = fleet.request(&["/bin/sleep", "1000"]);
    fleet.spawn(&next);
    fleet.keep.send(&hup(request.at, true), None).unwrap();
    fleet.send(&next, None);
    match fleet.next().unwrap() {
        KeepEvent::SpawnFailed { at, reason, .. } => {
            assert_eq!(at, next.at);
            assert!(reason.contains("runs already"), "{reason}");
        }
        event => panic!("{event:?}"),
    }
    fleet.ask(&KeepRequest::Kill { at: next.at });
    assert!(matches!(fleet.exited(next.at), Exit::Signal { signal: 9, .. }));
}

#[test]
fn what_asks_a_process_to_end_does_not_end_keep() {
    let mut fleet = Fleet::new();
    // It serves once it has answered, so the signals are caught from here on.
    let request = fleet.request(&["/bin/true"]);
    fleet.output(&request);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        kill_process(pid(fleet.keep.pid()), signal).unwrap();
    }
    let request = fleet.request(&sh("echo still here"));
    assert_eq!(texts(&fleet.output(&request)), ["still here"]);
}

#[test]
fn keep_that_dies_is_noticed() {
    let mut fleet = Fleet::new();
    kill_process(pid(fleet.keep.pid()), Signal::KILL).unwrap();
    match fleet.next() {
        Err(KeepError::Gone { how }) => assert!(how.contains("signal: 9"), "{how}"),
        other => panic!("{other:?}"),
    }
    // What it left, though it is nothing, is removed by the next.
    let mut next = Fleet::with(|_| {}, fleet.directory);
    let request = next.request(&["/bin/true"]);
    next.output(&request);
}

#[test]
fn keep_by_hand_is_refused() {
    let null = File::open("/dev/null").unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(format!("{module}::keep_itself"))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env(ITSELF_VARIABLE, "x")
        .stdin(null)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("not a link"), "{said}");
}

#[test]
fn the_client_reports_a_keep_that_cannot_be_started() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let error = KeepClient::start_command(&mut Command::new("/no/such/duende")).unwrap_err();
    let KeepError::System { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}
