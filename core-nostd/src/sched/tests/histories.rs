//! Random histories: the scheduler and the model give the same answers.

use super::model::{Does, Model};
use super::*;

const TASKS: u32 = 12;
const SERVERS: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    Add(u32, Level),
    AddDeadline(u32, u64, u64),
    Remove(u32),
    SetBase(u32, Level),
    Inherit(u32, Level),
    Disinherit(u32),
    Ready(u32),
    Unready(u32),
    Pick,
    PickTask(u32),
    /// The nth of those that are picked is put back.
    PutBack(usize),
    /// The nth of those that are picked has run for so many parts of 100 of its turn.
    Ran(usize, u64, Outcome),
    /// A task that may not be picked has run.
    RanUnasked(u32),
    Sleep(u64),
    GoBack(u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Some tasks beyond the storage.
    let task = || 0..TASKS + 2;
    let budget = prop_oneof![Just(0_u64), 1..3 * MS, Just(MS)];
    let period = prop_oneof![1..2 * MS, MS..30 * MS, Just(10 * MS)];
    let used = prop_oneof![4 => 0..=100_u64, 1 => 100..1_500_u64, 2 => Just(100)];
    let outcome = prop_oneof![Just(Outcome::Again), Just(Outcome::Waits)];
    prop_oneof![
        4 => (task(), any_level()).prop_map(|(task, base)| Op::Add(task, base)),
        3 => (task(), budget, period).prop_map(|(task, budget, period)| {
            Op::AddDeadline(task, budget, period)
        }),
        1 => task().prop_map(Op::Remove),
        1 => (task(), any_level()).prop_map(|(task, base)| Op::SetBase(task, base)),
        2 => (task(), any_level()).prop_map(|(task, base)| Op::Inherit(task, base)),
        1 => task().prop_map(Op::Disinherit),
        10 => task().prop_map(Op::Ready),
        1 => task().prop_map(Op::Unready),
        14 => Just(Op::Pick),
        1 => task().prop_map(Op::PickTask),
        1 => (0..4_usize).prop_map(Op::PutBack),
        14 => (0..4_usize, used, outcome).prop_map(|(nth, used, outcome)| Op::Ran(nth, used, outcome)),
        1 => task().prop_map(Op::RanUnasked),
        3 => (0..20 * MS).prop_map(Op::Sleep),
        1 => (0..20 * MS).prop_map(Op::GoBack),
    ]
}

struct Pair {
    tested: Tested,
    model: Model,
    now_ns: u64,
    picked: Vec<Pick>,
}

impl Pair {
    fn new() -> Self {
        let rules = Rules::default();
        let tested = scheduler(TASKS as usize, SERVERS, rules);
        Self { tested, model: Model::new(TASKS, SERVERS, rules), now_ns: 0, picked: Vec::new() }
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let Self { tested, model, now_ns, picked } = self;
        let now = at(*now_ns);
        match *op {
            Op::Add(task, base) => {
                prop_assert_eq!(tested.add(task, base), model.add(task, base.number()));
            }
            Op::AddDeadline(task, budget, period) => {
                let expected = model.add_deadline(task, budget, period);
                prop_assert_eq!(tested.add_deadline(task, budget, period), expected);
            }
            Op::Remove(task) => {
                prop_assert_eq!(tested.remove(task), model.remove(task));
                picked.retain(|pick| pick.task != task);
            }
            Op::SetBase(task, base) => {
                let expected = model.set_base(task, *now_ns, base.number());
                prop_assert_eq!(tested.set_base(task, now, base), expected);
            }
            Op::Inherit(task, from) => {
                let expected = model.inherit(task, *now_ns, Some(from.number()));
                prop_assert_eq!(tested.inherit(task, now, from), expected);
            }
            Op::Disinherit(task) => {
                let expected = model.inherit(task, *now_ns, None);
                prop_assert_eq!(tested.disinherit(task), expected);
            }
            Op::Ready(task) => {
                prop_assert_eq!(tested.ready(task, now), model.ready(task, *now_ns));
            }
            Op::Unready(task) => prop_assert_eq!(tested.unready(task), model.unready(task)),
            Op::Pick | Op::PickTask(_) => {
                let busy = tested.is_busy(now);
                let (pick, expected) = if let Op::PickTask(task) = *op {
                    (tested.pick_task(task, now), model.pick_task(task, *now_ns))
                } else {
                    (tested.pick(now), model.pick(*now_ns))
                };
                prop_assert_eq!(pick, expected);
                prop_assert!(pick.is_none_or(|pick| busy && pick.run_for_ns > 0));
                prop_assert!(pick.is_some() || !busy || matches!(op, Op::PickTask(_)));
                picked.extend(pick);
            }
            Op::PutBack(nth) if nth < picked.len() => {
                let pick = picked.remove(nth);
                prop_assert_eq!(tested.put_back(pick, now), model.put_back(pick, *now_ns));
            }
            Op::Ran(nth, percent, outcome) if nth < picked.len() => {
                let Pick { task, run_for_ns, .. } = picked.remove(nth);
                let used = run_for_ns * percent / 100;
                *now_ns += used;
                let expected = model.ran(task, *now_ns, used, outcome);
                prop_assert_eq!(tested.ran(task, at(*now_ns), used, outcome), expected);
            }
            Op::PutBack(_) | Op::Ran(..) => {}
            Op::RanUnasked(task) => {
                let is_picked = picked.iter().any(|pick| pick.task == task);
                let result = tested.ran(task, now, 1, Outcome::Again);
                prop_assert_eq!(result, model.ran(task, *now_ns, 1, Outcome::Again));
                prop_assert_eq!(result.is_ok(), is_picked);
                picked.retain(|pick| pick.task != task);
            }
            Op::Sleep(ns) => *now_ns += ns,
            Op::GoBack(ns) => *now_ns = now_ns.saturating_sub(ns),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let Self { tested, model, .. } = self;
        prop_assert_eq!(tested.check_invariants(), Ok(()));
        prop_assert_eq!(tested.next_deadline(), model.next_refill().map(at));
        prop_assert_eq!(tested.len() as usize, model.tasks.len());
        prop_assert_eq!(tested.is_empty(), model.tasks.is_empty());
        for task in 0..TASKS + 2 {
            let (view, of) = (tested.view(task), model.tasks.get(&task));
            let state = of.map(|of| match of.does {
                Does::Waits => TaskState::Waits,
                Does::Picked { .. } => TaskState::Picked,
                Does::Ready => {
                    let stands = model.level_of(task).map(level);
                    TaskState::Ready { level: stands.unwrap_or(Level::MOST_URGENT) }
                }
            });
            prop_assert_eq!(view.map(|view| view.state), state);
            prop_assert_eq!(tested.is_ready(task), matches!(state, Some(TaskState::Ready { .. })));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn answers_like_the_model(history in proptest::collection::vec(op(), 0..250)) {
        let mut pair = Pair::new();
        for op in &history {
            pair.step(op)?;
            pair.check()?;
        }
    }
}
