use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::probe::{ProbeSpec, Probes};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::ZERO.saturating_add(Duration::from_secs(seconds))
}

fn ask(kind: ProbeKind, token: u64) -> ProbeAction {
    ProbeAction::Ask { kind, token }
}

/// What a probe of Kubernetes counts and finds (`worker.doProbe`), to the letter: a result below its
/// threshold leaves what was found before.
struct Worker {
    spec: ProbeSpec,
    last_result: Option<bool>,
    result_run: u32,
    found: bool,
    open: Option<(u64, u64)>,
    next_ns: u64,
}

impl Worker {
    fn new(spec: ProbeSpec, now_ns: u64, found: bool) -> Self {
        let next_ns = now_ns.saturating_add(ns(spec.initial_delay));
        Self { spec, last_result: None, result_run: 0, found, open: None, next_ns }
    }

    fn result(&mut self, result: bool) {
        if self.last_result == Some(result) {
            self.result_run += 1;
        } else {
            self.last_result = Some(result);
            self.result_run = 1;
        }
        let is_short = (!result && self.result_run < self.spec.failure_threshold)
            || (result && self.result_run < self.spec.success_threshold);
        if !is_short {
            self.found = result;
        }
        self.open = None;
    }
}

fn ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// The three workers, the gate between them, and who is condemned.
struct Kubelet {
    startup: Option<Worker>,
    liveness: Option<Worker>,
    readiness: Option<Worker>,
    condemned: bool,
    token: u64,
}

impl Kubelet {
    fn new(probes: Probes, now_ns: u64) -> Self {
        let worker = |spec: Option<ProbeSpec>, found| spec.map(|s| Worker::new(s, now_ns, found));
        Self {
            startup: worker(probes.startup, false),
            liveness: worker(probes.liveness, true),
            readiness: worker(probes.readiness, false),
            condemned: false,
            token: 0,
        }
    }

    fn started(&self) -> bool {
        self.startup.as_ref().is_none_or(|worker| worker.found)
    }

    fn ready(&self) -> bool {
        self.started() && self.readiness.as_ref().is_none_or(|worker| worker.found)
    }

    fn workers(&mut self) -> Vec<(ProbeKind, &mut Worker)> {
        let started = self.started();
        let all = [
            (ProbeKind::Startup, !started, &mut self.startup),
            (ProbeKind::Liveness, started, &mut self.liveness),
            (ProbeKind::Readiness, started, &mut self.readiness),
        ];
        let condemned = self.condemned;
        all.into_iter()
            .filter(|(_, active, _)| *active && !condemned)
            .filter_map(|(kind, _, worker)| Some((kind, worker.as_mut()?)))
            .collect()
    }

    /// One result for one worker; whether it ends the daemon.
    fn result(&mut self, kind: ProbeKind, result: bool) -> bool {
        let mut failed = false;
        for (of, worker) in self.workers() {
            if of == kind {
                worker.result(result);
                let reached = worker.result_run >= worker.spec.failure_threshold;
                failed = !result && reached && kind != ProbeKind::Readiness;
            }
        }
        self.condemned |= failed;
        failed
    }

    fn poll(&mut self, now_ns: u64) -> Vec<ProbeAction> {
        let mut actions = Vec::new();
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            let late = self.workers().iter().any(|(of, worker)| {
                *of == kind && worker.open.is_some_and(|(_, deadline)| deadline <= now_ns)
            });
            if late && self.result(kind, false) {
                actions.push(ProbeAction::Condemn { kind });
            }
            let token = self.token + 1;
            let mut asked = false;
            for (of, worker) in self.workers() {
                let is_due = worker.open.is_none() && worker.next_ns <= now_ns;
                if of == kind && is_due && now_ns < u64::MAX {
                    worker.open = Some((token, now_ns.saturating_add(ns(worker.spec.timeout))));
                    worker.next_ns = now_ns.saturating_add(ns(worker.spec.period));
                    actions.push(ask(kind, token));
                    asked = true;
                }
            }
            self.token += u64::from(asked);
        }
        actions
    }

    fn answer(&mut self, token: u64, healthy: bool) -> ProbeAction {
        let asked = self.workers().iter().find_map(|(kind, worker)| {
            worker.open.filter(|(open, _)| *open == token).map(|_| *kind)
        });
        match asked {
            Some(kind) if self.result(kind, healthy) => ProbeAction::Condemn { kind },
            _ => ProbeAction::Wait,
        }
    }

    fn shift(&mut self, by_ns: u64) {
        let workers = [&mut self.startup, &mut self.liveness, &mut self.readiness];
        for worker in workers.into_iter().flatten() {
            worker.next_ns = worker.next_ns.saturating_add(by_ns);
            if let Some((_, deadline)) = &mut worker.open {
                *deadline = deadline.saturating_add(by_ns);
            }
        }
    }
}

/// All that is due now.
fn poll_all(set: &mut ProbeSet, now: Instant) -> Vec<ProbeAction> {
    let mut actions = Vec::new();
    loop {
        let action = set.poll(now);
        assert_eq!(set.check_invariants(), Ok(()));
        if action == ProbeAction::Wait {
            return actions;
        }
        actions.push(action);
        assert!(actions.len() <= 3, "each probe asks at most once at a time: {actions:?}");
    }
}

fn schedules(success_max: u32) -> impl Strategy<Value = Option<ProbeSpec>> {
    let initial = prop_oneof![4 => 0..20_u64, 1 => Just(u64::MAX)];
    let length = || prop_oneof![8 => 1..20_u64, 1 => Just(u64::MAX)];
    let spec = (initial, length(), length(), 1..4_u32, 1..=success_max).prop_map(
        |(initial, period, timeout, failure_threshold, success_threshold)| ProbeSpec {
            initial_delay: Duration::from_nanos(initial),
            period: Duration::from_nanos(period),
            timeout: Duration::from_nanos(timeout),
            failure_threshold,
            success_threshold,
        },
    );
    proptest::option::of(spec)
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Poll,
    /// To the question that is so many back from the last one.
    Answer {
        back: u64,
        healthy: bool,
    },
    Pause,
    NextDeadline,
}

fn ops() -> impl Strategy<Value = (u64, Op)> {
    let op = prop_oneof![
        2 => Just(Op::Poll),
        6 => (0..3_u64, prop::bool::weighted(0.7))
            .prop_map(|(back, healthy)| Op::Answer { back, healthy }),
        1 => Just(Op::Pause),
        4 => Just(Op::NextDeadline),
    ];
    (0..15_u64, op)
}

proptest! {
    #[test]
    fn finds_what_kubernetes_finds(
        startup in schedules(1),
        liveness in schedules(1),
        readiness in schedules(3),
        start_ns in prop_oneof![4 => 0..100_u64, 1 => Just(u64::MAX - 100), 1 => Just(u64::MAX)],
        steps in proptest::collection::vec(ops(), 0..100),
    ) {
        let probes = Probes { startup, liveness, readiness };
        prop_assert_eq!(probes.check(), Ok(()));
        let mut set = ProbeSet::new(probes, Instant::from_ns(start_ns));
        let mut kubelet = Kubelet::new(probes, start_ns);
        let mut now_ns = start_ns;
        for (step_ns, op) in steps {
            let before_ns = now_ns;
            now_ns = now_ns.saturating_add(step_ns);
            let now = Instant::from_ns(now_ns);
            match op {
                Op::Poll => {
                    prop_assert_eq!(poll_all(&mut set, now), kubelet.poll(now_ns));
                }
                Op::Answer { back, healthy } => {
                    let token = kubelet.token.saturating_sub(back);
                    let action = set.answer(token, healthy);
                    prop_assert_eq!(action, kubelet.answer(token, healthy));
                }
                Op::Pause => {
                    set.shift(Duration::from_nanos(step_ns));
                    kubelet.shift(step_ns);
                }
                Op::NextDeadline => {
                    // Until then nothing is due; then something is.
                    if let Some(deadline) = set.deadline().filter(|at| at.as_ns() > before_ns) {
                        let just_before = Instant::from_ns(deadline.as_ns() - 1);
                        prop_assert_eq!(set.poll(just_before), ProbeAction::Wait);
                        prop_assert_eq!(kubelet.poll(just_before.as_ns()), []);
                        if deadline < Instant::MAX {
                            now_ns = deadline.as_ns();
                            let actions = poll_all(&mut set, deadline);
                            prop_assert_eq!(actions, kubelet.poll(now_ns));
                            let next = set.deadline();
                            prop_assert!(next.is_none_or(|next| next > deadline));
                        }
                    }
                }
            }
            prop_assert_eq!(set.check_invariants(), Ok(()));
            prop_assert_eq!(set.is_ready(), kubelet.ready());
            prop_assert_eq!(set.is_started(), kubelet.started());
            let row = kubelet.liveness.as_ref().map(|worker| (worker.last_result, worker.result_run));
            let expected = match row {
                None | Some((None, _)) => Health::Unknown,
                Some((Some(true), _)) => Health::Healthy,
                Some((Some(false), failures)) => Health::Failing { failures },
            };
            prop_assert_eq!(set.health(), expected);
        }
    }
}

#[test]
fn three_failures_in_a_row_condemn() {
    let liveness = ProbeKind::Liveness;
    let mut set = ProbeSet::new(Probes::liveness(ProbeSpec::default()), at(100));
    assert!(set.is_ready() && set.is_started());
    assert_eq!(set.poll(at(109)), ProbeAction::Wait);
    // Unhealthy, too late (the answer that follows is void), healthy: the count starts again.
    assert_eq!(set.poll(at(110)), ask(liveness, 1));
    assert_eq!(set.answer(1, false), ProbeAction::Wait);
    assert_eq!(set.health(), Health::Failing { failures: 1 });
    assert_eq!(set.answer(1, false), ProbeAction::Wait, "answered twice");
    assert_eq!(set.deadline(), Some(at(120)));
    assert_eq!(set.poll(at(120)), ask(liveness, 2));
    assert_eq!(set.answer(1, true), ProbeAction::Wait, "an old token");
    assert_eq!(set.deadline(), Some(at(121)));
    assert_eq!(set.poll(at(121)), ProbeAction::Wait);
    assert_eq!(set.answer(2, true), ProbeAction::Wait, "too late");
    assert_eq!(set.health(), Health::Failing { failures: 2 });
    assert_eq!(set.poll(at(130)), ask(liveness, 3));
    assert_eq!(set.answer(3, true), ProbeAction::Wait);
    assert_eq!(set.health(), Health::Healthy);
    let condemn = ProbeAction::Condemn { kind: liveness };
    for (round, expected) in [(4, ProbeAction::Wait), (5, ProbeAction::Wait), (6, condemn)] {
        let now = at(100 + 10 * round);
        assert_eq!(set.poll(now), ask(liveness, round));
        assert_eq!(set.answer(round, false), expected);
        assert_eq!(set.check_invariants(), Ok(()));
    }
    assert_eq!((set.deadline(), set.poll(at(1000))), (None, ProbeAction::Wait), "said once");
}

#[test]
fn only_a_poll_judges_who_is_late() {
    let once = ProbeSpec { failure_threshold: 1, ..ProbeSpec::default() };
    let asked = || {
        let mut set = ProbeSet::new(Probes::liveness(once), at(0));
        assert_eq!(set.poll(at(10)), ask(ProbeKind::Liveness, 1));
        assert_eq!(set.deadline(), Some(at(11)));
        set
    };
    // Handed over before the poll that comes late itself.
    let mut set = asked();
    assert_eq!(set.answer(1, true), ProbeAction::Wait);
    assert_eq!(set.health(), Health::Healthy);
    assert_eq!(set.poll(at(15)), ProbeAction::Wait);
    let mut set = asked();
    assert_eq!(set.poll(at(11)), ProbeAction::Condemn { kind: ProbeKind::Liveness });
    assert_eq!(set.answer(1, true), ProbeAction::Wait);
    assert_eq!(set.health(), Health::Failing { failures: 1 });
}

#[test]
fn startup_gates_the_others_and_is_asked_no_more() {
    use ProbeKind::{Liveness, Readiness, Startup};
    let spec = ProbeSpec { initial_delay: SECOND * 5, ..ProbeSpec::KUBERNETES };
    let probes = Probes {
        startup: Some(ProbeSpec { failure_threshold: 2, ..ProbeSpec::KUBERNETES }),
        liveness: Some(spec),
        readiness: Some(ProbeSpec { success_threshold: 2, failure_threshold: 2, ..spec }),
    };
    let mut set = ProbeSet::new(probes, at(0));
    assert_eq!(poll_all(&mut set, at(0)), [ask(Startup, 1)]);
    assert_eq!(set.answer(1, false), ProbeAction::Wait);
    assert_eq!(poll_all(&mut set, at(10)), [ask(Startup, 2)]);
    assert_eq!(set.answer(2, true), ProbeAction::Wait);
    assert!(set.is_started() && !set.is_ready());
    // Their initial delay is over since 5 s.
    assert_eq!(poll_all(&mut set, at(10)), [ask(Liveness, 3), ask(Readiness, 4)]);
    // An answer counts for the question that it names only.
    assert_eq!(set.answer(4, true), ProbeAction::Wait);
    assert_eq!((set.health(), set.is_ready()), (Health::Unknown, false));
    assert_eq!(set.answer(3, true), ProbeAction::Wait);
    assert_eq!((set.health(), set.is_ready()), (Health::Healthy, false));
    let ready = [true, true, false, false, true].into_iter();
    for ((round, healthy), ready) in (1..).zip([true, false, false, true, true]).zip(ready) {
        let now = at(10 + 10 * round);
        let token = 2 * round + 3;
        assert_eq!(poll_all(&mut set, now), [ask(Liveness, token), ask(Readiness, token + 1)]);
        assert_eq!(set.answer(token, true), ProbeAction::Wait);
        assert_eq!(set.answer(token + 1, healthy), ProbeAction::Wait);
        assert_eq!(set.is_ready(), ready, "round {round}");
    }
    // Nothing survives a restart.
    let anew = ProbeSet::new(probes, at(100));
    assert!(!anew.is_started() && !anew.is_ready());
    assert_eq!(anew.health(), Health::Unknown);
}

#[test]
fn startup_condemns_at_its_threshold() {
    let spec = ProbeSpec { failure_threshold: 2, ..ProbeSpec::KUBERNETES };
    let mut set = ProbeSet::new(Probes { startup: Some(spec), ..Probes::NONE }, at(0));
    assert_eq!(poll_all(&mut set, at(0)), [ask(ProbeKind::Startup, 1)]);
    assert_eq!(poll_all(&mut set, at(1)), []);
    assert_eq!(poll_all(&mut set, at(10)), [ask(ProbeKind::Startup, 2)]);
    let condemn = ProbeAction::Condemn { kind: ProbeKind::Startup };
    assert_eq!(poll_all(&mut set, at(11)), [condemn]);
    assert_eq!(set.answer(2, true), ProbeAction::Wait);
    assert!(!set.is_started() && !set.is_ready());
}

#[test]
fn a_pause_leaves_as_much_time_as_before() {
    let mut set = ProbeSet::new(Probes::liveness(ProbeSpec::default()), at(0));
    set.shift(SECOND * 7);
    assert_eq!(set.deadline(), Some(at(17)));
    assert_eq!(set.poll(at(17)), ask(ProbeKind::Liveness, 1));
    set.shift(SECOND * 100);
    assert_eq!(set.deadline(), Some(at(118)));
    assert_eq!(set.answer(1, true), ProbeAction::Wait);
    assert_eq!(set.health(), Health::Healthy);
    assert_eq!(set.deadline(), Some(at(127)));
    set.shift(Duration::MAX);
    assert_eq!(set.deadline(), Some(Instant::MAX));
}

#[test]
fn the_end_of_time_is_no_overflow() {
    let (first, second) = (Instant::from_ns(u64::MAX - 1), Instant::MAX);
    let spec = ProbeSpec::KUBERNETES;
    let probes = Probes { liveness: Some(spec), readiness: Some(spec), ..Probes::NONE };
    let mut set = ProbeSet::new(probes, first);
    assert_eq!(
        poll_all(&mut set, first),
        [ask(ProbeKind::Liveness, 1), ask(ProbeKind::Readiness, 2)]
    );
    assert_eq!(poll_all(&mut set, second), []);
    assert_eq!(poll_all(&mut set, second), [], "no time is left for an answer");
    assert_eq!(set.health(), Health::Failing { failures: 1 });
}

#[test]
fn a_broken_one_says_so() {
    let spec = Some(ProbeSpec::KUBERNETES);
    let all = ProbeSet::new(Probes { startup: spec, liveness: spec, readiness: spec }, at(0));
    assert_eq!(all.check_invariants(), Ok(()));
    let asked = |token| {
        let mut check = Check::new(ProbeSpec::KUBERNETES, at(0));
        assert!(check.ask(at(0), token));
        Some(check)
    };
    let none = ProbeSet::new(Probes::NONE, at(0));
    for broken in [
        ProbeSet { startup: asked(2), asked: 1, ..all },
        ProbeSet { liveness: asked(1), asked: 1, ..all },
        ProbeSet { readiness: asked(1), asked: 1, ..all },
        ProbeSet { startup: asked(0), ..all },
        ProbeSet { ready: false, ..none },
        ProbeSet { condemned: true, ..none },
    ] {
        assert!(broken.check_invariants().is_err(), "{broken:?}");
    }
}
