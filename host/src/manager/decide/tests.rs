//! The machine by itself. What it does over long times and under every fault is the simulator's
//! (`tests/fleets`); here are the single rules.

use std::time::Duration;

use duende_core::{
    epitaph::Epitaph,
    lifecycle::State,
    restart::{Exit, RestartPolicy, StartError},
    supervise::{LOST_DELAY_MAX, Spec},
    time::Instant,
    wire::link::Address,
};

use super::*;
use crate::{
    backend::{Abilities, Ask, Heard, News, Place, PlaceNews},
    control::protocol::{ErrorCode, EventKind, HealthState},
};

#[path = "rule_tests.rs"]
mod rule_tests;

/// What the machine may not name: whatever reads, writes, waits or looks at a clock.
const FORBIDDEN: [&str; 9] = [
    "tokio",
    "rustix",
    "libc::",
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "SystemTime",
    "Instant::now",
];

#[test]
fn the_machine_names_nothing_that_performs() {
    let files = [
        ("mod", include_str!("mod.rs")),
        ("daemon", include_str!("daemon.rs")),
        ("deadline", include_str!("deadline.rs")),
        ("event", include_str!("event.rs")),
        ("leave", include_str!("leave.rs")),
        ("news", include_str!("news.rs")),
        ("notice", include_str!("notice.rs")),
        ("perform", include_str!("perform.rs")),
        ("planted", include_str!("planted.rs")),
        ("rate", include_str!("rate.rs")),
        ("reason", include_str!("reason.rs")),
        ("repeat", include_str!("repeat.rs")),
        ("verb", include_str!("verb.rs")),
        ("waiter", include_str!("waiter.rs")),
        ("whole", include_str!("whole.rs")),
        ("session", include_str!("../link/session.rs")),
        ("turn", include_str!("../turn.rs")),
        ("the seam", include_str!("../../backend/mod.rs")),
    ];
    let is_module = |line: &&str| line.starts_with("mod ") || line.starts_with("pub mod ");
    let modules = include_str!("mod.rs").lines().filter(is_module).count();
    // This file, the machine's own, and the three from outside.
    assert_eq!(files.len(), modules - 1 + 4, "a file is missing here");
    for (name, text) in files {
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{name} names {word}");
        }
    }
}

fn spec(name: &str, ready_by: ReadyBy, linked: bool) -> DaemonSpec {
    DaemonSpec {
        name: name.to_owned(),
        place: Place::Native,
        abilities: Abilities::of(Place::Native, linked),
        supervision: Spec { restart: RestartPolicy::Always, ..Spec::default() },
        depends_on: Vec::new(),
        group: None,
        ready_by,
        notify_access: NotifyAccess::Main,
        has_channels: false,
    }
}

/// A fleet whose clock is set by hand.
struct Bench {
    decider: Decider,
    now: Instant,
    questions: u64,
    /// Whether places that are asked answer.
    answers: bool,
}

impl Bench {
    fn new(daemons: Vec<DaemonSpec>) -> Self {
        let decider = Decider::new(&[], daemons, false).unwrap();
        Self { decider, now: Instant::from_ns(1_000_000_000), questions: 0, answers: true }
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.decider.handle(self.now, u64::MAX, event);
        self.decider.check_invariants().unwrap();
        effects
    }

    fn hear(&mut self, at: Address, news: News) -> Vec<Effect> {
        self.event(Event::Heard(Heard::Of(at, news)))
    }

    fn notice(&mut self, pid: u32, notice: Notice) -> Vec<Effect> {
        self.event(Event::Noticed { pid, part_of: None, notice })
    }

    fn ask(&mut self, verb: Verb) -> Vec<Effect> {
        self.questions += 1;
        self.event(Event::Asked { question: QuestionId(self.questions), verb })
    }

    /// Lets time pass, with every tick that is due.
    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let end = self.now.saturating_add(time);
        let mut effects = Vec::new();
        while let Some(at) = self.decider.next_deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            let done = self.event(Event::Tick);
            if self.answers && done.contains(&Effect::AskPlace(Place::Native)) {
                self.event(Event::Heard(Heard::Place(Place::Native, PlaceNews::Lives)));
            }
            effects.extend(done);
        }
        self.now = end;
        effects
    }

    fn state(&self, slot: u32) -> State {
        self.decider.view(slot).unwrap().state
    }
}

const FIRST: Address = Address::of(0, 1);

fn ready() -> Notice {
    Notice { ready: true, ..Notice::default() }
}

fn answers(effects: &[Effect]) -> Vec<&Answer> {
    let answer = |effect: &'_ Effect| matches!(effect, Effect::Answer(..));
    effects
        .iter()
        .filter(|effect| answer(effect))
        .map(|effect| match effect {
            Effect::Answer(_, answer) => answer,
            _ => unreachable!(),
        })
        .collect()
}

#[test]
fn ready_counts_however_early_it_comes() {
    // Before its start is known, after it, and with others between.
    for early in [true, false] {
        let mut bench = Bench::new(vec![spec("a", ReadyBy::Datagram, false)]);
        bench.event(Event::Begin);
        if early {
            bench.notice(70, ready());
            bench.notice(71, ready());
            bench.hear(FIRST, News::Started { pid: Some(70) });
        } else {
            bench.hear(FIRST, News::Started { pid: Some(70) });
            bench.notice(71, ready());
            assert_ne!(bench.state(0), State::Running);
            bench.notice(70, ready());
        }
        assert_eq!(bench.state(0), State::Running, "{early}");
        // Over its link, too. It runs when it is known which process it is, and not before.
        let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
        bench.event(Event::Begin);
        bench.hear(FIRST, News::Prepared(Ok(())));
        let mut news = [News::Ready { pid: None }, News::Started { pid: Some(70) }];
        if !early {
            news.reverse();
        }
        for news in news {
            assert_ne!(bench.state(0), State::Running);
            bench.hear(FIRST, news);
        }
        assert_eq!(bench.state(0), State::Running, "{early}");
    }
}

#[test]
fn whose_process_it_is_matters_only_where_all_may_speak() {
    let of = |notify_access| {
        let daemon = DaemonSpec { notify_access, ..spec("a", ReadyBy::Datagram, false) };
        let mut bench = Bench::new(vec![daemon]);
        bench.event(Event::Begin);
        bench.hear(FIRST, News::Started { pid: Some(70) });
        // Until it is ready, it matters whose word does not count.
        assert!(bench.decider.asks_whose(71), "{notify_access:?}");
        if notify_access == NotifyAccess::None {
            bench.event(Event::Noticed { pid: 71, part_of: Some(FIRST), notice: ready() });
            assert!(!bench.decider.asks_whose(71));
        } else {
            bench.notice(70, ready());
        }
        (bench.decider.asks_whose(70), bench.decider.asks_whose(71))
    };
    assert_eq!(of(NotifyAccess::None), (false, false));
    assert_eq!(of(NotifyAccess::Main), (false, false));
    assert_eq!(of(NotifyAccess::All), (false, true));
}

/// As long as something is said of it, an image may take any time; then its daemon has all of its own.
#[test]
fn start_time_begins_when_the_image_is_there() {
    let start_timeout = spec("a", ReadyBy::Link, true).supervision.start_timeout;
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
    bench.event(Event::Begin);
    for second in 0..300 {
        let words = format!("for {second} s");
        bench.hear(FIRST, News::Compiles { words: words.clone() });
        let detail = bench.decider.detail(0);
        assert!(detail.compiles && detail.reason == words, "{detail:?}");
        bench.pass(Duration::from_secs(1));
    }
    bench.hear(FIRST, News::Prepared(Ok(())));
    assert!(!bench.decider.detail(0).compiles);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    bench.pass(start_timeout - Duration::from_secs(1));
    assert!(matches!(bench.state(0), State::Starting(_)), "{:?}", bench.state(0));
    bench.hear(FIRST, News::Ready { pid: None });
    assert_eq!(bench.state(0), State::Running);
    // One of which nothing is said any more is late like any other.
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Compiles { words: String::new() });
    bench.pass(start_timeout.max(Duration::from_secs(3)) + Duration::from_secs(1));
    assert!(bench.decider.daemon(0).unwrap().last_exit().is_some());
}

/// The deaths of a place are charged to nobody; with the second one in which the same daemon's slice was open,
/// that one is held, and nobody else. An operator releases it, and a stable run forgets.
#[test]
fn who_ends_its_place_twice_is_held_alone() {
    let wos = |name: &str| DaemonSpec {
        place: Place::Wos,
        abilities: Abilities::of(Place::Wos, true),
        ..spec(name, ReadyBy::Link, true)
    };
    let mut bench = Bench::new(vec![wos("a"), wos("b")]);
    bench.event(Event::Begin);
    let run = |bench: &mut Bench, slots: &[u32]| {
        for slot in slots {
            let at = bench.decider.daemon(*slot).unwrap().running().unwrap().0;
            bench.hear(at, News::Prepared(Ok(())));
            bench.hear(at, News::Started { pid: None });
            bench.hear(at, News::Ready { pid: Some(2) });
            assert_eq!(bench.state(*slot), State::Running);
        }
    };
    let lose = |bench: &mut Bench, slot: Option<u32>| {
        let open = slot.and_then(|slot| Some(bench.decider.daemon(slot)?.running()?.0));
        let how = "signal: 11".to_owned();
        bench.event(Event::Heard(Heard::Place(Place::Wos, PlaceNews::Lost { how, open })));
        bench.pass(LOST_DELAY_MAX);
    };
    run(&mut bench, &[0, 1]);
    // One each, and some that are nobody's.
    for open in [Some(0), None, Some(1), None] {
        lose(&mut bench, open);
        run(&mut bench, &[0, 1]);
    }
    // A stable run forgets the one of `b`.
    bench.pass(Duration::from_secs(61));
    lose(&mut bench, Some(1));
    run(&mut bench, &[0, 1]);
    lose(&mut bench, Some(1));
    let detail = bench.decider.detail(1);
    assert!(detail.held && detail.reason.contains("while a slice of it was open"), "{detail:?}");
    assert_eq!(detail.way_out, "duende restart b releases it");
    run(&mut bench, &[0]);
    bench.pass(Duration::from_secs(600));
    assert!(matches!(bench.state(1), State::Failed(_)));
    // Released, it has both of its deaths before it again.
    bench.ask(Verb::Start(vec![1]));
    run(&mut bench, &[1]);
    lose(&mut bench, Some(1));
    run(&mut bench, &[0, 1]);
    lose(&mut bench, Some(1));
    assert!(bench.decider.detail(1).held);
}

#[test]
fn figures_wait_for_the_count_of_processes() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(70) });
    let effects = bench.ask(Verb::Figures(0));
    assert_eq!(effects, [Effect::Ask(FIRST, Ask::Count)]);
    let effects = bench.hear(FIRST, News::Processes { count: 3 });
    assert_eq!(answers(&effects), [&Answer::Figures { slot: 0, figures: Vec::new() }]);
    assert_eq!(bench.decider.daemon(0).unwrap().processes(), 3);
}

#[test]
fn a_link_that_outlives_its_process_delays_it_by_its_time_only() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Prepared(Ok(())));
    bench.hear(FIRST, News::Started { pid: Some(7) });
    bench.hear(FIRST, News::Ready { pid: None });
    let exit = News::Exited { exit: Exit::Code(1), reason: "exit code 1".to_owned() };
    // Its number may be another's from now on.
    assert_eq!(bench.hear(FIRST, exit), [Effect::Watch(FIRST, None)]);
    let effects = bench.pass(Duration::from_secs(2));
    assert!(effects.contains(&Effect::CloseLink(FIRST)), "{effects:?}");
    assert!(bench.decider.daemon(0).unwrap().running().is_none_or(|(at, ..)| at != FIRST));
}

#[test]
fn who_breaks_the_protocol_is_killed_until_it_is_gone() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Prepared(Ok(())));
    bench.hear(FIRST, News::Started { pid: Some(7) });
    let closed = News::LinkClosed { reason: Some("it spoke for another".to_owned()) };
    let kill = Effect::Ask(FIRST, Ask::Kill);
    assert!(bench.hear(FIRST, closed).contains(&kill));
    assert!(bench.pass(Duration::from_secs(6)).contains(&kill));
    let exit = News::Exited { exit: Exit::Signal(9), reason: "killed by SIGKILL".to_owned() };
    bench.hear(FIRST, exit);
    let last = bench.decider.daemon(0).unwrap().last_exit().unwrap().to_owned();
    assert_eq!(last, "its link was closed: it spoke for another; killed");
}

#[test]
fn an_outer_reason_is_said_and_waited_for() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    for incarnation in 1..40 {
        let at = Address::of(0, incarnation);
        let reason = "`/srv/a` does not exist".to_owned();
        bench.hear(at, News::StartFailed { error: StartError::NotFound, reason });
        let detail = bench.decider.detail(0);
        assert!(detail.waiting && detail.reason.contains("/srv/a"), "{detail:?}");
        bench.pass(Duration::from_secs(31));
    }
    let effects = bench.ask(Verb::Restart(vec![0]));
    assert_eq!(answers(&effects), [] as [&Answer; 0]);
    // The try that was under way, and the one that was asked for.
    let mut effects = Vec::new();
    for _ in 0..2 {
        let at = bench.decider.daemon(0).unwrap().running().unwrap().0;
        let failed = News::StartFailed { error: StartError::NotFound, reason: "gone".to_owned() };
        effects.extend(bench.hear(at, failed));
    }
    let Answer::Outcomes(outcomes) = answers(&effects)[0] else { panic!("{effects:?}") };
    assert_eq!(outcomes[0].refused, Some(ErrorCode::Failed));
    assert!(outcomes[0].detail.contains("waiting: gone"), "{outcomes:?}");
}

#[test]
fn started_is_not_said_of_what_dies_at_once() {
    let run = |dies: bool| {
        let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
        bench.ask(Verb::Start(vec![0]));
        let effects = bench.hear(FIRST, News::Started { pid: Some(7) });
        assert_eq!(answers(&effects), [] as [&Answer; 0]);
        let effects = if dies {
            let exit = News::Exited { exit: Exit::Code(1), reason: "exit code 1".to_owned() };
            bench.hear(FIRST, exit)
        } else {
            bench.pass(waiter::SETTLE_TIME)
        };
        let Answer::Outcomes(outcomes) = answers(&effects)[0].clone() else { panic!() };
        outcomes[0].clone()
    };
    assert_eq!(run(false).refused, None);
    let died = run(true);
    assert_eq!(died.refused, Some(ErrorCode::Failed));
    assert!(died.detail.contains("exit code 1"), "{died:?}");
}

/// Without a limit that ends it, nothing else would.
#[test]
fn who_ends_again_and_again_is_waited_for_its_time_only() {
    let mut looping = spec("looping", ReadyBy::Start, false);
    looping.supervision.limit = duende_core::limiter::RestartLimit::UNLIMITED;
    let mut bench = Bench::new(vec![spec("good", ReadyBy::Start, false), looping]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(7) });
    let mut effects = bench.ask(Verb::Settled);
    let begun = bench.now;
    while answers(&effects).is_empty() {
        let waited = bench.now.saturating_since(begun);
        assert!(waited < 2 * waiter::TRIES_TIME, "nobody is told");
        if let Some((at, None, _)) = bench.decider.daemon(1).unwrap().running() {
            effects.extend(bench.hear(at, News::Started { pid: Some(8) }));
            let exit = News::Exited { exit: Exit::Code(1), reason: "no port".to_owned() };
            effects.extend(bench.hear(at, exit));
        }
        effects.extend(bench.pass(Duration::from_millis(100)));
    }
    assert!(bench.now.saturating_since(begun) >= waiter::TRIES_TIME);
    let Answer::Outcomes(outcomes) = answers(&effects)[0] else { panic!("{effects:?}") };
    assert_eq!(outcomes[0].refused, None);
    assert_eq!(outcomes[1].refused, Some(ErrorCode::Failed));
    let said = "looping ended before it was ready: no port; it is tried again";
    assert_eq!(outcomes[1].detail, said);
}

#[test]
fn who_wanted_the_opposite_is_told() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Datagram, false)]);
    bench.ask(Verb::Start(vec![0]));
    bench.hear(FIRST, News::Started { pid: Some(7) });
    let effects = bench.ask(Verb::Stop(vec![0]));
    let Answer::Outcomes(outcomes) = answers(&effects)[0] else { panic!("{effects:?}") };
    assert!(outcomes[0].detail.contains("another operator"), "{outcomes:?}");
}

#[test]
fn a_lost_place_charges_nobody_and_a_silent_one_is_ended() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    for incarnation in 1..30 {
        let at = Address::of(0, incarnation);
        bench.hear(at, News::Started { pid: Some(7) });
        let how = "signal: 9".to_owned();
        bench.event(Event::Heard(Heard::Place(Place::Native, PlaceNews::Lost { how, open: None })));
        bench.pass(Duration::from_secs(31));
        assert_eq!(
            bench.decider.daemon(0).unwrap().running().unwrap().0.incarnation,
            incarnation + 1
        );
    }
    let at = bench.decider.daemon(0).unwrap().running().unwrap().0;
    bench.hear(at, News::Started { pid: Some(7) });
    // It answers …
    let effects = bench.pass(Duration::from_secs(100));
    // Asked each five seconds, give or take the first one.
    let count = |effects: &[Effect], one| effects.iter().filter(|effect| **effect == one).count();
    assert!((19..=21).contains(&count(&effects, Effect::AskPlace(Place::Native))));
    assert_eq!(count(&effects, Effect::EndPlace(Place::Native)), 0);
    // … and then it does not, and does not even end.
    bench.answers = false;
    let effects = bench.pass(Duration::from_secs(12));
    assert!(count(&effects, Effect::EndPlace(Place::Native)) >= 1);
    let effects = bench.pass(Duration::from_secs(10));
    assert!(count(&effects, Effect::EndPlace(Place::Native)) >= 1);
}

#[test]
fn a_halted_supervisor_refuses_what_needs_a_decision() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.decider.halt(&Epitaph::new(format_args!("slot 3 is used twice")));
    let effects = std::mem::take(&mut bench.decider.effects);
    let halted = |effect: &Effect| matches!(effect, Effect::Record { kind: EventKind::Halted, .. });
    assert!(effects.iter().any(halted) && matches!(effects[0], Effect::Dump(_)), "{effects:?}");
    let epitaph = Epitaph::new(format_args!("slot 3 is used twice"));
    let dump = bench.decider.dump(&epitaph);
    assert!(
        dump.starts_with("halt: slot 3 is used twice\n") && dump.contains("<- Start"),
        "{dump}"
    );
    for verb in [Verb::Start(vec![]), Verb::Stop(vec![]), Verb::Restart(vec![]), Verb::Settled] {
        let effects = bench.ask(verb);
        let Answer::Refused { code: ErrorCode::Halted, message } = answers(&effects)[0] else {
            panic!("{effects:?}");
        };
        assert!(message.contains("slot 3") && message.contains("flight-recorder.txt"));
    }
    assert!(bench.ask(Verb::Down).contains(&Effect::End));
}

#[test]
fn a_signal_hurries_what_down_began_and_a_second_down_does_not() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    let at = Address::of(0, 1);
    bench.event(Event::Begin);
    bench.hear(at, News::Started { pid: Some(7) });
    let kill = Effect::Ask(at, Ask::Kill);
    let first = bench.ask(Verb::Down);
    let second = bench.ask(Verb::Down);
    assert!(!first.contains(&kill) && !second.contains(&kill), "{first:?} {second:?}");
    let signal = Event::Interrupted { signal: "SIGTERM" };
    assert!(bench.event(signal.clone()).contains(&kill));
    let exited = News::Exited { exit: Exit::Signal(9), reason: "killed".to_owned() };
    assert!(bench.hear(at, exited).contains(&Effect::End));
    // The end is told once, whatever comes then.
    assert_eq!(bench.event(signal), []);
}

#[test]
fn the_second_signal_leaves_out_the_grace_and_the_end_comes_whatever_hangs() {
    let daemons = vec![spec("a", ReadyBy::Start, false), spec("b", ReadyBy::Start, false)];
    let mut bench = Bench::new(daemons);
    bench.event(Event::Begin);
    let second = Address::of(1, 1);
    for (at, pid) in [(FIRST, 7), (second, 8)] {
        bench.hear(at, News::Started { pid: Some(pid) });
    }
    bench.event(Event::Interrupted { signal: "SIGTERM" });
    let effects = bench.event(Event::Interrupted { signal: "SIGTERM" });
    for at in [FIRST, second] {
        assert!(effects.contains(&Effect::Ask(at, Ask::Kill)), "{effects:?}");
    }
    bench.hear(FIRST, News::Exited { exit: Exit::Signal(9), reason: "killed".to_owned() });
    // The other one is in the kernel, and stays there.
    let effects = bench.pass(Duration::from_secs(16));
    assert!(effects.contains(&Effect::End), "{effects:?}");
}

/// A helper of a start whose word is on its way speaks for it, where all may speak.
#[test]
fn a_helper_may_speak_before_its_daemon_is_known() {
    let daemon =
        DaemonSpec { notify_access: NotifyAccess::All, ..spec("a", ReadyBy::Datagram, false) };
    let mut bench = Bench::new(vec![daemon]);
    bench.event(Event::Begin);
    bench.event(Event::Noticed { pid: 71, part_of: Some(FIRST), notice: ready() });
    // Nothing runs before it is known which process it is.
    assert_ne!(bench.state(0), State::Running);
    bench.hear(FIRST, News::Started { pid: Some(70) });
    assert_eq!(bench.state(0), State::Running);
}

/// What its main process left is being ended: it does its work no longer, whoever asks.
#[test]
fn whose_main_process_has_ended_is_neither_ready_nor_paused() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Start, false)]);
    bench.event(Event::Begin);
    bench.hear(FIRST, News::Started { pid: Some(70) });
    bench.hear(FIRST, News::MainEnded { how: "exit code 1".to_owned() });
    assert_eq!(bench.decider.daemon(0).and_then(|daemon| daemon.running()?.1), None);
    let detail = bench.decider.detail(0);
    assert!(detail.ending && detail.reason.contains("exit code 1"), "{detail:?}");
    assert_eq!(bench.decider.fleet_health().status, HealthState::Degraded);
    for verb in [Verb::Pause(vec![0]), Verb::Reload(vec![0]), Verb::Start(vec![0])] {
        let effects = bench.ask(verb.clone());
        let refused = |effect: &Effect| matches!(effect, Effect::Answer(_, Answer::Outcomes(of)) if of[0].refused.is_some());
        assert!(effects.iter().any(refused), "{verb:?}: {effects:?}");
    }
    bench.hear(FIRST, News::Exited { exit: Exit::Code(1), reason: "exit code 1".to_owned() });
    assert!(!bench.decider.detail(0).ending);
}

/// Whoever has no state because of the disk says so, and is not charged with silence.
#[test]
fn a_disk_that_fails_is_named_as_the_cause() {
    let mut bench = Bench::new(vec![spec("a", ReadyBy::Link, true)]);
    bench.event(Event::Begin);
    bench.event(Event::Store(Some("no space left".to_owned())));
    assert_eq!(bench.decider.detail(0).reason, "waits for its state: no space left");
    bench.pass(Duration::from_millis(30_050));
    let detail = bench.decider.detail(0);
    assert!(detail.waiting && detail.reason.contains("no space left"), "{detail:?}");
    assert!(!detail.reason.contains("not ready"), "{detail:?}");
}

/// Of one that is paused, or whose own link answers, nobody else would notice that its place hangs.
#[test]
fn a_place_is_asked_while_anything_is_in_it() {
    for (linked, paused) in [(false, false), (false, true), (true, false), (true, true)] {
        let ready_by = if linked { ReadyBy::Link } else { ReadyBy::Start };
        let mut bench = Bench::new(vec![spec("a", ready_by, linked)]);
        bench.event(Event::Begin);
        let at = Address::of(0, 1);
        if linked {
            bench.hear(at, News::Prepared(Ok(())));
        }
        bench.hear(at, News::Started { pid: Some(7) });
        if linked {
            bench.hear(at, News::Ready { pid: Some(7) });
        }
        if paused {
            bench.ask(Verb::Pause(vec![0]));
            assert_eq!(bench.state(0), State::Paused);
        }
        bench.answers = false;
        let effects = bench.pass(Duration::from_secs(20));
        let ended = effects.contains(&Effect::EndPlace(Place::Native));
        assert!(ended, "linked: {linked}, paused: {paused}");
    }
}
