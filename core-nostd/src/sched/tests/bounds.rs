//! What is promised in time: how long a task waits, what a server takes, which deadlines are kept.

use super::*;

/// A task of the levels in a simulated population.
#[derive(Clone, Debug)]
struct Plan {
    base: Level,
    /// How long its turns are, in percent of what they may be.
    percent: u64,
    /// How long it waits after each turn; zero: it goes on at once.
    pause_ns: u64,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let percent = prop_oneof![3 => Just(100_u64), 1 => 1..=100_u64];
    let pause = prop_oneof![3 => Just(0_u64), 1 => 1..20 * MS];
    let base = prop_oneof![any_level(), Just(level(0)), Just(level(7))];
    let plan = (base, percent, pause).prop_map(|(base, percent, pause_ns)| Plan {
        base,
        percent,
        pause_ns,
    });
    proptest::collection::vec(plan, 1..12)
}

/// Budgets and periods of servers that never wait.
fn hogs() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let hog = (1..4_u64, 1..30_u64).prop_map(|(budget, rest)| (budget * MS, (budget + rest) * MS));
    proptest::collection::vec(hog, 0..4)
}

/// What a task inherits from one turn to the next, if anything.
fn loans() -> impl Strategy<Value = Vec<(usize, Option<Level>)>> {
    let loan = (0..12_usize, prop_oneof![Just(None), any_level().prop_map(Some)]);
    proptest::collection::vec(loan, 1..40)
}

/// Runs the population for so long, one loan each turn, and gives the longest wait of each task of the levels.
fn longest_waits(
    tested: &mut Tested,
    plans: &[Plan],
    loans: &[(usize, Option<Level>)],
    until_ns: u64,
) -> Vec<u64> {
    let mut loans = loans.iter().cycle();
    let mut now_ns = 0;
    let mut ready_at: Vec<Option<u64>> = vec![Some(0); plans.len()];
    let mut longest = vec![0; plans.len()];
    let mut wakes: Vec<(u64, usize)> = Vec::new();
    while now_ns < until_ns {
        // Whoever has paused gets ready when its time comes, also within a turn of another.
        wakes.retain(|&(wake_ns, task)| {
            let is_due = wake_ns <= now_ns;
            if is_due {
                tested.ready(u32::try_from(task).unwrap(), at(now_ns)).unwrap();
                ready_at[task] = Some(now_ns);
            }
            !is_due
        });
        if let Some((task, loan)) = loans.next().filter(|(task, _)| *task < plans.len()) {
            let task = u32::try_from(*task).unwrap();
            match loan {
                Some(from) => tested.inherit(task, at(now_ns), *from).unwrap(),
                None => tested.disinherit(task).unwrap(),
            }
        }
        let Some(pick) = tested.pick(at(now_ns)) else {
            let wake = wakes.iter().map(|(wake_ns, _)| *wake_ns).min();
            let refill = tested.next_deadline().map(Instant::as_ns);
            now_ns = wake.into_iter().chain(refill).min().unwrap();
            continue;
        };
        let task = pick.task as usize;
        if let Some(plan) = plans.get(task) {
            longest[task] = longest[task].max(now_ns - ready_at[task].take().unwrap());
            let used_ns = (pick.run_for_ns * plan.percent / 100).max(1);
            now_ns += used_ns;
            let outcome = if plan.pause_ns == 0 { Outcome::Again } else { Outcome::Waits };
            tested.ran(pick.task, at(now_ns), used_ns, outcome).unwrap();
            if plan.pause_ns == 0 {
                ready_at[task] = Some(now_ns);
            } else {
                wakes.push((now_ns + plan.pause_ns, task));
            }
        } else {
            now_ns += pick.run_for_ns;
            tested.ran(pick.task, at(now_ns), pick.run_for_ns, Outcome::Again).unwrap();
        }
        assert_eq!(tested.check_invariants(), Ok(()));
    }
    for (task, since) in ready_at.iter().enumerate() {
        longest[task] = longest[task].max(since.map_or(0, |since| now_ns.saturating_sub(since)));
    }
    longest
}

proptest! {
    #[test]
    fn no_task_waits_longer_than_is_stated(
        plans in plans(),
        hogs in hogs(),
        loans in prop_oneof![Just(Vec::new()), loans()],
    ) {
        let mut tested = scheduler(32, 8, Rules::default());
        for (plan, task) in plans.iter().zip(0..) {
            tested.add(task, plan.base).unwrap();
            tested.ready(task, Instant::ZERO).unwrap();
        }
        for ((budget_ns, period_ns), task) in hogs.into_iter().zip(16..) {
            // Some are not admitted.
            if tested.add_deadline(task, budget_ns, period_ns).is_ok() {
                tested.ready(task, Instant::ZERO).unwrap();
            }
        }
        let bounds: Vec<u64> = plans.iter().map(|plan| tested.waiting_ns_max(plan.base)).collect();
        let until_ns = 4 * bounds.iter().max().unwrap();
        let longest = longest_waits(&mut tested, &plans, &loans, until_ns.min(20_000 * MS));
        for ((longest, bound), plan) in longest.iter().zip(&bounds).zip(&plans) {
            prop_assert!(longest <= bound, "{} of {} ns, {:?}", longest, bound, plan);
        }
    }
}

#[test]
fn the_bound_is_the_formula() {
    let rules = Rules::default();
    // 8 ms of a turn that has begun, 2 · 5 ms of aging, 3 ms for each of ten others.
    let alone = waiting_ns_max(level(2), 11, rules, Share::ZERO, 0);
    assert_eq!(alone, (8 + 10 + 30) * MS);
    // Beside servers with 11 ms of budgets and half of the time.
    let half = Share::from_ppm(500_000).unwrap();
    assert_eq!(waiting_ns_max(level(2), 11, rules, half, 11 * MS), 2 * (48 + 22) * MS);
    assert_eq!(waiting_ns_max(level(0), 0, rules, Share::ZERO, 0), 8 * MS);
    // A scheduler knows how many tasks it has, and the budgets of its servers.
    let mut tested = scheduler(4, 2, rules);
    assert_eq!(tested.add(0, level(2)), Ok(()));
    assert_eq!(tested.waiting_ns_max(level(2)), waiting_ns_max(level(2), 1, rules, Share::ZERO, 0));
    assert_eq!(tested.add_deadline(1, 5 * MS, 20 * MS), Ok(()));
    assert_eq!(tested.add_deadline(2, 6 * MS, 24 * MS), Ok(()));
    let stated = waiting_ns_max(level(2), 3, rules, half, 11 * MS);
    assert_eq!(tested.waiting_ns_max(level(2)), stated);
    let never = Rules { aging_ns: u64::MAX, ..rules };
    let nearly_all = Share::from_ppm(999_999).unwrap();
    assert_eq!(waiting_ns_max(level(7), u32::MAX, never, nearly_all, u64::MAX), u64::MAX);
}

#[test]
fn without_aging_a_task_starves() {
    for (aging_ns, runs) in [(u64::MAX, false), (AGING_NS, true)] {
        let mut tested = scheduler(2, 0, Rules { aging_ns, ..Rules::default() });
        let plans = [(0, 0), (1, 7)].map(|(task, base)| {
            tested.add(task, level(base)).unwrap();
            tested.ready(task, Instant::ZERO).unwrap();
            Plan { base: level(base), percent: 100, pause_ns: 0 }
        });
        let longest = longest_waits(&mut tested, &plans, &[], 1_000 * MS);
        assert_eq!(longest[1] < 100 * MS, runs, "{longest:?}");
    }
}

#[test]
fn nothing_is_left_of_aging_after_a_turn() {
    let mut tested = scheduler(3, 0, Rules::default());
    for (task, base) in [(0, 0), (1, 2), (2, 2)] {
        tested.add(task, level(base)).unwrap();
        tested.ready(task, Instant::ZERO).unwrap();
    }
    let mut now_ns = 0;
    let mut turns = Vec::new();
    while now_ns < 26 * MS {
        let pick = tested.pick(at(now_ns)).unwrap();
        // They hold task 0 up for no longer than one like it would.
        assert_eq!((pick.class, pick.run_for_ns), (Class::Level(level(0)), MS));
        turns.push((now_ns / MS, pick.task));
        now_ns += pick.run_for_ns;
        tested.ran(pick.task, at(now_ns), pick.run_for_ns, Outcome::Again).unwrap();
    }
    // Two levels are worth 10 ms, from 0 ms on, and from 12 and 13 ms on. Task 0, whose every turn is
    // at once after the one before, goes first where ranks are equal: at 10, 22 and 24 ms.
    let of_others: Vec<_> = turns.into_iter().filter(|(_, task)| *task != 0).collect();
    assert_eq!(of_others, [(11, 1), (12, 2), (23, 1), (25, 2)]);
}

#[test]
fn equals_take_turns_of_their_own_length() {
    let mut tested = scheduler(3, 0, Rules::default());
    let mut now_ns = 0;
    for task in 0..3 {
        tested.add(task, Level::default()).unwrap();
        tested.ready(task, Instant::ZERO).unwrap();
    }
    for turn in 0..30_u32 {
        let pick = tested.pick(at(now_ns)).unwrap();
        assert_eq!((pick.task, pick.class), (turn % 3, Class::Level(Level::default())));
        now_ns += pick.run_for_ns;
        tested.ran(pick.task, at(now_ns), pick.run_for_ns, Outcome::Again).unwrap();
    }
    assert_eq!(now_ns, 30 * 5 * MS);
}

/// What a server does when it could run.
#[derive(Clone, Debug)]
enum Conduct {
    /// Runs for so many percent of its turn and wants more.
    Again(u64),
    /// The same, and then sleeps for so long.
    Sleeps(u64, u64),
    /// Is made unready and ready again.
    Flaps,
    /// Leaves the processor to the rest for so long.
    Yields(u64),
}

fn conduct() -> impl Strategy<Value = Conduct> {
    let percent = || prop_oneof![Just(100_u64), 1..=100_u64];
    prop_oneof![
        6 => percent().prop_map(Conduct::Again),
        4 => (percent(), 1..25 * MS).prop_map(|(percent, ns)| Conduct::Sleeps(percent, ns)),
        1 => Just(Conduct::Flaps),
        2 => (1..25 * MS).prop_map(Conduct::Yields),
    ]
}

proptest! {
    #[test]
    fn no_server_takes_more_than_its_share(
        budget_ns in 1_000..5 * MS,
        period_ns in 7 * MS..20 * MS,
        late_ns in prop_oneof![Just(0), 1..40 * MS],
        history in proptest::collection::vec(conduct(), 1..120),
    ) {
        let mut tested = scheduler(1, 1, Rules::default());
        tested.add_deadline(0, budget_ns, period_ns).unwrap();
        let mut now_ns = 0;
        let mut turns: Vec<(u64, u64)> = Vec::new();
        let mut overrun_ns = 0;
        tested.ready(0, Instant::ZERO).unwrap();
        for (conduct, number) in history.iter().zip(0_u64..) {
            let Some(pick) = tested.pick(at(now_ns)) else {
                now_ns = tested.next_deadline().unwrap().as_ns();
                continue;
            };
            // Each turn is charged with a microsecond at least: so long it is.
            let ran_ns = |percent: u64| {
                let late_ns = if number % 8 == 7 { late_ns } else { 0 };
                (pick.run_for_ns * percent / 100).max(CHARGE_NS_MIN) + late_ns
            };
            match *conduct {
                Conduct::Again(percent) | Conduct::Sleeps(percent, _) => {
                    let used_ns = ran_ns(percent);
                    overrun_ns = overrun_ns.max(used_ns.saturating_sub(pick.run_for_ns));
                    turns.push((now_ns, used_ns));
                    now_ns += used_ns;
                    let sleep_ns = if let Conduct::Sleeps(_, ns) = *conduct { Some(ns) } else { None };
                    let outcome = sleep_ns.map_or(Outcome::Again, |_| Outcome::Waits);
                    tested.ran(0, at(now_ns), used_ns, outcome).unwrap();
                    now_ns += sleep_ns.unwrap_or(0);
                    tested.ready(0, at(now_ns)).unwrap();
                }
                Conduct::Flaps => {
                    tested.put_back(pick, at(now_ns)).unwrap();
                    tested.unready(0).unwrap();
                    tested.ready(0, at(now_ns)).unwrap();
                }
                Conduct::Yields(ns) => {
                    tested.put_back(pick, at(now_ns)).unwrap();
                    now_ns += ns;
                }
            }
            prop_assert_eq!(tested.check_invariants(), Ok(()));
        }
        // Windows that begin with a turn and end with one are the fullest.
        let (budget, period) = (u128::from(budget_ns), u128::from(period_ns));
        for (first, &(from_ns, _)) in turns.iter().enumerate() {
            let mut taken_ns = 0;
            for &(begun_ns, used_ns) in &turns[first..] {
                taken_ns += used_ns;
                let window = u128::from(begun_ns + used_ns - from_ns);
                let taken = u128::from(taken_ns - overrun_ns.min(taken_ns)) * period;
                let bound = budget * (window + 2 * (period - budget));
                prop_assert!(taken <= bound, "{} ns in {} ns from {}", taken_ns, window, from_ns);
            }
        }
    }

    #[test]
    fn deadlines_are_kept(
        wanted in proptest::collection::vec((1..8_000_u64, 1..400_u64, 0..50_u64), 1..12),
        percents in proptest::collection::vec(prop_oneof![Just(100_u64), 1..=100_u64], 1..20),
        hog in any_level(),
    ) {
        // All times are whole microseconds: no turn is charged with more than it was.
        const US: u64 = 1_000;
        struct Job {
            period_ns: u64,
            budget_ns: u64,
            released_ns: u64,
            left_ns: u64,
        }
        // They may take all of the time but a millionth part.
        let share = Share::from_ppm(999_999).unwrap();
        let rules = Rules { deadline_share_max: share, ..Rules::default() };
        let mut tested = scheduler(64, 12, rules);
        let mut jobs: Vec<Job> = Vec::new();
        for (budget, rest, offset) in wanted {
            let (budget_ns, period_ns) = (budget * US, (budget + rest * 20 + 100) * US);
            let task = u32::try_from(jobs.len()).unwrap();
            if tested.add_deadline(task, budget_ns, period_ns).is_ok() {
                jobs.push(Job { period_ns, budget_ns, released_ns: offset * 100 * US, left_ns: 0 });
            }
        }
        tested.add(63, hog).unwrap();
        tested.ready(63, Instant::ZERO).unwrap();
        let mut percents = percents.iter().cycle();
        let mut now_ns = 0;
        let mut kept = 0;
        while kept < 400 {
            // Jobs are released once per period, and ask for no more than the budget.
            for (job, task) in jobs.iter_mut().zip(0..) {
                if job.left_ns == 0 && job.released_ns <= now_ns {
                    job.left_ns = (job.budget_ns / US * percents.next().unwrap() / 100).max(1) * US;
                    tested.ready(task, at(now_ns)).unwrap();
                }
            }
            let waiting = jobs.iter().filter(|job| job.left_ns == 0);
            let release_ns = waiting.map(|job| job.released_ns).min().unwrap_or(u64::MAX);
            let pick = tested.pick(at(now_ns)).unwrap();
            // A release interrupts.
            let length_ns = pick.run_for_ns.min(release_ns - now_ns);
            let Some(job) = jobs.get_mut(pick.task as usize) else {
                now_ns += length_ns;
                tested.ran(63, at(now_ns), length_ns, Outcome::Again).unwrap();
                continue;
            };
            let used_ns = length_ns.min(job.left_ns);
            now_ns += used_ns;
            job.left_ns -= used_ns;
            if job.left_ns == 0 {
                let deadline_ns = job.released_ns + job.period_ns;
                prop_assert!(now_ns <= deadline_ns, "task {} is late", pick.task);
                kept += 1;
                job.released_ns = deadline_ns;
            }
            let outcome = if job.left_ns == 0 { Outcome::Waits } else { Outcome::Again };
            tested.ran(pick.task, at(now_ns), used_ns, outcome).unwrap();
        }
    }
}
