//! Every history of a small population: three tasks on three levels, and two servers, each with few
//! things that can happen to it and two lengths of time.

use super::model::Model;
use super::*;

/// A level is worth 2 ms: within the histories' reach.
const RULES: Rules = Rules { aging_ns: 2 * MS, deadline_share_max: Share::THREE_QUARTERS };

#[derive(Clone, Copy)]
enum Op {
    Ready(u32),
    Inherit(u32, u8),
    Disinherit(u32),
    Unready(u32),
    /// Picks, and runs for its turn, or what is given.
    Turn(Option<u64>, Outcome),
    /// Picks and puts back.
    PutBack,
    Sleep(u64),
}

#[derive(Clone)]
struct World {
    tested: Tested,
    model: Model,
    now_ns: u64,
}

impl World {
    fn step(&mut self, op: Op) {
        let now = at(self.now_ns);
        let (tested, model) = (&mut self.tested, &mut self.model);
        match op {
            Op::Ready(task) => {
                assert_eq!(tested.ready(task, now), model.ready(task, self.now_ns));
            }
            Op::Inherit(task, from) => {
                let expected = model.inherit(task, self.now_ns, Some(from));
                assert_eq!(tested.inherit(task, now, level(from)), expected);
            }
            Op::Disinherit(task) => {
                let expected = model.inherit(task, self.now_ns, None);
                assert_eq!(tested.disinherit(task), expected);
            }
            Op::Unready(task) => assert_eq!(tested.unready(task), model.unready(task)),
            Op::Turn(used_ns, outcome) => {
                let pick = tested.pick(now);
                assert_eq!(pick, model.pick(self.now_ns));
                let Some(Pick { task, run_for_ns, .. }) = pick else { return };
                let used_ns = used_ns.unwrap_or(run_for_ns);
                self.now_ns += used_ns;
                let expected = model.ran(task, self.now_ns, used_ns, outcome);
                assert_eq!(tested.ran(task, at(self.now_ns), used_ns, outcome), expected);
            }
            Op::PutBack => {
                let pick = tested.pick(now);
                assert_eq!(pick, model.pick(self.now_ns));
                let Some(pick) = pick else { return };
                assert_eq!(tested.put_back(pick, now), model.put_back(pick, self.now_ns));
            }
            Op::Sleep(ns) => self.now_ns += ns,
        }
        assert_eq!(tested.check_invariants(), Ok(()));
        assert_eq!(tested.next_deadline(), model.next_refill().map(at));
    }

    /// Tries everything, to this depth. How many histories.
    fn explore(&self, ops: &[Op], depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let after = |op: &Op| {
            let mut world = self.clone();
            world.step(*op);
            world.explore(ops, depth - 1)
        };
        ops.iter().map(after).sum()
    }
}

#[test]
fn three_tasks_on_three_levels() {
    let mut world =
        World { tested: scheduler(3, 0, RULES), model: Model::new(3, 0, RULES), now_ns: 0 };
    for (task, base) in [(0, 0), (1, 1), (2, 2)] {
        assert_eq!(world.tested.add(task, level(base)), world.model.add(task, base));
        world.step(Op::Ready(task));
    }
    let ops = [
        Op::Ready(0),
        Op::Ready(1),
        Op::Inherit(2, 0),
        Op::Inherit(1, 0),
        Op::Disinherit(2),
        Op::Unready(1),
        Op::Turn(None, Outcome::Again),
        Op::Turn(Some(0), Outcome::Again),
        Op::Turn(None, Outcome::Waits),
        Op::PutBack,
    ];
    assert_eq!(world.explore(&ops, 5), 100_000);
}

#[test]
fn two_servers_before_one_level() {
    let mut world =
        World { tested: scheduler(3, 2, RULES), model: Model::new(3, 2, RULES), now_ns: 0 };
    for (task, budget, period) in [(0, MS, 3 * MS), (1, MS, 4 * MS)] {
        let expected = world.model.add_deadline(task, budget, period);
        assert_eq!(world.tested.add_deadline(task, budget, period), expected);
        world.step(Op::Ready(task));
    }
    assert_eq!(world.tested.add(2, level(7)), world.model.add(2, 7));
    world.step(Op::Ready(2));
    let ops = [
        Op::Ready(0),
        Op::Ready(1),
        Op::Ready(2),
        Op::Unready(0),
        Op::Turn(None, Outcome::Again),
        Op::Turn(Some(MS / 2), Outcome::Again),
        Op::Turn(Some(MS / 2), Outcome::Waits),
        // Longer than any budget.
        Op::Turn(Some(5 * MS / 2), Outcome::Again),
        Op::Turn(None, Outcome::Waits),
        Op::Sleep(2 * MS),
    ];
    assert_eq!(world.explore(&ops, 5), 100_000);
}
