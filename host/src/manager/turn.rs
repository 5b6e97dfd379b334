//! Whose turn it is: by which rule the loop of the manager hears everybody. The loop takes one [`Step`]
//! after the other and says what came of it; the simulator of fleets does the same.
//!
//! 1. Signals and questions come before news, but after [`QUESTIONS_MAX_IN_A_ROW`] questions a turn of
//!    news comes all the same.
//! 2. In a turn each source of news has at most [`ROUNDS_PER_TURN`] of its own heard, one in a round.
//! 3. A deadline that has come goes before further news. But first what had *arrived* is heard, in at
//!    most [`TURNS_BEFORE_TICK`] turns: nobody is judged by what lies unread.
//! 4. Before the end of a process the datagrams that had arrived are heard, at most
//!    [`DATAGRAMS_BEFORE_END_MAX`]: what it said counts for it, and what comes later with the same number
//!    is another's. Only its own source waits meanwhile.
//!
//! So whoever floods delays others by a number of events, not by its own patience: [`NEWS_WAIT_MAX`],
//! [`QUESTION_WAIT_MAX`], [`TICK_WAIT_MAX`]. The simulator of fleets counts them.

use super::decide::planted::{self, Plant};
use crate::backend::{Heard, News, PlaceNews};

/// Questions that are taken before a turn of news comes.
pub const QUESTIONS_MAX_IN_A_ROW: u32 = 16;
/// Most news of one source in one turn.
pub const ROUNDS_PER_TURN: u32 = 64;
/// Most turns that a deadline waits for what had arrived before it.
pub const TURNS_BEFORE_TICK: u32 = 16;
/// Most datagrams that are heard before an end. What has arrived is at most `net.unix.max_dgram_qlen`:
/// 10 by the kernel, 512 by systemd.
pub const DATAGRAMS_BEFORE_END_MAX: u32 = 512;
/// After so many looks at the descriptors that brought nothing, all that had arrived was heard: the
/// first look wakes a reader, the second hears it.
const QUIET_LOOKS: u32 = 3;

/// Most events between two looks at one source of news that has some: the others' in a round, and
/// between turns the questions, a signal and a tick. An end that waits for its datagrams adds
/// [`DATAGRAMS_BEFORE_END_MAX`] rounds to its own source alone.
pub const NEWS_WAIT_MAX: u64 = 2 * SOURCES.len() as u64 + QUESTIONS_MAX_IN_A_ROW as u64 + 2;
/// Most events between the arrival of a deadline and its tick.
pub const TICK_WAIT_MAX: u64 =
    (TURNS_BEFORE_TICK as u64 + 1) * EVENTS_PER_TURN + QUESTIONS_MAX_IN_A_ROW as u64 + 1;
/// Most events before a question, or a signal, that lies first in its queue.
pub const QUESTION_WAIT_MAX: u64 = TICK_WAIT_MAX + 1 + EVENTS_PER_TURN;
/// Most events of one turn, an end that was held included.
const EVENTS_PER_TURN: u64 = ROUNDS_PER_TURN as u64 * SOURCES.len() as u64 + 1;

/// Where news come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The backends' own word: starts, ends, losses.
    Places,
    /// What was opened before a start.
    Preparations,
    /// The notification socket.
    Datagrams,
    /// What daemons say over links, and what their channels' sources do.
    Links,
}

/// All of them, in the order of a round.
pub const SOURCES: [Source; 4] =
    [Source::Places, Source::Preparations, Source::Datagrams, Source::Links];

/// Whether this is the end of a process or of a place: a number is free from then on.
#[must_use]
pub const fn is_end(heard: &Heard) -> bool {
    matches!(
        heard,
        Heard::Of(_, News::MainEnded { .. } | News::Exited { .. })
            | Heard::Place(_, PlaceNews::Lost { .. })
    )
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take a signal, a question or news, in this order, and say [`Turns::woken`].
    Wait {
        /// Whether questions are taken.
        questions: bool,
        /// Only what is there is taken: there is something to do after it. Else it is waited for, until
        /// the next deadline.
        at_once: bool,
    },
    /// Let the readers of descriptors read what lies there.
    Look,
    /// Take one of the news of this source, if one is there, and say [`Turns::took`].
    Hear(Source),
    /// Handle the end that was held.
    Release,
    /// Handle the deadline that has come.
    Tick,
}

/// What was heard of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing is there.
    Nothing,
    /// Something, which is handled.
    News,
    /// The end of a process or a place, which is held until [`Step::Release`].
    End,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A question, which is handled.
    Question,
    /// A signal or news of some source, which are handled; or nothing at all.
    Other,
    /// An end, which is held until [`Step::Release`].
    End,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Turns {
    phase: Phase,
    questions_in_a_row: u32,
    /// An end is held; so many datagrams were heard since, or all that had arrived.
    held: Option<u32>,
    /// A deadline has come: what was done before it.
    due: Option<Due>,
}

#[derive(Debug, Default)]
enum Phase {
    /// Between turns.
    #[default]
    Between,
    /// In a turn.
    Turn(Turn),
    /// A tick was handled.
    Ticked,
    /// After a tick: signals and questions come before the next one, whatever is due.
    Listens,
}

#[derive(Debug, Default)]
struct Turn {
    round: u32,
    /// Whose turn it is in the round.
    source: usize,
    round_heard: bool,
    turn_heard: bool,
}

#[derive(Debug, Default)]
struct Due {
    turns: u32,
    /// Turns in a row that brought nothing.
    quiet: u32,
    looked: bool,
}

impl Turns {
    /// What is next; `is_due` says whether a deadline has come, and is asked only between turns.
    pub fn next(&mut self, is_due: impl Fn() -> bool) -> Step {
        loop {
            match &mut self.phase {
                Phase::Turn(_) => {
                    if let Some(step) = self.in_turn() {
                        return step;
                    }
                }
                Phase::Ticked => {
                    self.phase = Phase::Listens;
                    return Step::Look;
                }
                Phase::Listens => {
                    self.phase = Phase::Between;
                    return self.wait(is_due());
                }
                Phase::Between if self.due.is_some() || is_due() => {
                    if let Some(step) = self.before_tick() {
                        return step;
                    }
                }
                Phase::Between => return self.wait(false),
            }
        }
    }

    fn wait(&self, at_once: bool) -> Step {
        let questions = self.questions_in_a_row < QUESTIONS_MAX_IN_A_ROW;
        Step::Wait { questions, at_once: at_once || !questions || self.held.is_some() }
    }

    /// What had arrived is heard before a deadline is judged.
    fn before_tick(&mut self) -> Option<Step> {
        let due = self.due.get_or_insert_default();
        let heard = due.quiet == QUIET_LOOKS || due.turns == TURNS_BEFORE_TICK;
        if heard || planted::is(Plant::TickBeforeNews) {
            self.due = None;
            self.phase = Phase::Ticked;
            return Some(Step::Tick);
        }
        due.looked = !due.looked;
        if due.looked {
            return Some(Step::Look);
        }
        self.begin_turn();
        None
    }

    fn begin_turn(&mut self) {
        self.questions_in_a_row = 0;
        self.phase = Phase::Turn(Turn::default());
    }

    fn in_turn(&mut self) -> Option<Step> {
        let Phase::Turn(turn) = &mut self.phase else { return None };
        if self.held.is_some_and(|heard| heard >= DATAGRAMS_BEFORE_END_MAX) {
            self.held = None;
            return Some(Step::Release);
        }
        if SOURCES.get(turn.source) == Some(&Source::Places) && self.held.is_some() {
            turn.source += 1;
        }
        if let Some(source) = SOURCES.get(turn.source) {
            return Some(Step::Hear(*source));
        }
        turn.round += 1;
        turn.source = 0;
        turn.turn_heard |= turn.round_heard;
        let goes_on = turn.round < ROUNDS_PER_TURN || planted::is(Plant::Starvation);
        if !(std::mem::take(&mut turn.round_heard) && goes_on) {
            if let Some(due) = &mut self.due {
                due.turns += 1;
                due.quiet = if turn.turn_heard { 0 } else { due.quiet + 1 };
            }
            self.phase = Phase::Between;
        }
        None
    }

    /// What came of [`Step::Hear`].
    pub fn took(&mut self, taken: Taken) {
        let Phase::Turn(turn) = &mut self.phase else { return };
        let source = SOURCES.get(turn.source);
        turn.source += 1;
        turn.round_heard |= taken != Taken::Nothing;
        match (taken, &mut self.held) {
            (Taken::End, _) => self.hold(),
            (Taken::Nothing, Some(heard)) if source == Some(&Source::Datagrams) => {
                *heard = DATAGRAMS_BEFORE_END_MAX;
            }
            (Taken::News, Some(heard)) if source == Some(&Source::Datagrams) => *heard += 1,
            _ => {}
        }
    }

    /// What ended [`Step::Wait`].
    pub fn woken(&mut self, by: Woken) {
        match by {
            Woken::Question => self.questions_in_a_row += 1,
            Woken::Other => self.begin_turn(),
            Woken::End => {
                self.hold();
                self.begin_turn();
            }
        }
    }

    fn hold(&mut self) {
        let heard =
            if planted::is(Plant::EndBeforeDatagrams) { DATAGRAMS_BEFORE_END_MAX } else { 0 };
        self.held = Some(heard);
    }
}

#[cfg(test)]
mod tests {
    use duende_core::{restart::Exit, wire::link::Address};

    use super::*;
    use crate::backend::Place;

    /// The steps up to and with the first that is not [`Step::Hear`], where each source brings this.
    fn until(turns: &mut Turns, is_due: bool, brings: impl Fn(Source) -> Taken) -> (u32, Step) {
        let mut heard = 0;
        loop {
            match turns.next(|| is_due) {
                Step::Hear(source) => {
                    let taken = brings(source);
                    heard += u32::from(taken != Taken::Nothing);
                    turns.took(taken);
                }
                step => return (heard, step),
            }
        }
    }

    const NOBODY: fn(Source) -> Taken = |_| Taken::Nothing;
    const WAIT: Step = Step::Wait { questions: true, at_once: false };

    #[test]
    fn a_quiet_deadline_is_judged_after_three_looks() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(|| false), WAIT);
        turns.woken(Woken::Other);
        for _ in 0..3 {
            assert_eq!(until(&mut turns, true, NOBODY), (0, Step::Look));
        }
        assert_eq!(until(&mut turns, true, NOBODY), (0, Step::Tick));
        // Another one is due already: who asks comes first.
        assert_eq!(turns.next(|| true), Step::Look);
        assert_eq!(turns.next(|| true), Step::Wait { questions: true, at_once: true });
        turns.woken(Woken::Question);
        assert_eq!(turns.next(|| true), Step::Look);
    }

    #[test]
    fn a_flood_delays_a_deadline_by_so_many_turns() {
        let flood = |source| if source == Source::Links { Taken::News } else { Taken::Nothing };
        let mut turns = Turns::default();
        let mut events = 0;
        loop {
            let (heard, step) = until(&mut turns, true, flood);
            events += u64::from(heard);
            match step {
                Step::Look => {}
                step => break assert_eq!(step, Step::Tick),
            }
        }
        assert_eq!(events, u64::from(TURNS_BEFORE_TICK * ROUNDS_PER_TURN));
        assert!(events <= TICK_WAIT_MAX);
    }

    #[test]
    fn questions_without_end_let_a_turn_of_news_come() {
        let mut turns = Turns::default();
        for _ in 0..QUESTIONS_MAX_IN_A_ROW {
            assert_eq!(turns.next(|| false), WAIT);
            turns.woken(Woken::Question);
        }
        assert_eq!(turns.next(|| false), Step::Wait { questions: false, at_once: true });
        turns.woken(Woken::Other);
        assert_eq!(turns.next(|| false), Step::Hear(Source::Places));
    }

    #[test]
    fn an_end_waits_for_the_datagrams_that_had_arrived_and_for_no_more() {
        let mut turns = Turns::default();
        turns.woken(Woken::End);
        assert_eq!(until(&mut turns, false, NOBODY), (0, Step::Release));
        assert_eq!(until(&mut turns, false, NOBODY), (0, WAIT));

        let flood = |source| if source == Source::Datagrams { Taken::News } else { Taken::Nothing };
        turns.woken(Woken::End);
        let mut events = 0;
        loop {
            let (heard, step) = until(&mut turns, false, flood);
            events += heard;
            match step {
                Step::Release => break,
                // Whoever asks is heard meanwhile, and nobody waits for long.
                step => assert_eq!(step, Step::Wait { questions: true, at_once: true }),
            }
            turns.woken(Woken::Other);
        }
        assert_eq!(events, DATAGRAMS_BEFORE_END_MAX);
    }

    /// What is promised, in numbers.
    #[test]
    fn nobody_waits_for_more_events_than_are_promised() {
        assert_eq!((NEWS_WAIT_MAX, TICK_WAIT_MAX, QUESTION_WAIT_MAX), (26, 4_386, 4_644));
        let flood = |_| Taken::News;
        let mut turns = Turns::default();
        turns.woken(Woken::Other);
        let (heard, step) = until(&mut turns, false, flood);
        assert_eq!((u64::from(heard) + 1, step), (EVENTS_PER_TURN, WAIT));
    }

    #[test]
    fn an_end_in_a_turn_is_held_and_its_source_waits() {
        let end = News::Exited { exit: Exit::Code(0), reason: String::new() };
        let main = News::MainEnded { how: String::new() };
        let at = Address::of(0, 1);
        let lost = Heard::Place(Place::Native, PlaceNews::Lost { how: String::new(), open: None });
        for (heard, ends) in [
            (Heard::Of(at, end), true),
            (Heard::Of(at, main), true),
            (lost, true),
            (Heard::Place(Place::Native, PlaceNews::Lives), false),
            (Heard::Of(at, News::Started { pid: None }), false),
        ] {
            assert_eq!(is_end(&heard), ends, "{heard:?}");
        }
        let mut turns = Turns::default();
        turns.woken(Woken::Other);
        assert_eq!(turns.next(|| false), Step::Hear(Source::Places));
        turns.took(Taken::End);
        let mut heard = Vec::new();
        let released = loop {
            match turns.next(|| false) {
                Step::Hear(source) => {
                    heard.push(source);
                    turns.took(Taken::Nothing);
                }
                step => break step,
            }
        };
        assert_eq!(released, Step::Release);
        assert!(
            heard.contains(&Source::Datagrams) && !heard.contains(&Source::Places),
            "{heard:?}"
        );
    }
}
