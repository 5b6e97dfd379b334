//! Which faults and which inputs are likely in one world.
//!
//! Worlds in which everything is equally likely are all alike, and reach no corner. So each world
//! draws, for every kind of input, whether it is left out, rare, common or frequent, and how its
//! clock, its entropy and its processes behave (swarm testing: Groce et al., ISSTA 2012).

use crate::draw::Draw;
use duende_world::{Flow, Setup};

/// How a world's clock behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Some microseconds a step.
    Steady,
    /// Some milliseconds a step.
    Fast,
    /// Whole milliseconds only, so that much falls on the very instant at which something ends.
    Coarse,
    /// It stands still for most of the time.
    Stalled,
    /// It jumps forwards and back.
    Wild,
    /// It comes to the end of what can be counted.
    End,
}

/// What entropy a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entropy {
    /// As it should be.
    Random,
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
}

/// What is likely in one world.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// What the machines are made with.
    pub setup: Setup,
    /// How the clock behaves.
    pub clock: Clock,
    /// What the entropy is.
    pub entropy: Entropy,
    /// How many steps the world has before its quiet phase.
    pub steps: u64,
    /// How often what is due is done before anything else, in a thousand steps.
    pub prompt: u16,
    /// How often a process does not do as it is told, in a thousand times.
    pub disobeys: u16,
    /// How often news are told of a process that is not there, in a thousand times.
    pub stale: u16,
    /// How often bytes are corrupted, in a thousand times.
    pub corrupt: u16,
    /// The sums of the weights up to each kind of input.
    weights: Vec<u64>,
}

impl Swarm {
    /// Draws one, for so many kinds of inputs.
    pub fn new(draw: &mut Draw, kinds: usize) -> Self {
        let mut sum = 0;
        let weights = (0..kinds)
            .map(|_| {
                sum += draw.pick(&[0, 0, 1, 1, 4, 4, 16]);
                sum
            })
            .collect();
        let flow =
            |draw: &mut Draw| draw.pick(&[Flow::Park, Flow::DropOldest, Flow::Spill, Flow::Reject]);
        let setup = Setup { channel: flow(draw), fanout: flow(draw), gate: flow(draw) };
        let rate = |draw: &mut Draw| draw.pick(&[0, 10, 100, 400]);
        let clock = draw.pick(&[
            Clock::Steady,
            Clock::Steady,
            Clock::Coarse,
            Clock::Coarse,
            Clock::Fast,
            Clock::Fast,
            Clock::Stalled,
            Clock::Wild,
            Clock::End,
        ]);
        // No delay by chance falls between two milliseconds.
        let entropies: &[_] = match clock {
            Clock::Coarse => &[Entropy::Zeros, Entropy::Ones],
            _ => {
                &[Entropy::Random, Entropy::Random, Entropy::Random, Entropy::Zeros, Entropy::Ones]
            }
        };
        Self {
            setup,
            clock,
            entropy: draw.pick(entropies),
            steps: draw.pick(&[200, 1000, 3000]),
            prompt: draw.pick(&[100, 400, 700]),
            disobeys: rate(draw),
            stale: draw.pick(&[0, 10, 100]),
            corrupt: rate(draw),
            weights,
        }
    }

    /// Draws a kind of input.
    pub fn kind(&self, draw: &mut Draw) -> usize {
        let sum = self.weights.last().copied().unwrap_or(0);
        let at = draw.below(sum);
        self.weights.partition_point(|end| *end <= at)
    }
}
