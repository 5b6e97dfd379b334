//! The loop around the machine: hears everybody by the rule of [`Turns`](duende::manager::turn::Turns), and
//! counts how many events whoever has something to say waits.

use duende::manager::{
    decide::{Event, Verb},
    turn::{NEWS_WAIT_MAX, QUESTION_WAIT_MAX, SOURCES, Source, Step, TICK_WAIT_MAX, Taken, Woken},
};
use duende_core::time::Instant;

use duende_history::Fault;

use crate::world::World;

/// Most steps of the loop at one instant: what was said leads to what is said.
const STEPS_MAX: u64 = 100_000;
/// Most ticks at one instant: a deadline that is served is one no longer.
const TICKS_MAX: u32 = 1_000;

/// Since which event who waits.
#[derive(Debug)]
struct Waits {
    /// By source.
    news: [u64; SOURCES.len()],
    deadline: u64,
    question: u64,
}

/// Where the loop stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// It waits for something to happen.
    Idle,
    /// A tick was handled.
    Ticked,
    /// The question was taken.
    Asked,
}

impl World {
    fn is_due(&self) -> bool {
        self.decider.next_deadline().is_some_and(|at| at <= self.now)
    }

    /// Lets time pass until `until`, with every tick that is due.
    pub(crate) fn pass(&mut self, until: Instant) -> Result<(), Fault> {
        // A step of the clock at a time: whoever lives acts in between.
        let mut ticks = 0;
        while let Some(at) = self.decider.next_deadline()
            && at <= until
            && !self.over
        {
            ticks = if at > self.now { 0 } else { ticks + 1 };
            if ticks > TICKS_MAX {
                return Err(format!("{ticks} ticks, and {at:?} is still due"));
            }
            self.now = self.now.max(at);
            while self.is_due() && !self.over {
                if self.turns(None, &mut None)? == Stopped::Ticked {
                    break;
                }
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Handles what is held.
    pub(crate) fn release(&mut self) -> Result<(), Fault> {
        while self.held.is_some() && !self.over {
            self.step(None, &mut None)?;
        }
        Ok(())
    }

    /// Somebody floods a source; meanwhile a deadline comes, and somebody asks.
    pub(crate) fn flooded(&mut self, source: Source, slot: u32) -> Result<(), Fault> {
        for _ in 0..2 {
            // The flood meets the loop anywhere.
            for _ in 0..self.draw.below(600) {
                if self.over {
                    return Ok(());
                }
                self.step(Some(source), &mut None)?;
            }
            if let Some(at) = self.decider.next_deadline() {
                self.now = self.now.max(at);
            }
            let mut question = Some(Verb::Figures(slot));
            while question.is_some() && !self.over {
                self.turns(Some(source), &mut question)?;
            }
        }
        while !self.over && self.turns(None, &mut None)? != Stopped::Idle {}
        Ok(())
    }

    /// Goes on until there is nothing to do, a deadline was judged, or the question was taken.
    fn turns(
        &mut self,
        flood: Option<Source>,
        question: &mut Option<Verb>,
    ) -> Result<Stopped, Fault> {
        let begun = self.steps;
        let mut waits = Waits { news: [begun; SOURCES.len()], deadline: begun, question: begun };
        for _ in 0..STEPS_MAX {
            let was_due = self.is_due();
            let asked = question.is_some();
            let (step, stopped) = self.step(flood, question)?;
            self.count(&mut waits, step, was_due, asked)?;
            if let Some(stopped) = stopped {
                return Ok(stopped);
            }
            if self.over {
                break;
            }
        }
        if self.over { Ok(Stopped::Idle) } else { Err("the loop never rests".to_owned()) }
    }

    fn count(
        &self,
        waits: &mut Waits,
        step: Step,
        was_due: bool,
        asked: bool,
    ) -> Result<(), Fault> {
        let now = self.steps;
        let late = |who: &str, since: u64, most: u64| {
            let events = now - since;
            if events > most {
                return Err(format!("{who} had to wait for {events} events"));
            }
            Ok(())
        };
        for (source, since) in SOURCES.into_iter().zip(&mut waits.news) {
            let held = source == Source::Places && self.held.is_some();
            if step == Step::Hear(source) || !self.has(source) || held {
                *since = now;
            }
            late(&format!("{source:?}"), *since, NEWS_WAIT_MAX)?;
        }
        if !was_due || step == Step::Tick {
            waits.deadline = now;
        }
        late("a deadline", waits.deadline, TICK_WAIT_MAX)?;
        if !asked {
            waits.question = now;
        }
        late("a question", waits.question, QUESTION_WAIT_MAX)
    }

    /// One step of the loop, and whether it stops there.
    fn step(
        &mut self,
        flood: Option<Source>,
        question: &mut Option<Verb>,
    ) -> Result<(Step, Option<Stopped>), Fault> {
        let is_due = self.is_due();
        let step = self.turns.next(|| is_due);
        if let Some(source) = flood
            && !self.has(source)
        {
            self.flood(source);
        }
        match step {
            Step::Look => {}
            Step::Hear(source) => {
                let taken = self.take(source)?;
                self.turns.took(taken);
            }
            Step::Release => {
                let held = self.held.take().ok_or("nothing is held")?;
                if flood.is_none() && self.has(Source::Datagrams) {
                    return Err(format!("{held:?} is handled, and datagrams lie unread"));
                }
                self.heard_of_place(held)?;
            }
            Step::Tick => {
                let unread = SOURCES.into_iter().find(|source| self.has(*source));
                if let (None, Some(source)) = (flood, unread) {
                    return Err(format!("a deadline is judged, and {source:?} lie unread"));
                }
                self.event(Event::Tick)?;
                return Ok((step, Some(Stopped::Ticked)));
            }
            Step::Wait { questions, at_once } => {
                if questions && let Some(verb) = question.take() {
                    self.operator(verb)?;
                    self.turns.woken(Woken::Question);
                    return Ok((step, Some(Stopped::Asked)));
                }
                let first = SOURCES.into_iter().find(|source| {
                    self.has(*source) && !(*source == Source::Places && self.held.is_some())
                });
                let Some(first) = first else {
                    self.turns.woken(Woken::Other);
                    let idle = !at_once && !is_due;
                    return Ok((step, idle.then_some(Stopped::Idle)));
                };
                let end = self.take(first)? == Taken::End;
                self.turns.woken(if end { Woken::End } else { Woken::Other });
            }
        }
        Ok((step, None))
    }
}
