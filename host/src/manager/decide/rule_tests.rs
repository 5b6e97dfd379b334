//! Further single rules of the machine, each over all its cases; the bench is that of `tests`.

use std::collections::BTreeMap;

use duende_core::lifecycle::{FailureReason, StopCause};

use super::*;
use crate::backend::{Obstacle, Report, SourceWord};
use duende_core::restart::Unavailable;

const WOS: Address = FIRST;

fn component(name: &str) -> DaemonSpec {
    DaemonSpec {
        place: Place::Wos,
        abilities: Abilities::of(Place::Wos, true),
        ..spec(name, ReadyBy::Link, true)
    }
}

fn exited(code: i32) -> News {
    News::Exited { exit: Exit::Code(code), reason: format!("exit code {code}") }
}

fn outcomes(effects: &[Effect]) -> Vec<Outcome> {
    match answers(effects).as_slice() {
        [Answer::Outcomes(outcomes)] => outcomes.clone(),
        other => panic!("{other:?}"),
    }
}

/// A component that runs.
fn running_component() -> Bench {
    let mut bench = Bench::new(vec![component("c")]);
    bench.event(Event::Begin);
    bench.hear(WOS, News::Prepared(Ok(())));
    bench.hear(WOS, News::Started { pid: None });
    bench.hear(WOS, News::Ready { pid: Some(3) });
    assert_eq!(bench.state(0), State::Running);
    bench
}

/// The reference implementation's output for a seed of zero.
#[test]
fn draws_are_splitmix64() {
    let mut draws = Draws(0);
    assert_eq!(draws.next(), 0xe220_a839_7b1d_cdaf);
    assert_eq!(draws.next(), 0x6e78_9e6a_a1b9_65f4);
}

#[test]
fn what_a_daemon_says_of_itself_can_be_read() {
    let mut bench = running_component();
    let daemon = |bench: &Bench| format!("{:?}", bench.decider.daemon(0).unwrap().running());
    assert!(daemon(&bench).contains("Some(3)"), "what its kernel calls it is shown");
    for (memory_bytes, expected) in [(0, None), (9, Some(9)), (0, Some(9)), (1, Some(1))] {
        bench.hear(
            WOS,
            News::Committed {
                slices: 1,
                messages: 5,
                counters: vec![("lines".to_owned(), 2)],
                gauges: vec![("level".to_owned(), 0.5)],
                memory_bytes,
            },
        );
        assert_eq!(bench.decider.daemon(0).unwrap().memory_bytes(), expected);
    }
    let mut kept = 1;
    for (report, memory_bytes, state, words) in [
        (Report::Degraded("slow".to_owned()), 0, HealthState::Degraded, "slow"),
        (Report::Healthy, 7, HealthState::Healthy, ""),
        (Report::Busy(3_000_000), 0, HealthState::Healthy, "busy for 3 ms"),
        (Report::Paused, 0, HealthState::Healthy, "paused"),
        (Report::Unhealthy("no port".to_owned()), 0, HealthState::Unhealthy, "no port"),
        (Report::Unhealthy("no port".to_owned()), 0, HealthState::Unhealthy, "no port"),
        (Report::Healthy, 0, HealthState::Healthy, ""),
    ] {
        let was_ill = bench.decider.daemon(0).unwrap().health().0 == HealthState::Unhealthy;
        let is_ill = state == HealthState::Unhealthy;
        let effects = bench.hear(WOS, News::Health { token: 0, report, memory_bytes });
        let daemon = bench.decider.daemon(0).unwrap();
        assert_eq!(daemon.health(), (state, words));
        kept = if memory_bytes > 0 { memory_bytes } else { kept };
        assert_eq!(daemon.memory_bytes(), Some(kept));
        let recorded = effects.iter().any(|effect| {
            let kinds = [EventKind::Healthy, EventKind::Unhealthy];
            matches!(effect, Effect::Record { kind, .. } if kinds.contains(kind))
        });
        assert_eq!(recorded, was_ill != is_ill, "the change stands in the history: {words}");
    }
    bench.hear(WOS, News::OutputLost { lines: 4 });
    bench.hear(WOS, News::OutputLost { lines: 5 });
    let daemon = bench.decider.daemon(0).unwrap();
    assert_eq!(daemon.lost_lines(), 9);
    let metrics: BTreeMap<_, _> = [("lines".to_owned(), 8.0), ("level".to_owned(), 0.5)].into();
    assert_eq!(daemon.metrics(), metrics);
    assert_eq!(daemon.figures().0["lines"], 8);
    assert!((daemon.figures().1["level"] - 0.5).abs() < f64::EPSILON);
    assert_eq!(daemon.rate(bench.now).map(|rate| rate.per_second), Some(0.8));
    assert!(daemon.is_placed());
    assert_eq!(bench.decider.find("c"), Some(0));
    assert_eq!(bench.decider.find("x"), None);
    assert_eq!(bench.decider.daemons().len(), 1);
    assert_eq!((bench.decider.halted(), bench.decider.now()), (None, bench.now));
    // It goes on from what was kept, if it is the one that runs.
    let counters = || [("lines".to_owned(), 100)];
    bench.decider.go_on_from(Address::of(0, 2), counters(), []);
    assert_eq!(bench.decider.daemon(0).unwrap().figures().0["lines"], 8);
    bench.decider.go_on_from(WOS, counters(), []);
    assert_eq!(bench.decider.daemon(0).unwrap().figures().0["lines"], 100);
    // What it had is not its successor's.
    bench.hear(WOS, exited(1));
    let daemon = bench.decider.daemon(0).unwrap();
    assert_eq!((daemon.memory_bytes(), daemon.processes(), daemon.is_placed()), (None, 0, false));
    assert_eq!(daemon.last_exit(), Some("exit code 1"));
}

/// The check is what the simulator relies on.
#[test]
fn a_machine_that_is_not_as_it_should_be_is_noticed() {
    let running = || {
        let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, true)]);
        bench.event(Event::Begin);
        bench.hear(FIRST, News::Prepared(Ok(())));
        bench.hear(FIRST, News::Started { pid: Some(7) });
        bench
    };
    let there = |decider: &mut Decider, change: fn(&mut daemon::Incarnation)| {
        change(decider.daemons[0].incarnation.as_mut().unwrap());
    };
    let spoils: [&dyn Fn(&mut Decider); 8] = [
        &|decider| decider.daemons[0].incarnation = None,
        &|decider| there(decider, |there| there.at.incarnation = 9),
        &|decider| there(decider, |there| there.at.daemon = 9),
        &|decider| there(decider, |there| there.phase = daemon::Phase::Preparing),
        &|decider| there(decider, |there| there.main_ended = Some("exit code 1".to_owned())),
        &|decider| {
            there(decider, |there| {
                there.link_open = false;
                let (exit, reason, until) = (Exit::Code(1), String::new(), Instant::ZERO);
                there.ending = Some(daemon::Ending { exit, reason, until });
            });
        },
        &|decider| {
            for number in 0..=WAITERS_MAX as u64 {
                let question = QuestionId(number);
                decider.waiters.push(Waiter::new(
                    question,
                    Instant::ZERO,
                    waiter::Goal::Up,
                    vec![],
                ));
            }
        },
        &|decider| decider.unclaimed.overfill(),
    ];
    assert_eq!(running().decider.check_invariants(), Ok(()));
    for (number, spoil) in spoils.into_iter().enumerate() {
        let mut bench = running();
        spoil(&mut bench.decider);
        assert!(bench.decider.check_invariants().is_err(), "{number}");
    }
    // Over, and still said to be there.
    let mut bench = running();
    bench.hear(FIRST, News::LinkClosed { reason: None });
    let kept = daemon::Incarnation::new(FIRST, bench.now, daemon::Phase::Placed, true);
    bench.hear(FIRST, exited(0));
    bench.decider.daemons[0].incarnation = Some(kept);
    assert!(bench.decider.check_invariants().is_err());
    // As many as may wait may wait.
    let mut bench = running();
    for number in 0..WAITERS_MAX as u64 {
        let question = QuestionId(number);
        let waiter = Waiter::new(question, Instant::ZERO, waiter::Goal::Up, vec![(0, 1)]);
        bench.decider.waiters.push(waiter);
    }
    assert_eq!(bench.decider.check_invariants(), Ok(()));
    let effects = bench.ask(Verb::Start(vec![0]));
    let [Answer::Refused { code: ErrorCode::Busy, message }] = answers(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert!(message.contains("64 questions wait already"), "{message}");
}

#[test]
fn a_dependency_comes_before_whoever_depends_on_it() {
    let mut first = spec("a", ReadyBy::Start, false);
    first.depends_on = vec![1];
    let error = Decider::new(&[], vec![first, spec("b", ReadyBy::Start, false)], false);
    let words = error.err().map(|error| error.to_string());
    let expected = "daemon a depends on slot 1, which does not come before it";
    assert_eq!(words.as_deref(), Some(expected));
}

/// By their token and their daemon, and at most so many.
#[test]
fn figures_are_those_that_were_asked_for() {
    let mut bench = running_component();
    let effects = bench.ask(Verb::Figures(0));
    let [Effect::Ask(_, Ask::Sample { token })] = effects[..] else { panic!("{effects:?}") };
    let figure =
        |token, number: usize| News::Figure { token, figure: Some((format!("f{number}"), 1.0)) };
    bench.hear(WOS, figure(token + 1, 0));
    for number in 0..100 {
        bench.hear(WOS, figure(token, number));
    }
    let end = |token| News::Figure { token, figure: None };
    assert_eq!(answers(&bench.hear(WOS, end(token + 1))), [] as [&Answer; 0]);
    let effects = bench.hear(WOS, end(token));
    let [Answer::Figures { slot: 0, figures }] = &answers(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(figures.len(), duende_core::wire::link::METRICS_MAX);
    assert_eq!(figures[0].0, "f0");
    // Who has none is not waited for; who does not tell them, for its time.
    bench.ask(Verb::Figures(0));
    let effects = bench.pass(Duration::from_millis(1_999));
    assert_eq!(answers(&effects), [] as [&Answer; 0]);
    assert_eq!(answers(&bench.pass(Duration::from_millis(1))).len(), 1);
    bench.ask(Verb::Figures(0));
    assert_eq!(answers(&bench.hear(WOS, exited(1))).len(), 1);
    assert_eq!(answers(&bench.ask(Verb::Figures(0))).len(), 1);
}

/// What is asked of one in a state that does not allow it is refused, by name.
#[test]
fn a_verb_is_refused_by_the_name_of_what_does_not_allow_it() {
    for (verb, word) in [
        (Verb::Pause(vec![0]), "a can't be paused now"),
        (Verb::Resume(vec![0]), "a can't be resumed now"),
        (Verb::Reload(vec![0]), "a can't be reloaded now"),
    ] {
        let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
        let [outcome] = &outcomes(&bench.ask(verb))[..] else { panic!() };
        assert_eq!(outcome.refused, Some(ErrorCode::InvalidState));
        assert!(outcome.detail.starts_with(word), "{outcome:?}");
    }
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    for (verb, state) in [
        (Verb::Pause(vec![0]), State::Paused),
        (Verb::Pause(vec![0]), State::Paused),
        (Verb::Resume(vec![0]), State::Running),
    ] {
        assert_eq!(outcomes(&bench.ask(verb))[0].refused, None);
        assert_eq!(bench.state(0), state);
    }
    let effects = bench.ask(Verb::Start(vec![0]));
    assert_eq!(outcomes(&effects)[0].detail, "a is started already");
    bench.ask(Verb::Start(vec![]));
    assert_eq!(outcomes(&bench.pass(waiter::SETTLE_TIME))[0].refused, None);
    assert_eq!(answers(&bench.ask(Verb::Reload(vec![]))), [] as [&Answer; 0]);
    let refused = News::ReloadRefused { reason: "it catches no SIGHUP".to_owned() };
    let effects = bench.hear(FIRST, refused);
    assert_eq!(outcomes(&effects)[0].detail, "a was not reloaded: it catches no SIGHUP");
    // One that has stopped is started by its name, and one that ends is not.
    bench.ask(Verb::Stop(vec![0]));
    let effects = bench.ask(Verb::Start(vec![0]));
    let detail = answers(&effects).iter().any(|answer| {
        format!("{answer:?}").contains("a is stopping; `duende restart` starts it afterwards")
    });
    assert!(detail, "{effects:?}");
    bench.event(Event::Interrupted { signal: "SIGTERM" });
    for verb in [Verb::Start(vec![]), Verb::Restart(vec![]), Verb::Pause(vec![])] {
        let effects = bench.ask(verb);
        let refused = answers(&effects);
        assert!(matches!(refused[..], [Answer::Refused { code: ErrorCode::Stopping, .. }]));
    }
}

/// Who asked leaves: nothing is told to it, and everything to the others.
#[test]
fn whoever_does_not_wait_any_more_is_told_nothing() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Datagram, false)]);
    bench.ask(Verb::Start(vec![0]));
    bench.ask(Verb::Restart(vec![0]));
    bench.event(Event::Forgotten(QuestionId(1)));
    bench.hear(FIRST, exited(0));
    bench.pass(Duration::from_secs(1));
    let at = bench.decider.daemon(0).unwrap().running().unwrap().0;
    bench.hear(at, News::Started { pid: Some(7) });
    let effects = bench.notice(7, ready());
    let answered = |effect: &Effect| matches!(effect, Effect::Answer(QuestionId(2), _));
    assert!(effects.iter().any(answered), "{effects:?}");
}

/// What a notification says is done, for whom it counts and no other, and said once.
#[test]
fn a_notification_is_heeded_word_by_word() {
    let notice = |change: fn(&mut Notice)| {
        let mut notice = Notice::default();
        change(&mut notice);
        notice
    };
    let all =
        DaemonSpec { notify_access: NotifyAccess::All, ..spec("a", ReadyBy::Datagram, false) };
    let mut bench = Bench::new(vec![all, spec("b", ReadyBy::Datagram, false)]);
    let second = Address::of(1, 1);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(70) });
    bench.hear(second, News::Started { pid: Some(80) });
    // A helper of one that lets all speak, and of one that does not.
    bench.event(Event::Noticed { pid: 71, part_of: Some(FIRST), notice: ready() });
    bench.event(Event::Noticed { pid: 81, part_of: Some(second), notice: ready() });
    assert_eq!(bench.state(0), State::Running);
    assert_ne!(bench.state(1), State::Running);
    let said = |effects: &[Effect], part: &str| {
        effects.iter().filter(|effect| format!("{effect:?}").contains(part)).count()
    };
    for times in [1, 0] {
        let effects = bench.notice(70, notice(|notice| notice.fdstore = true));
        assert_eq!(said(&effects, "FDSTORE=1"), times);
        let effects = bench.notice(70, notice(|notice| notice.ignored = Some("ERRNO".to_owned())));
        assert_eq!(said(&effects, "ERRNO"), times);
    }
    for (change, status) in [
        ((|notice| notice.stopping = true) as fn(&mut Notice), "it is stopping by itself"),
        (|notice| notice.status = Some("busy".to_owned()), "busy"),
        (|notice| notice.stopping = true, "busy"),
        (|notice| notice.alive = true, "busy"),
    ] {
        bench.notice(70, notice(change));
        assert_eq!(bench.decider.daemon(0).unwrap().status(), status);
    }
    assert_eq!(bench.notice(70, notice(|notice| notice.main_pid = Some(70))), []);
    let effects = bench.notice(70, notice(|notice| notice.main_pid = Some(72)));
    assert_eq!(effects, [Effect::Ask(FIRST, Ask::MainProcess { pid: 72 })]);
    // Another's process says nothing for it.
    assert_eq!(bench.notice(80, notice(|notice| notice.status = Some("b".to_owned()))), []);
    assert_eq!(bench.decider.daemon(0).unwrap().status(), "busy");
    assert_eq!(bench.decider.daemon(1).unwrap().status(), "b");
}

/// Where its access is `none`, not even what the main process says counts.
#[test]
fn who_lets_nobody_speak_is_not_made_ready_by_a_word() {
    let none =
        DaemonSpec { notify_access: NotifyAccess::None, ..spec("a", ReadyBy::Datagram, false) };
    for early in [false, true] {
        let mut bench = Bench::new(vec![none.clone()]);
        bench.event(Event::Begin);
        if early {
            bench.notice(70, ready());
        }
        bench.hear(FIRST, News::Started { pid: Some(70) });
        bench.notice(70, ready());
        assert_ne!(bench.state(0), State::Running, "{early}");
    }
}

/// A fleet of one ends with its work; one that is managed does not.
#[test]
fn a_fleet_ends_with_its_work_only_if_that_is_its_end() {
    let fleet = |ends: bool, restart| {
        let mut daemons = vec![spec("a", ReadyBy::Start, false), spec("b", ReadyBy::Start, false)];
        for daemon in &mut daemons {
            daemon.supervision.restart = restart;
        }
        let mut bench = Bench::new(vec![]);
        bench.decider = Decider::new(&[], daemons, ends).unwrap();
        bench.event(Event::Begin);
        bench
    };
    let second = Address::of(1, 1);
    for ends in [false, true] {
        let mut bench = fleet(ends, RestartPolicy::Never);
        for (at, is_last) in [(FIRST, false), (second, true)] {
            bench.hear(at, News::Started { pid: Some(7 + at.daemon) });
            let is_over = bench.hear(at, exited(0)).contains(&Effect::End);
            assert_eq!(is_over, ends && is_last, "{at:?}");
        }
        for failure in [None, Some("standard input: no".to_owned())] {
            let mut bench = fleet(ends, RestartPolicy::Always);
            let failed = if ends && failure.is_some() { vec!["a".to_owned()] } else { vec![] };
            bench.hear(FIRST, News::SourceDrained { failure });
            // Whether they can run at all is not known yet.
            assert!(!bench.decider.is_stopping());
            bench.hear(FIRST, News::Started { pid: Some(7) });
            assert!(!bench.decider.is_stopping());
            bench.hear(second, News::Started { pid: Some(8) });
            assert_eq!(bench.decider.is_stopping(), ends);
            assert_eq!(bench.decider.failed(), failed);
        }
        // Nothing to do is not done by what can't run.
        let mut bench = fleet(ends, RestartPolicy::Never);
        bench.hear(FIRST, News::SourceDrained { failure: None });
        bench.hear(FIRST, News::Started { pid: Some(7) });
        bench.hear(second, News::Exited { exit: Exit::Refused, reason: "no image".to_owned() });
        assert_eq!(bench.decider.is_stopping(), ends);
        assert_eq!(bench.decider.failed(), ["b"]);
    }
}

/// How an end is logged: as an error if it is a failure that is the daemon's own.
#[test]
fn a_failure_is_logged_as_an_error_and_nothing_else_is() {
    for (exit, level) in [
        (Exit::Code(0), LogLevel::Info),
        (Exit::Code(1), LogLevel::Error),
        (Exit::Signal(11), LogLevel::Error),
        (Exit::Unavailable(Unavailable::Program), LogLevel::Info),
    ] {
        let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
        bench.event(Event::Begin);
        bench.hear(FIRST, News::Started { pid: Some(7) });
        let effects = bench.hear(FIRST, News::Exited { exit, reason: "x".to_owned() });
        let text = "incarnation 1 ended: x".to_owned();
        assert!(effects.contains(&Effect::Log { at: FIRST, level, own: false, text }), "{exit:?}");
    }
}

/// Whoever depends on one that fails is recorded as blocked, and its starter is told by whom.
#[test]
fn who_is_blocked_is_told_by_whom() {
    let mut first = spec("a", ReadyBy::Datagram, false);
    first.supervision.restart = RestartPolicy::Never;
    let mut second = spec("b", ReadyBy::Start, false);
    second.depends_on = vec![0];
    let mut bench = Bench::new(vec![first, second]);
    bench.event(Event::Begin);
    bench.ask(Verb::Settled);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    let effects = bench.hear(FIRST, exited(1));
    let text = "it waits for a, which has failed";
    let blocked = |effect: &Effect| matches!(effect, Effect::Record { slot: Some(1), kind: EventKind::Blocked, detail, .. } if detail == text);
    assert!(effects.iter().any(blocked), "{effects:?}");
    let outcomes = outcomes(&effects);
    assert_eq!(outcomes[1].detail, "b waits for a, which has failed");
    assert_eq!(bench.state(0), State::Failed(FailureReason::ExitCode(1)));
    let refused = Verb::Stop(vec![0]);
    assert_eq!(self::outcomes(&bench.ask(refused))[0].refused, None);
}

/// A stop is done when nobody is there; who can't be killed is said not to be.
#[test]
fn a_stop_is_done_when_its_process_is_gone() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    assert_eq!(answers(&bench.ask(Verb::Stop(vec![0]))), [] as [&Answer; 0]);
    let outcome = &outcomes(&bench.hear(FIRST, exited(0)))[0];
    assert_eq!((outcome.refused, bench.state(0)), (None, State::Stopped(StopCause::Operator)));

    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    bench.ask(Verb::Stop(vec![0]));
    let effects = bench.pass(Duration::from_secs(600));
    let outcome = &outcomes(&effects)[0];
    assert_eq!(outcome.detail, "a: its process can't be killed");
    assert_eq!(bench.decider.detail(0).way_out, "end process 7 by hand");
    // Of one whose sources are still being opened there is nothing to be ended.
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
    bench.event(Event::Begin);
    assert!(!bench.decider.daemon(0).unwrap().is_placed());
    let effects = bench.ask(Verb::Stop(vec![0]));
    assert_eq!(outcomes(&effects)[0].refused, None);
    let obstacle =
        Obstacle { exit: Exit::Unavailable(Unavailable::Source), text: "gone".to_owned() };
    assert_eq!(bench.hear(FIRST, News::Prepared(Err(obstacle))), []);
}

/// Once, until it has answered; and never one that is being ended.
#[test]
fn a_place_is_asked_once_at_a_time() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    bench.answers = false;
    let mut asked = || {
        bench.decider.ask_place(Place::Native);
        std::mem::take(&mut bench.decider.effects).len()
    };
    assert_eq!((asked(), asked()), (1, 0));
    bench.decider.end_place(Place::Native, "it does not answer");
    bench.decider.effects.clear();
    bench.decider.ask_place(Place::Native);
    assert_eq!(bench.decider.effects, []);
}

/// That it was told is all, unless it can say itself when it is done.
#[test]
fn a_reload_lasts_until_whoever_can_say_so_says_that_it_is_done() {
    for (ready_by, linked, is_done) in [
        (ReadyBy::Start, false, true),
        (ReadyBy::Datagram, true, true),
        (ReadyBy::Link, true, true),
        (ReadyBy::Datagram, false, false),
    ] {
        let mut bench = Bench::new(vec![spec("a", ready_by, linked)]);
        bench.event(Event::Begin);
        if linked {
            bench.hear(FIRST, News::Prepared(Ok(())));
        }
        bench.hear(FIRST, News::Started { pid: Some(7) });
        match ready_by {
            ReadyBy::Start => {}
            ReadyBy::Datagram => drop(bench.notice(7, ready())),
            ReadyBy::Link => drop(bench.hear(FIRST, News::Ready { pid: None })),
        }
        assert_eq!(bench.state(0), State::Running, "{ready_by:?}");
        bench.ask(Verb::Reload(vec![0]));
        let effects = bench.hear(FIRST, News::Reloaded);
        assert_eq!(!answers(&effects).is_empty(), is_done, "{ready_by:?} {linked}");
        if !is_done {
            let effects = bench.notice(7, ready());
            assert_eq!(outcomes(&effects)[0].refused, None);
        }
    }
}

/// A dependent needs it: whoever wanted it down waits in vain.
#[test]
fn who_stops_one_that_is_started_again_is_told() {
    let mut second = spec("b", ReadyBy::Start, false);
    second.depends_on = vec![0];
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false), second]);
    bench.ask(Verb::Start(vec![0]));
    bench.hear(FIRST, News::Started { pid: Some(7) });
    bench.pass(waiter::SETTLE_TIME);
    bench.ask(Verb::Stop(vec![0]));
    let mut effects = bench.ask(Verb::Start(vec![1]));
    effects.extend(bench.hear(FIRST, exited(0)));
    effects.extend(bench.pass(Duration::from_secs(1)));
    let told = |effect: &Effect| {
        matches!(effect, Effect::Answer(QuestionId(2), Answer::Outcomes(of))
            if of[0].detail == "a was started again meanwhile")
    };
    assert!(effects.iter().any(told), "{effects:?}");
}

/// Of what has ended cleanly, it matters whether it was ready before.
#[test]
fn to_have_done_its_work_is_to_have_been_ready() {
    for was_ready in [false, true] {
        let mut daemon = spec("a", ReadyBy::Datagram, false);
        daemon.supervision.restart = RestartPolicy::OnFailure;
        let mut bench = Bench::new(vec![daemon]);
        bench.event(Event::Begin);
        bench.hear(FIRST, News::Started { pid: Some(7) });
        if was_ready {
            bench.notice(7, ready());
        }
        bench.hear(FIRST, exited(0));
        assert_eq!(bench.state(0), State::Stopped(StopCause::Finished));
        let outcome = &outcomes(&bench.ask(Verb::Settled))[0];
        let words = if was_ready {
            "it has done its work"
        } else {
            "a ended before it was ready: exit code 0"
        };
        assert_eq!((outcome.refused.is_none(), outcome.detail.as_str()), (was_ready, words));
    }
}

/// Also through others that wait.
#[test]
fn who_waits_for_one_that_ends_again_and_again_is_told_after_its_time() {
    let mut looping = spec("a", ReadyBy::Datagram, false);
    looping.supervision.limit = duende_core::limiter::RestartLimit::UNLIMITED;
    let waits =
        |name: &str, on| DaemonSpec { depends_on: vec![on], ..spec(name, ReadyBy::Start, false) };
    let mut bench = Bench::new(vec![looping, waits("b", 0), waits("c", 1)]);
    let mut effects = bench.ask(Verb::Start(vec![2]));
    let begun = bench.now;
    while answers(&effects).is_empty() {
        assert!(bench.now.saturating_since(begun) < 2 * waiter::TRIES_TIME, "nobody is told");
        if let Some((at, None, _)) = bench.decider.daemon(0).unwrap().running() {
            bench.hear(at, News::Started { pid: Some(8) });
            effects.extend(bench.hear(at, exited(1)));
        }
        effects.extend(bench.pass(Duration::from_millis(100)));
    }
    assert!(bench.now.saturating_since(begun) >= waiter::TRIES_TIME);
    let detail = &outcomes(&effects)[0].detail;
    assert_eq!(detail, "c waits for a, which has ended and is tried again");
}

/// What a source says again and again is told once a minute with its count, events each time; and at the end
/// the rest.
#[test]
fn what_repeats_itself_is_told_once_a_minute() {
    let mut bench = running_component();
    let says = |effects: &[Effect]| -> Vec<String> {
        let said = effects.iter().filter_map(|effect| match effect {
            Effect::Say(_, line) => Some(line.clone()),
            _ => None,
        });
        said.collect()
    };
    let source = |gap| {
        let word = if gap { SourceWord::Gap } else { SourceWord::Trouble };
        News::Source { word, text: "a.log: permission denied".to_owned() }
    };
    assert_eq!(says(&bench.hear(WOS, source(false))), ["c: a.log: permission denied"]);
    for _ in 0..14 {
        assert_eq!(says(&bench.hear(WOS, source(false))), [""; 0]);
        let effects = bench.hear(WOS, source(true));
        assert!(matches!(&effects[..], [Effect::Record { kind: EventKind::SourceGap, .. }]));
    }
    let told = says(&bench.pass(Duration::from_secs(61)));
    assert_eq!(told, ["c: a.log: permission denied (14 times more within a minute)"]);
    assert_eq!(says(&bench.pass(Duration::from_secs(600))), [""; 0]);

    bench.hear(WOS, source(false));
    bench.hear(WOS, source(false));
    bench.ask(Verb::Down);
    let end = bench.hear(WOS, exited(0));
    assert!(end.contains(&Effect::End), "{end:?}");
    assert_eq!(says(&end), ["c: a.log: permission denied (once more within a minute)"]);
}
