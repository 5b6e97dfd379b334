//! A failing run made short: fewer steps, then smaller numbers in them.
//!
//! 1. Steps are left out by delta debugging (Zeller and Hildebrandt 2002): half of them, then quarters,
//!    down to single ones, as long as the rest fails by the same rule. What is left out may hand its
//!    time on to the step behind it.
//! 2. Then every byte of every record is tried smaller, as long as the record is one and the run fails
//!    by the same rule. That makes numbers small whatever they mean.

use duende_world::{RECORD_BYTES_MAX, Step, write_step};

use crate::failure::Failure;
use crate::run::judge;

/// Shortens steps that fail by a rule. `budget` is the number of runs that it may take.
#[must_use]
pub fn shrink(steps: Vec<Step>, failure: &Failure, budget: u32) -> Vec<Step> {
    let hook = std::panic::take_hook();
    // A run that panics is tried hundreds of times.
    std::panic::set_hook(Box::new(|_| {}));
    let same = |steps: &[Step]| judge(steps).is_err_and(|found| found.rule == failure.rule);
    let mut shrinker = Shrinker { same: &same, budget };
    let mut steps = steps;
    if shrinker.fails(&steps) {
        steps = shrinker.fewer(steps);
        steps = shrinker.smaller(steps);
        steps = shrinker.fewer(steps);
    }
    std::panic::set_hook(hook);
    steps
}

struct Shrinker<'a> {
    /// Whether steps fail by the same rule.
    same: &'a dyn Fn(&[Step]) -> bool,
    /// How many more runs it may take.
    budget: u32,
}

impl Shrinker<'_> {
    fn fails(&mut self, steps: &[Step]) -> bool {
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        (self.same)(steps)
    }

    fn fewer(&mut self, mut steps: Vec<Step>) -> Vec<Step> {
        let mut size = steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            let mut any = false;
            while at < steps.len() {
                match self.without(&steps, at, size) {
                    Some(fewer) => {
                        steps = fewer;
                        any = true;
                    }
                    None => at += size,
                }
            }
            if size == 1 && any {
                continue;
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        steps
    }

    fn without(&mut self, steps: &[Step], at: usize, size: usize) -> Option<Vec<Step>> {
        let end = at.saturating_add(size).min(steps.len());
        let mut fewer = steps[..at].to_vec();
        fewer.extend_from_slice(&steps[end..]);
        if self.fails(&fewer) {
            return Some(fewer);
        }
        let elapsed_ns: i64 =
            steps[at..end].iter().fold(0, |sum, step| step.elapsed_ns.saturating_add(sum));
        let behind = fewer.get_mut(at).filter(|_| elapsed_ns != 0)?;
        behind.elapsed_ns = behind.elapsed_ns.saturating_add(elapsed_ns);
        self.fails(&fewer).then_some(fewer)
    }

    fn smaller(&mut self, mut steps: Vec<Step>) -> Vec<Step> {
        for index in 0..steps.len() {
            for simpler in SIMPLER {
                let step = simpler(&steps[index]);
                self.try_one(&mut steps, index, step);
            }
            let mut byte = 0;
            while byte < record(&steps[index]).len() {
                let now = record(&steps[index])[byte];
                for less in [0, now / 2, now.saturating_sub(1)] {
                    let mut bytes = record(&steps[index]);
                    bytes[byte] = less;
                    if less < now
                        && let Ok((step, _)) = postcard::take_from_bytes::<Step>(&bytes)
                        && self.try_one(&mut steps, index, step)
                    {
                        break;
                    }
                }
                byte += 1;
            }
        }
        steps
    }

    fn try_one(&mut self, steps: &mut [Step], index: usize, step: Step) -> bool {
        if steps[index] == step {
            return false;
        }
        let before = std::mem::replace(&mut steps[index], step);
        if self.fails(steps) {
            return true;
        }
        steps[index] = before;
        false
    }
}

fn record(step: &Step) -> Vec<u8> {
    let mut bytes = vec![0; RECORD_BYTES_MAX];
    let written = write_step(step, &mut bytes).unwrap_or(0);
    bytes.truncate(written);
    bytes
}

/// The same step without entropy, at no time, at a rounder time.
const SIMPLER: [fn(&Step) -> Step; 3] = [
    |step| Step { entropy: 0, ..step.clone() },
    |step| Step { elapsed_ns: 0, ..step.clone() },
    |step| Step { elapsed_ns: step.elapsed_ns / 1_000_000 * 1_000_000, ..step.clone() },
];

#[cfg(test)]
mod tests {
    use duende_world::Input;

    use super::*;

    /// A minute of nothing, a start at some time, more of nothing, and a charge that is too high.
    fn long() -> Vec<Step> {
        let step = |elapsed_ns, input| Step { elapsed_ns, entropy: 7, input };
        let mut steps = vec![step(60_000, Input::Tick); 100];
        steps[40] = step(5, Input::Start { slot: 6 });
        steps[70] = step(9, Input::Charge { group: 5, resource: 2, amount: 4_000 });
        steps
    }

    #[test]
    fn what_does_not_matter_is_left_out_and_what_does_gets_small() {
        let same = |steps: &[Step]| {
            let start =
                steps.iter().position(|s| matches!(s.input, Input::Start { slot } if slot > 2));
            let charge = |s: &Step| matches!(s.input, Input::Charge { amount, .. } if amount > 900);
            start.is_some_and(|start| steps[start..].iter().any(charge))
        };
        let mut shrinker = Shrinker { same: &same, budget: 2_000 };
        let fewer = shrinker.fewer(long());
        let short = shrinker.smaller(fewer);
        let [start, charge] = short.as_slice() else { panic!("{} steps", short.len()) };
        assert_eq!(*start, Step { elapsed_ns: 0, entropy: 0, input: Input::Start { slot: 3 } });
        let Input::Charge { group: 0, resource: 0, amount: 901..=2000 } = charge.input else {
            panic!("{charge:?}");
        };
    }

    #[test]
    fn time_is_handed_on() {
        let passed = |steps: &[Step]| steps.iter().map(|step| step.elapsed_ns).sum::<i64>();
        let same = |steps: &[Step]| passed(steps) >= 6_000_000;
        let mut shrinker = Shrinker { same: &same, budget: 2_000 };
        assert_eq!(shrinker.fewer(vec![long()[0].clone(); 100]).len(), 1);
    }
}
