//! Seven checks of the supervisor by its public API alone.
use duende_core::backoff::Backoff;
use duende_core::lifecycle::{FailureReason, State, Stopping};
use duende_core::probe::*;
use duende_core::restart::*;
use duende_core::supervise::*;
use duende_core::time::Instant;
use std::time::Duration;

struct W {
    s: Supervisor<Vec<Slot>, Vec<GroupSlot>>,
    now: Instant,
}
impl W {
    fn new() -> Self {
        W {
            s: Supervisor::with_groups(vec![Slot::default(); 8], vec![GroupSlot::default(); 2]),
            now: Instant::ZERO,
        }
    }
    fn give(&mut self, i: Input) -> Vec<Effect> {
        let mut e = Vec::new();
        self.s
            .handle(self.now, u64::MAX, i, &mut |x| e.push(x))
            .unwrap_or_else(|x| panic!("{i:?}: {x:?}"));
        self.s.check_invariants().unwrap();
        e
    }
    fn inc(&self, id: DaemonId) -> u32 {
        self.s.view(id).unwrap().incarnation
    }
    fn st(&self, id: DaemonId) -> State {
        self.s.view(id).unwrap().state
    }
    fn ready(&mut self, id: DaemonId) {
        let incarnation = self.inc(id);
        self.give(Input::Ready { id, incarnation });
    }
    fn exit(&mut self, id: DaemonId, exit: Exit) {
        let incarnation = self.inc(id);
        self.give(Input::Exited { id, incarnation, exit });
    }
    fn pass(&mut self, d: Duration) -> Vec<Effect> {
        self.now = self.now.saturating_add(d);
        self.give(Input::Tick)
    }
}

/// T: hangs, is condemned, not answered, and the worker is killed to get rid of it.
#[test]
fn a_condemned_hang_whose_worker_is_killed_is_charged() {
    let mut w = W::new();
    let id = w.s.add(Spec { watchdog: Some(Duration::from_secs(1)), ..Spec::default() }).unwrap();
    w.give(Input::Start(id));
    for round in 0..40 {
        w.ready(id);
        w.pass(Duration::from_secs(1));
        assert!(matches!(w.st(id), State::Stopping(Stopping::Condemned { .. })), "{:?}", w.st(id));
        w.pass(Duration::from_secs(10));
        assert!(matches!(w.st(id), State::Stopping(Stopping::CondemnedKilling { .. })));
        w.exit(id, Exit::Lost);
        let State::Backoff { failure, .. } = w.st(id) else {
            return;
        };
        println!("{round}: {failure:?}");
        assert_eq!(failure, Some(FailureReason::Watchdog));
        w.pass(Duration::from_secs(30));
    }
    panic!("never quarantined");
}

/// Takes its worker along each time it is up, seconds after it was ready.
#[test]
fn what_takes_its_worker_along_waits_longer_and_longer() {
    let mut w = W::new();
    let id =
        w.s.add(Spec {
            backoff: Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30)),
            ..Spec::default()
        })
        .unwrap();
    w.give(Input::Start(id));
    let mut delays = Vec::new();
    for _ in 0..20 {
        w.ready(id);
        w.exit(id, Exit::Lost);
        let State::Backoff { until, .. } = w.st(id) else { panic!("{:?}", w.st(id)) };
        let d = until.saturating_since(w.now);
        delays.push(d);
        w.pass(d);
    }
    println!("{delays:?}");
    assert!(delays[19] > delays[0], "{delays:?}");
}

/// Rule 11 of the module: only a tick judges who is late.
#[test]
fn a_good_answer_handed_over_before_the_tick_counts() {
    let mut w = W::new();
    let live = ProbeSpec { failure_threshold: 1, ..ProbeSpec::default() };
    let id = w
        .s
        .add(Spec { probes: Probes { liveness: Some(live), ..Probes::NONE }, ..Spec::default() })
        .unwrap();
    w.give(Input::Start(id));
    w.ready(id);
    let e = {
        let d = w.s.next_deadline().unwrap();
        w.now = d;
        w.give(Input::Tick)
    };
    let (incarnation, token) = e
        .iter()
        .find_map(|e| match e {
            Effect::Probe { incarnation, token, .. } => Some((*incarnation, *token)),
            _ => None,
        })
        .unwrap();
    w.now = w.now.saturating_add(live.timeout);
    w.give(Input::Probed { id, incarnation, token, healthy: true });
    assert_eq!(w.st(id), State::Running);
}

#[test]
fn the_nearest_culprit_is_named() {
    let mut w = W::new();
    let far = w.s.add(Spec::default()).unwrap();
    let middle =
        w.s.add(Spec { depends_on: [far].into_iter().collect(), ..Spec::default() }).unwrap();
    let near = w.s.add(Spec::default()).unwrap();
    let id =
        w.s.add(Spec { depends_on: [middle, near].into_iter().collect(), ..Spec::default() })
            .unwrap();
    w.give(Input::Start(middle));
    let e = w.give(Input::Start(id));
    assert!(e.contains(&Effect::Blocked { id, on: near }), "{e:?}");
}

#[test]
fn who_waits_for_one_that_an_operator_paused_is_told() {
    let mut w = W::new();
    let a = w.s.add(Spec::default()).unwrap();
    let b = w.s.add(Spec { depends_on: [a].into_iter().collect(), ..Spec::default() }).unwrap();
    w.give(Input::Start(a));
    w.ready(a);
    w.give(Input::Pause(a));
    w.give(Input::Start(b));
    assert_eq!(w.s.view(b).unwrap().blocked_by, Some(a));
}

#[test]
fn more_time_does_not_make_a_start_younger() {
    let mut w = W::new();
    let id = w.s.add(Spec::default()).unwrap();
    w.give(Input::Start(id));
    let since = w.s.view(id).unwrap().since;
    w.now = w.now.saturating_add(Duration::from_secs(5));
    let incarnation = w.inc(id);
    let e = w.give(Input::Extend { id, incarnation, by: Duration::from_secs(60) });
    println!("{e:?}");
    assert_eq!(w.s.view(id).unwrap().since, since);
}

/// A daemon that waits behind a limit that counts operators' starts: its dependencies come anyway.
#[test]
fn slots_used_out_of_order_still_find_who_blocks() {
    let mut w = W::new();
    let filler: Vec<_> = (0..3).map(|_| w.s.add(Spec::default()).unwrap()).collect();
    let root = w.s.add(Spec::default()).unwrap();
    for f in filler.iter() {
        w.s.remove(*f).unwrap();
    }
    let x = w.s.add(Spec { depends_on: [root].into_iter().collect(), ..Spec::default() }).unwrap();
    let y = w.s.add(Spec { depends_on: [x].into_iter().collect(), ..Spec::default() }).unwrap();
    w.give(Input::Start(y));
    w.give(Input::Start(x));
    assert_eq!(w.s.view(y).unwrap().blocked_by, Some(root));
    w.give(Input::Start(root));
    w.ready(root);
    assert_eq!(w.s.view(y).unwrap().blocked_by, None);
}
