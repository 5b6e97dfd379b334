//! Picking the next task and putting it back, for 10 to 100,000 tasks.

use duende_core::sched::{LEVELS, Level, Outcome, Rules, Scheduler, Slot};
use duende_core::time::Instant;
use duende_report::{Rank, Report};

use super::Result;
use super::rounds::{Contender, measure};

const TASKS: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];

/// How long a turn takes.
const TURN_NS: u64 = 1_000;

/// What counts as flat: the caches are not the same for 10 tasks and for 100,000.
const FLAT: f64 = 1.5;

pub(crate) fn measure_in(report: &mut Report) -> Result<()> {
    let [fewest, .., most] = TASKS;
    let mut contenders = Vec::new();
    for tasks in TASKS {
        contenders.push(turns(name(tasks), tasks, |place| place, but_one(tasks))?);
    }
    contenders.push(turns(name(most) + ", shuffled", most, shuffled, but_one(most))?);
    let all_levels = |place| u8::try_from(place % u32::from(LEVELS)).ok().and_then(Level::new);
    contenders.push(turns(name(most) + ", aging", most, |place| place, all_levels)?);
    let what = "pick the next task, and put it back after its turn, of so many that are ready";
    let mut measured = measure("scheduler", what, contenders);
    for tasks in TASKS.map(name) {
        measured = measured.at_most_ns(&tasks, Rank::P50, 30.0).without_allocations(&tasks);
    }
    report.add(measured.ratio_at_most(&name(most), &name(fewest), FLAT));
    Ok(())
}

/// Tasks that are ready. Each turn takes 1 µs and leaves the task ready. `task_at` is the task that
/// stands at a place of the queue, `level_at` its level.
fn turns(
    name: String,
    tasks: u32,
    task_at: impl Fn(u32) -> u32,
    level_at: impl Fn(u32) -> Option<Level>,
) -> Result<Contender<'static>> {
    let slots = vec![Slot::EMPTY; usize::try_from(tasks)?].into_boxed_slice();
    let mut scheduler = Scheduler::new(slots, Rules::default());
    for place in 0..tasks {
        let task = task_at(place);
        scheduler.add(task, level_at(place).unwrap_or_default())?;
        scheduler.ready(task, Instant::ZERO)?;
    }
    let mut now_ns = 0;
    Ok(Contender::new(name, move || {
        let picked = scheduler.pick(Instant::from_ns(now_ns));
        now_ns += TURN_NS;
        let now = Instant::from_ns(now_ns);
        picked.is_some_and(|pick| scheduler.ran(pick.task, now, TURN_NS, Outcome::Again).is_ok())
    }))
}

/// One task is of the least urgent level, so that each pick has a wait to compare; the others share a
/// level. In the row with aging all levels have as many tasks, and most picks boost others too.
fn but_one(tasks: u32) -> impl Fn(u32) -> Option<Level> {
    move |place| (place + 1 == tasks).then_some(Level::LEAST_URGENT)
}

fn name(tasks: u32) -> String {
    format!("{tasks} tasks")
}

/// Each of 100,000 tasks once, in an order in which no neighbours in the queue are neighbours in memory:
/// every pick misses the caches. The other rows are tasks that came one after the other.
fn shuffled(place: u32) -> u32 {
    // Coprime to 100,000, so every number comes up once.
    let product = u64::from(place) * 61_803;
    u32::try_from(product % 100_000).unwrap_or(place)
}
