//! Every word that people read of the machine: a row for each.

use std::collections::BTreeSet;
use std::time::Duration;

use duende_core::{
    lifecycle::Then,
    restart::{Exit, RestartPolicy},
    supervise::{GroupSpec, Spec},
    time::Instant,
};

use super::*;
use crate::{
    backend::{Abilities, Heard, News, Place},
    manager::decide::{DaemonSpec, Event, GroupPlan, NotifyAccess},
};

const AT: Instant = Instant::from_ns(2_000_000_000);
const QUARANTINED: FailureReason =
    FailureReason::Quarantined { restarts: 5, period: Duration::from_secs(60) };
const GONE: FailureReason = FailureReason::Unavailable(Unavailable::Program);

fn spec(name: &str, ready_by: ReadyBy) -> DaemonSpec {
    DaemonSpec {
        name: name.to_owned(),
        place: Place::Native,
        abilities: Abilities::of(Place::Native, false),
        supervision: Spec {
            start_timeout: Duration::from_millis(1_500),
            stop_grace: Duration::from_millis(250),
            watchdog: Some(Duration::from_secs(2)),
            ..Spec::default()
        },
        depends_on: Vec::new(),
        group: Some(0),
        ready_by,
        notify_access: NotifyAccess::Main,
        has_channels: false,
    }
}

fn decider(daemons: Vec<DaemonSpec>) -> Decider {
    let group = GroupPlan { spec: GroupSpec::default(), parent: None };
    let mut decider = Decider::new(&[group], daemons, false).unwrap();
    decider.now = Instant::from_ns(1_000_000_000);
    decider
}

#[test]
fn every_failure_has_its_words() {
    for (failure, words) in [
        (FailureReason::ExitCode(3), "exit code 3"),
        (FailureReason::Signal(9), "killed by SIGKILL"),
        (FailureReason::Signal(99), "signal 99"),
        (FailureReason::Error, "it returned an error"),
        (FailureReason::Trap, "it trapped"),
        (FailureReason::SliceBudget, "a slice passed its budget"),
        (FailureReason::StartTimeout, "it was not ready in time"),
        (FailureReason::Unhealthy, "its health checks failed"),
        (FailureReason::Watchdog, "it gave no sign of life"),
        (FailureReason::Refused, "it cannot be started"),
        (FailureReason::Lost, "what it ran in ended"),
        (FailureReason::Unkillable, "its process can't be killed"),
        (GONE, "its program is not there"),
        (QUARANTINED, "5 restarts were not enough, within 60 s"),
        (
            FailureReason::Quarantined { restarts: 1, period: Duration::from_millis(2_500) },
            "1 restart was not enough, within 2.5 s",
        ),
    ] {
        assert_eq!(failure_text(failure), words);
    }
    let obstacles = [
        Unavailable::Program,
        Unavailable::Permission,
        Unavailable::Busy,
        Unavailable::Descriptors,
        Unavailable::Memory,
        Unavailable::Processes,
        Unavailable::Space,
        Unavailable::Io,
        Unavailable::Source,
        Unavailable::Store,
        Unavailable::Image,
        Unavailable::Link,
        Unavailable::Other,
    ];
    let words: BTreeSet<_> = obstacles.map(unavailable).into_iter().collect();
    assert_eq!(words.len(), obstacles.len(), "each obstacle has words of its own: {words:?}");
}

/// The cause first, then the rule that made it final.
#[test]
fn the_cause_comes_before_the_rule() {
    for (failure, last, words) in [
        (QUARANTINED, "no port", "no port; quarantined: 5 restarts were not enough, within 60 s"),
        (QUARANTINED, "", "quarantined: 5 restarts were not enough, within 60 s"),
        (FailureReason::Trap, "", "it trapped"),
        (FailureReason::Trap, "unreachable", "unreachable"),
    ] {
        assert_eq!(failed(failure, last), words);
    }
    let text = |text: &str| Some(text.to_owned());
    for (why, said, how, words) in [
        (None, None, "exit code 1", "exit code 1"),
        (text("silent"), None, "killed by SIGKILL", "silent; killed"),
        (text("silent"), None, "exit code 1", "silent; exit code 1"),
        (None, text("no port"), "exit code 1", "exit code 1: no port"),
        (None, text("exit code 1"), "exit code 1", "exit code 1"),
        (text("silent"), text("no port"), "killed by SIGKILL", "silent; killed: no port"),
    ] {
        assert_eq!(end(why, said, how.to_owned()), words);
    }
}

#[test]
fn a_phase_is_the_same_whatever_its_deadline() {
    let later = Instant::from_ns(9_000_000_000);
    let phases = |at| {
        let (deadline, reason) = (at, FailureReason::Trap);
        [
            State::Starting(Starting::Spawning { deadline }),
            State::Starting(Starting::Initialising { deadline }),
            State::Reloading { deadline },
            State::Stopping(Stopping::Asked { deadline, then: Then::Stop }),
            State::Stopping(Stopping::Condemned { reason, deadline }),
            State::Stopping(Stopping::CondemnedKilling { reason, attempt: 1, deadline }),
        ]
    };
    for (one, first) in phases(AT).into_iter().enumerate() {
        for (other, second) in phases(later).into_iter().enumerate() {
            assert_eq!(is_same_phase(first, second), one == other, "{first:?} {second:?}");
        }
        assert!(!is_same_phase(first, State::Running) && !is_same_phase(State::Running, first));
        let is_condemned = matches!(
            first,
            State::Stopping(Stopping::Condemned { .. } | Stopping::CondemnedKilling { .. })
        );
        assert_eq!(condemned(first), is_condemned.then_some(FailureReason::Trap));
    }
    // One that ends and starts again has come to it anew.
    assert!(!is_same_phase(State::Running, State::Running));
}

#[test]
fn who_does_not_come_is_said_why() {
    for (state, words) in [
        (Some(State::Failed(QUARANTINED)), "is quarantined"),
        (Some(State::Failed(FailureReason::Trap)), "has failed"),
        (Some(State::Stopped(StopCause::Operator)), "is stopped"),
        (Some(State::Created), "was never started"),
        (Some(State::Paused), "is paused"),
        (Some(State::Backoff { until: AT, failure: None }), "has ended and is tried again"),
        (Some(State::Running), "is not ready"),
        (None, "is not ready"),
    ] {
        assert_eq!(why_it_does_not_come(state), words);
    }
}

#[test]
fn who_is_condemned_is_told_by_which_rule() {
    for (ready_by, unheeded, words) in [
        (ReadyBy::Datagram, None, "no READY=1 came"),
        (
            ReadyBy::Datagram,
            Some(9),
            "READY=1 came from its process 9, which does not count by its notify_access",
        ),
        (ReadyBy::Link, None, "it did not say that it is ready"),
        (ReadyBy::Start, None, "its startup probe did not succeed"),
    ] {
        let mut decider = decider(vec![spec("a", ready_by)]);
        let daemon = &mut decider.daemons[0];
        daemon.unheeded = unheeded;
        let words = format!("not ready within 1.5 s: {words}");
        assert_eq!(verdict(daemon, FailureReason::StartTimeout), words);
        assert_eq!(verdict(daemon, FailureReason::Watchdog), "no WATCHDOG=1 for 2 s");
        assert_eq!(verdict(daemon, FailureReason::Unhealthy), "its health checks failed");
        daemon.health_detail = "no port".to_owned();
        assert_eq!(verdict(daemon, FailureReason::Unhealthy), "its health checks failed: no port");
        assert_eq!(verdict(daemon, FailureReason::Trap), "it trapped");
    }
}

/// What stands in the history for each state, and nothing for steps on the way.
#[test]
fn every_state_is_an_event_or_a_step_on_the_way() {
    let mut decider = decider(vec![spec("a", ReadyBy::Start)]);
    decider.daemons[0].last_exit = Some("no port".to_owned());
    let (deadline, then, reason) = (AT, Then::Stop, FailureReason::Watchdog);
    let killing = State::Stopping(Stopping::Killing { then, attempt: 1, deadline });
    for (state, event) in [
        (State::Created, None),
        (State::Starting(Starting::Waiting), None),
        (State::Starting(Starting::Initialising { deadline }), None),
        (State::Starting(Starting::Spawning { deadline }), Some((EventKind::Started, ""))),
        (State::Running, Some((EventKind::Running, ""))),
        (State::Reloading { deadline }, Some((EventKind::Reloading, ""))),
        (State::Paused, Some((EventKind::Paused, ""))),
        (State::Stopping(Stopping::Asked { deadline, then }), Some((EventKind::Stopping, ""))),
        (killing, Some((EventKind::Stopping, "it did not end within 250 ms: killing it"))),
        (
            State::Stopping(Stopping::Condemned { reason, deadline }),
            Some((EventKind::Unhealthy, "its state and sources were not open within 1.5 s")),
        ),
        (
            State::Stopping(Stopping::CondemnedKilling { reason, attempt: 1, deadline }),
            Some((
                EventKind::Stopping,
                "no WATCHDOG=1 for 2 s; it did not end within 250 ms: killing it",
            )),
        ),
        (State::Stopped(StopCause::Finished), Some((EventKind::Stopped, ""))),
        (
            State::Backoff { until: AT, failure: None },
            Some((EventKind::Backoff, "starting again in 1 s")),
        ),
        (
            State::Backoff { until: AT, failure: Some(GONE) },
            Some((EventKind::Backoff, "waiting: no port; trying again in 1 s")),
        ),
        (
            State::Failed(QUARANTINED),
            Some((
                EventKind::Quarantined,
                "5 restarts were not enough, within 60 s; `duende restart a` releases it",
            )),
        ),
        (State::Failed(FailureReason::Trap), Some((EventKind::Failed, "no port"))),
    ] {
        let event = event.map(|(kind, text)| (kind, text.to_owned()));
        assert_eq!(decider.event_of(0, state), event, "{state:?}");
    }
    decider.interrupt("SIGTERM");
    let text = |decider: &Decider| decider.event_of(0, killing).unwrap().1;
    assert_eq!(text(&decider), "it did not end within 250 ms: killing it");
    decider.interrupt("SIGTERM");
    assert_eq!(text(&decider), "everything is to end at once: killing it");
}

/// Whoever was given up with its group is released with it, and nobody else.
#[test]
fn who_was_given_up_together_is_released_together() {
    let daemon = |name: &str, group, restart| {
        let mut spec = DaemonSpec { group, ..spec(name, ReadyBy::Start) };
        spec.supervision.restart = restart;
        spec
    };
    let mut decider = decider(vec![
        daemon("bad", Some(0), RestartPolicy::Always),
        daemon("with", Some(0), RestartPolicy::Always),
        daemon("alone", None, RestartPolicy::Never),
    ]);
    let hear = |decider: &mut Decider, slot: u32, news| {
        let Some((at, ..)) = decider.daemon(slot).unwrap().running() else { return };
        decider.handle(AT, 0, Event::Heard(Heard::Of(at, news)));
    };
    decider.handle(AT, 0, Event::Begin);
    let exited = || News::Exited { exit: Exit::Code(1), reason: "no port".to_owned() };
    hear(&mut decider, 2, exited());
    for _ in 0..20 {
        hear(&mut decider, 0, exited());
        hear(&mut decider, 1, News::Started { pid: None });
        if decider.is_given_up(0) {
            break;
        }
        let next = decider.next_deadline().unwrap();
        decider.handle(next, 0, Event::Tick);
    }
    hear(&mut decider, 1, exited());
    let (bad, with) = (decider.detail(0), decider.detail(1));
    assert_eq!(bad.way_out, "duende restart bad with releases them");
    assert!(with.way_out.contains("duende restart bad with"), "{with:?}");
    assert_eq!(decider.detail(2).way_out, "duende start alone");
    // Whoever is alone in it is released alone.
    decider.daemons[1].spec.group = None;
    assert_eq!(decider.detail(0).way_out, "duende restart bad releases it");
    assert_eq!(decider.detail(2).reason, "no port");
    assert_eq!(decider.failed(), ["bad", "alone"]);
}

impl Decider {
    fn is_given_up(&self, slot: u32) -> bool {
        self.view(slot).is_some_and(|view| {
            matches!(view.state, State::Stopped(StopCause::GaveUp) | State::Failed(_))
        })
    }
}
