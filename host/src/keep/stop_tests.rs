//! How daemons end, with real processes, with cgroups and without.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use duende_core::wire::link::Address;
use rustix::process::{Signal, kill_process};

use super::tests::{DEADLINE, Fleet, await_end, pid, sh};
use super::*;
use crate::config::StopScope;
use crate::daemon_log::LogOrigin;

/// With cgroups, and without.
fn both(check: impl Fn(Fleet)) {
    check(Fleet::new());
    check(Fleet::without_cgroups());
}

/// Whether it runs. One that is on its last steps, or waits to be reaped, has no memory and no
/// descriptor any more.
fn is_there(of: u32) -> bool {
    fs::read_link(format!("/proc/{of}/exe")).is_ok()
}

/// What it printed itself; shells say on standard error how their children ended.
fn said(fleet: &Fleet, at: Address) -> Vec<String> {
    let log = fleet.log(at).into_iter().filter(|entry| entry.origin == LogOrigin::Stdout);
    log.map(|entry| entry.text).collect()
}

/// Tells the test something, by the descriptor that it inherited.
const SAY: &str = ">/proc/self/fd/$DUENDE_LINK_FD";

#[test]
fn everybody_of_a_daemon_has_the_grace() {
    both(|mut fleet| {
        // The shell is gone at once; what it waits for needs a moment, and says so in the log.
        let script = format!(
            "sh -c 'trap \"read x <$0/fifo; echo flushed; exit\" TERM; echo ready {SAY}; \
             while :; do sleep 0.01; done' $0 & wait"
        );
        let directory = fleet.directory.path().to_owned();
        let fifo = directory.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut request = fleet.request(&["/bin/sh", "-c", &script, directory.to_str().unwrap()]);
        assert_eq!(fleet.spawn_until_it_says(&mut request), "ready");
        fleet.stop(request.at);
        match fleet.next().unwrap() {
            KeepEvent::MainExited { at, exit: Exit::Signal { signal: 15, .. } } => {
                assert_eq!(at, request.at);
            }
            event => panic!("{event:?}"),
        }
        // It is not over, and nothing else starts in its place.
        let again = Address { incarnation: 2, ..request.at };
        fleet.ask(&KeepRequest::SpawnAgain { at: again });
        match fleet.next().unwrap() {
            KeepEvent::SpawnFailed { at, reason, .. } if at == again => {
                assert!(reason.contains("still there"), "{reason}");
            }
            event => panic!("{event:?}"),
        }
        fs::write(&fifo, "go on\n").unwrap();
        assert!(matches!(fleet.exited(request.at), Exit::Signal { signal: 15, .. }));
        assert_eq!(said(&fleet, request.at), ["flushed"]);
    });
}

#[test]
fn what_left_the_session_ends_with_its_daemon() {
    both(|mut fleet| {
        // One in a session of its own, one twice forked and out of the group, with an environment of
        // its own; both deaf to what asks.
        let script = format!(
            "trap '' TERM; setsid sleep 1000 & first=$!; \
             setsid sh -c 'sleep 1000 & echo $!' >$0/second; trap - TERM; \
             echo $first $(cat $0/second) {SAY}; exec sleep 1000"
        );
        let directory = fleet.directory.path().to_str().unwrap().to_owned();
        let mut request = fleet.request(&["/bin/sh", "-c", &script, &directory]);
        request.stop.grace_ms = 50;
        let said = fleet.spawn_until_it_says(&mut request);
        let pids: Vec<u32> = said.split(' ').map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2);
        fleet.ask(&KeepRequest::Count { at: request.at });
        let count = KeepEvent::Processes { at: request.at, count: 3 };
        assert_eq!(fleet.next().unwrap(), count);
        fleet.stop(request.at);
        assert!(matches!(fleet.exited(request.at), Exit::Signal { signal: 15, .. }));
        assert!(pids.iter().all(|pid| !is_there(*pid)), "{pids:?}");
        // A crash leaves no more than a stop.
        request.at.incarnation += 1;
        let said = fleet.spawn_until_it_says(&mut request);
        let main = fleet.last_pid;
        kill_process(pid(main), Signal::KILL).unwrap();
        assert!(matches!(fleet.exited(request.at), Exit::Signal { signal: 9, .. }));
        assert!(said.split(' ').all(|pid| !is_there(pid.parse().unwrap())), "{said}");
    });
}

#[test]
fn an_end_of_one_daemon_is_not_anothers() {
    both(|mut fleet| {
        let script = format!("setsid sleep 1000 & echo $! {SAY}; exec sleep 1000");
        let mut guilty = fleet.request(&sh(&script));
        let mut bystander = fleet.request(&sh(&script));
        fleet.spawn_until_it_says(&mut guilty);
        let innocent: u32 = fleet.spawn_until_it_says(&mut bystander).parse().unwrap();
        fleet.kill(guilty.at);
        assert!(is_there(innocent));
        fleet.ask(&KeepRequest::Count { at: bystander.at });
        let count = KeepEvent::Processes { at: bystander.at, count: 2 };
        assert_eq!(fleet.next().unwrap(), count);
        fleet.kill(bystander.at);
        assert!(!is_there(innocent));
    });
}

#[test]
fn a_stopped_process_has_its_grace() {
    both(|mut fleet| {
        let script =
            format!("trap 'echo bye; exit 4' TERM; echo ready {SAY}; while :; do sleep 0.01; done");
        let mut request = fleet.request(&sh(&script));
        fleet.spawn_until_it_says(&mut request);
        fleet.ask(&KeepRequest::Signal { at: request.at, signal: libc::SIGSTOP, group: true });
        fleet.stop(request.at);
        assert_eq!(fleet.exited(request.at), Exit::Code(4));
        assert_eq!(said(&fleet, request.at), ["bye"]);
    });
}

#[test]
fn the_main_process_alone_is_asked_where_that_is_wanted() {
    both(|mut fleet| {
        // Had the child been asked with the shell it would be gone before the shell counts it.
        let script = format!(
            "sleep 1000 & trap 'kill -0 $! && echo alive; exit 0' TERM; echo ready {SAY}; \
             while :; do wait; done"
        );
        let mut request = fleet.request(&sh(&script));
        request.stop.scope = StopScope::Process;
        fleet.spawn_until_it_says(&mut request);
        fleet.stop(request.at);
        assert_eq!(fleet.exited(request.at), Exit::Code(0));
        assert_eq!(said(&fleet, request.at), ["alive"]);
    });
}

#[test]
fn the_rule_says_with_which_signal() {
    both(|mut fleet| {
        // The main process dies by itself; what is left is asked by the rule's signal.
        let script = format!(
            "sh -c 'trap \"echo by USR2; exit\" USR2; echo ready {SAY}; while :; do sleep 0.01; done' & \
             exec sleep 1000"
        );
        let mut request = fleet.request(&sh(&script));
        request.stop.signal = libc::SIGUSR2;
        assert_eq!(fleet.spawn_until_it_says(&mut request), "ready");
        let main = fleet.last_pid;
        kill_process(pid(main), Signal::KILL).unwrap();
        assert!(matches!(fleet.exited(request.at), Exit::Signal { signal: 9, .. }));
        assert_eq!(said(&fleet, request.at), ["by USR2"]);
    });
}

#[test]
fn who_goes_into_the_background_is_told_and_may_name_a_successor() {
    both(|mut fleet| {
        let script = format!("setsid sleep 1000 & echo $! {SAY}");
        let mut request = fleet.request(&sh(&script));
        fleet.spawn_until_it_says(&mut request);
        let (exit, hint) = fleet.exited_with_hint(request.at);
        assert_eq!(exit, Exit::Code(0));
        assert!(hint.unwrap().contains("went into the background"));

        // Named in time it is the main process, and its end the daemon's: here, by its own child's.
        let script =
            format!("setsid sh -c 'echo $$ {SAY}; read x <$0/fifo; exit 6' $0 & wait $!; exit 5");
        let directory = fleet.directory.path().to_owned();
        let fifo = directory.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut request = fleet.request(&["/bin/sh", "-c", &script, directory.to_str().unwrap()]);
        let successor: u32 = fleet.spawn_until_it_says(&mut request).parse().unwrap();
        let at = request.at;
        for stranger in [1, std::process::id()] {
            fleet.ask(&KeepRequest::MainProcess { at, pid: stranger });
            match fleet.next().unwrap() {
                KeepEvent::MainProcessRefused { pid, reason, .. } if pid == stranger => {
                    assert!(reason.contains("not one of this daemon"), "{reason}");
                }
                event => panic!("{event:?}"),
            }
        }
        fleet.ask(&KeepRequest::MainProcess { at, pid: successor });
        assert_eq!(fleet.next().unwrap(), KeepEvent::MainProcess { at, pid: successor });
        fs::write(&fifo, "end\n").unwrap();
        // Its parent, the first main process, was told how it ended; nobody else.
        assert_eq!(fleet.exited(at), Exit::Unseen);

        // The first main process is gone when the second ends: then `keep` sees how.
        let script =
            format!("setsid sh -c 'echo $$ {SAY}; read x <$0/fifo; exit 6' $0 & read x <$0/first");
        let first = directory.join("first");
        assert!(std::process::Command::new("mkfifo").arg(&first).status().unwrap().success());
        let mut request = fleet.request(&["/bin/sh", "-c", &script, directory.to_str().unwrap()]);
        let successor: u32 = fleet.spawn_until_it_says(&mut request).parse().unwrap();
        let at = request.at;
        fleet.ask(&KeepRequest::MainProcess { at, pid: successor });
        assert_eq!(fleet.next().unwrap(), KeepEvent::MainProcess { at, pid: successor });
        let old = fleet.last_pid;
        fs::write(&first, "end\n").unwrap();
        await_end(old);
        fleet.ask(&KeepRequest::Count { at });
        let _count = fleet.next().unwrap();
        fs::write(&fifo, "end\n").unwrap();
        assert_eq!(fleet.exited(at), Exit::Code(6));
    });
}

#[test]
fn only_what_hears_a_hangup_is_reloaded() {
    let mut fleet = Fleet::new();
    let script = format!("trap 'echo again' HUP; echo ready {SAY}; while :; do sleep 0.01; done");
    let mut hears = fleet.request(&sh(&script));
    fleet.spawn_until_it_says(&mut hears);
    fleet.ask(&KeepRequest::Reload { at: hears.at });
    assert_eq!(fleet.next().unwrap(), KeepEvent::Reloaded { at: hears.at });
    let mut deaf = fleet.request(&sh(&format!("echo ready {SAY}; exec sleep 1000")));
    fleet.spawn_until_it_says(&mut deaf);
    fleet.ask(&KeepRequest::Reload { at: deaf.at });
    match fleet.next().unwrap() {
        KeepEvent::ReloadRefused { at, reason } if at == deaf.at => {
            assert!(reason.contains("would end of it"), "{reason}");
        }
        event => panic!("{event:?}"),
    }
    fleet.kill(deaf.at);
    fleet.kill(hears.at);
}

#[test]
fn a_pid_file_says_who_runs_and_goes_with_it() {
    let mut fleet = Fleet::new();
    let path = fleet.directory.path().join("web.pid");
    let content = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let mut request = fleet.request(&["/bin/sleep", "1000"]);
    request.pid_file = Some(path.to_str().unwrap().to_owned());
    // A stale one is overwritten.
    fs::write(&path, "1\n").unwrap();
    let main = fleet.spawn(&request);
    assert_eq!(content(&path), format!("{main}\n"));
    fleet.kill(request.at);
    assert!(!path.exists());
    // Somebody else's content is left alone.
    request.at.incarnation += 1;
    fleet.spawn(&request);
    fs::write(&path, "mine\n").unwrap();
    fleet.kill(request.at);
    assert_eq!(content(&path), "mine\n");
    // A program that was named by mistake is neither replaced nor removed, and nothing runs then.
    request.at.incarnation += 1;
    fleet.send(&request, None);
    match fleet.next().unwrap() {
        KeepEvent::SpawnFailed { reason, .. } => assert!(reason.contains("holds"), "{reason}"),
        event => panic!("{event:?}"),
    }
    assert_eq!(content(&path), "mine\n");
    // What is no file is neither followed nor replaced, and nothing runs then.
    let target = fleet.directory.path().join("target");
    fs::write(&target, "").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let missing = "/no/such/directory/web.pid".to_owned();
    for path in [path.to_str().unwrap().to_owned(), missing] {
        request.at.incarnation += 1;
        request.pid_file = Some(path);
        fleet.send(&request, None);
        match fleet.next().unwrap() {
            KeepEvent::SpawnFailed { at, reason, .. } if at == request.at => {
                assert!(reason.contains("pid file"), "{reason}");
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(content(&target), "");
}

#[test]
fn what_cannot_be_made_is_one_failed_start() {
    use rustix::process::{Resource, Rlimit, prlimit};
    let mut fleet = Fleet::new();
    let keep = pid(fleet.keep.pid());
    let survivor = fleet.request(&["/bin/sleep", "1000"]);
    fleet.spawn(&survivor);
    let refused = |fleet: &mut Fleet, request: &SpawnRequest, link, expected: i32| {
        fleet.send(request, link);
        match fleet.next().unwrap() {
            KeepEvent::SpawnFailed { at, errno, .. } if at == request.at => {
                assert_eq!(errno, expected);
            }
            event => panic!("{event:?}"),
        }
    };
    // No descriptors: neither for pipes, nor for a link that comes along.
    let full = prlimit(Some(keep), Resource::Nofile, Rlimit { current: Some(10), maximum: None });
    let full = match full {
        Ok(full) => full,
        // Without the privilege to keep an unlimited maximum.
        Err(_) => {
            let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
            let few = Rlimit { current: Some(10), maximum };
            prlimit(Some(keep), Resource::Nofile, few).unwrap()
        }
    };
    let plain = fleet.request(&["/bin/true"]);
    refused(&mut fleet, &plain, None, libc::EMFILE);
    let mut linked = fleet.request(&["/bin/true"]);
    linked.link = true;
    let many: Vec<_> = (0..12).map(|_| File::open("/dev/null").unwrap()).collect();
    for file in many {
        linked.at.incarnation += 1;
        refused(&mut fleet, &linked, Some(file.into()), libc::EMFILE);
    }
    prlimit(Some(keep), Resource::Nofile, full).unwrap();
    // Nothing was lost: each link is its own request's.
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    linked.at.incarnation += 1;
    linked.argv = sh(&format!("echo mine {SAY}")).map(str::to_owned).to_vec();
    fleet.send(&linked, Some(theirs));
    fleet.spawned(linked.at);
    assert_eq!(fleet.exited(linked.at), Exit::Code(0));
    assert_eq!(io::read_to_string(File::from(ours)).unwrap(), "mine\n");

    // No processes, for a user that has one and may have none.
    let nobody = Some(RunAs { uid: 65_534, gid: 65_534, groups: Vec::new() });
    let mut first = fleet.request(&["/bin/sleep", "1000"]);
    first.run_as.clone_from(&nobody);
    fleet.spawn(&first);
    let none = prlimit(Some(keep), Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) });
    let none = none.unwrap();
    let mut other = fleet.request(&["/bin/true"]);
    other.run_as = nobody;
    refused(&mut fleet, &other, None, libc::EAGAIN);
    let _ = prlimit(Some(keep), Resource::Nproc, none);
    fleet.kill(first.at);
    fleet.kill(survivor.at);
}

#[test]
fn the_next_keep_waits_for_the_last_process_of_the_one_before() {
    both(|mut fleet| {
        let lock = fleet.directory.path().join("keep.lock");
        let script = format!(
            "trap 'read x <$0/fifo; exit' TERM; echo r {SAY}; while :; do sleep 0.01; done"
        );
        let directory = fleet.directory.path().to_owned();
        let fifo = directory.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut request = fleet.request(&["/bin/sh", "-c", &script, directory.to_str().unwrap()]);
        fleet.spawn_until_it_says(&mut request);
        let (main, keep) = (fleet.last_pid, fleet.keep.pid());
        let Fleet { keep: client, directory, runtime, .. } = fleet;
        // The manager dies: its link closes.
        drop(client);
        let wait = |deadline| runtime.block_on(wait_for_previous(&lock, deadline));
        match wait(Instant::now()) {
            Err(KeepError::StillThere { pid: Some(pid), .. }) => assert_eq!(pid, keep),
            other => panic!("{other:?}"),
        }
        // A second one does not start beside it.
        let mut late = Fleet::with(|_| {}, directory);
        match late.next() {
            Err(KeepError::Gone { how }) => {
                assert!(how.contains("still ends what it started"), "{how}");
            }
            other => panic!("{other:?}"),
        }
        fs::write(&fifo, "go\n").unwrap();
        wait(Instant::now() + DEADLINE).unwrap();
        assert!(!is_there(main));
    });
}

#[test]
fn what_a_killed_keep_left_is_ended_by_the_next() {
    let mut fleet = Fleet::new();
    let script = format!("setsid sleep 1000 & echo $! {SAY}; exec sleep 1000");
    let mut request = fleet.request(&sh(&script));
    let left: u32 = fleet.spawn_until_it_says(&mut request).parse().unwrap();
    let main = fleet.last_pid;
    fleet.keep.kill();
    assert!(matches!(fleet.next(), Err(KeepError::Gone { .. })));
    assert!(is_there(left) && is_there(main));
    let mut next = Fleet::with(|_| {}, fleet.directory);
    let request = next.request(&["/bin/true"]);
    next.output(&request);
    // Before anything else was started.
    assert!(!is_there(left) && !is_there(main));
}

#[test]
fn what_is_printed_last_is_in_the_log_whoever_prints_it() {
    both(|mut fleet| {
        let script = "setsid sh -c 'trap \"echo last; exit\" TERM; echo first; \
                      while :; do sleep 0.01; done' & read x";
        let mut request = fleet.request(&sh(&format!("echo ready {SAY}; {script} <$0")));
        let fifo = fleet.directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        request.argv.push(fifo.to_str().unwrap().to_owned());
        fleet.spawn_until_it_says(&mut request);
        // The first line is there: its writer lives, and has set its trap.
        let deadline = Instant::now() + DEADLINE;
        while fleet.log(request.at).is_empty() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        fs::write(&fifo, "end\n").unwrap();
        assert_eq!(fleet.exited(request.at), Exit::Code(0));
        assert_eq!(said(&fleet, request.at), ["first", "last"]);
    });
}
