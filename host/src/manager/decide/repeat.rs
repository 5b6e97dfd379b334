//! Notices that repeat themselves: told at once, and then once in a minute with how often.
//!
//! A source that can't be read is tried again and again, and a program that is restarted says again what it
//! said: each time would bury the rest of the log. Rules:
//! 1. The first of a text is told at once. What comes of it within [`PERIOD`] is counted, and told in one
//!    line at the end of that time (`tests::each_is_told_or_counted_and_none_twice_a_minute`).
//! 2. Nothing is lost: what was told and what was counted is all that came, also at the end of the fleet
//!    and where more texts repeat than are remembered, [`TOLD_MAX`].
//! 3. Events are no notices. Each of them is recorded.

use std::{collections::VecDeque, time::Duration};

use duende_core::{time::Instant, wire::link::LogLevel};

/// How long the same text is counted.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// Most texts that are remembered; of more the oldest are told.
const TOLD_MAX: usize = 256;

/// To whom something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The fleet's log, and who watches it.
    Fleet,
    /// The daemon's own log.
    Daemon,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// A sentence; the same one is the same remark.
    Sentence(String),
    /// So many lines of output that were lost.
    LostLines(u64),
}

impl Words {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sentence(one), Self::Sentence(other)) => one == other,
            (Self::LostLines(_), Self::LostLines(_)) => true,
            (Self::Sentence(_) | Self::LostLines(_), _) => false,
        }
    }

    /// How much one more of it adds.
    const fn amount(&self) -> u64 {
        match self {
            Self::Sentence(_) => 1,
            Self::LostLines(lines) => *lines,
        }
    }

    /// In words; `again`: that so much more of it came.
    pub(super) fn text(&self, again: Option<u64>) -> String {
        match (self, again) {
            (Self::Sentence(text), None) => text.clone(),
            (Self::Sentence(text), Some(1)) => format!("{text} (once more within a minute)"),
            (Self::Sentence(text), Some(more)) => {
                format!("{text} ({more} times more within a minute)")
            }
            (Self::LostLines(lines), again) => {
                let lines = again.unwrap_or(*lines);
                let were = if lines == 1 { "line of output" } else { "lines of output" };
                format!("{lines} {were} could not be written to its log")
            }
        }
    }
}

/// Something to say of a daemon that may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) slot: u32,
    pub(super) to: To,
    pub(super) level: LogLevel,
    pub(super) words: Words,
}

impl Remark {
    fn is_same(&self, other: &Self) -> bool {
        self.slot == other.slot && self.to == other.to && self.words.is_same(&other.words)
    }
}

#[derive(Debug)]
struct Told {
    remark: Remark,
    since: Instant,
    more: u64,
}

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// The oldest first.
    told: VecDeque<Told>,
}

/// Something to tell: what, and how much more of it came since it was told.
pub(super) type ToTell = (Remark, Option<u64>);

impl Repeats {
    /// Takes a remark, and gives what is to be told now.
    pub(super) fn take(&mut self, now: Instant, remark: Remark) -> Vec<ToTell> {
        let mut due = self.due(now);
        if let Some(told) = self.told.iter_mut().find(|told| told.remark.is_same(&remark)) {
            told.more = told.more.saturating_add(remark.words.amount());
            return due;
        }
        if self.told.len() == TOLD_MAX {
            due.extend(self.told.pop_front().and_then(Told::again));
        }
        self.told.push_back(Told { remark: remark.clone(), since: now, more: 0 });
        due.push((remark, None));
        due
    }

    /// What was counted for long enough. What did not come again is forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ToTell> {
        let mut due = Vec::new();
        while let Some(first) = self.told.front() {
            if now.saturating_since(first.since) < PERIOD {
                break;
            }
            let Some(told) = self.told.pop_front() else { break };
            let Some(again) = told.again() else { continue };
            // It may go on: what comes within the next minute is counted, too.
            self.told.push_back(Told { remark: again.0.clone(), since: now, more: 0 });
            due.push(again);
        }
        due
    }

    /// All that was counted, at the end.
    pub(super) fn rest(&mut self) -> Vec<ToTell> {
        self.told.drain(..).filter_map(Told::again).collect()
    }

    /// When something is due; none: nothing was counted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let counted = self.told.iter().find(|told| told.more > 0)?;
        Some(counted.since.saturating_add(PERIOD))
    }
}

impl Told {
    fn again(self) -> Option<ToTell> {
        (self.more > 0).then_some((self.remark, Some(self.more)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn remark(slot: u32, text: &str) -> Remark {
        let words = Words::Sentence(text.to_owned());
        Remark { slot, to: To::Fleet, level: LogLevel::Warn, words }
    }

    fn seconds(seconds: u64) -> Instant {
        Instant::from_ns(seconds * 1_000_000_000)
    }

    fn texts(told: Vec<ToTell>) -> Vec<String> {
        told.into_iter().map(|(remark, again)| remark.words.text(again)).collect()
    }

    #[test]
    fn the_same_is_told_once_a_minute_with_a_count() {
        let mut repeats = Repeats::default();
        let mut take = |at, slot, text| texts(repeats.take(seconds(at), remark(slot, text)));
        assert_eq!(take(0, 1, "denied"), ["denied"]);
        assert_eq!(take(1, 1, "denied"), [""; 0]);
        assert_eq!(take(2, 1, "gone"), ["gone"]);
        assert_eq!(take(3, 2, "denied"), ["denied"]);
        assert_eq!(take(59, 1, "denied"), [""; 0]);
        assert_eq!(repeats.deadline(), Some(seconds(60)));
        assert_eq!(texts(repeats.due(seconds(59))), [""; 0]);
        assert_eq!(texts(repeats.due(seconds(60))), ["denied (2 times more within a minute)"]);
        assert_eq!(texts(repeats.take(seconds(61), remark(1, "denied"))), [""; 0]);
        assert_eq!(texts(repeats.rest()), ["denied (once more within a minute)"]);
        assert_eq!(repeats.deadline(), None);
        // After a minute of silence it is told at once again.
        assert_eq!(texts(repeats.take(seconds(200), remark(1, "denied"))), ["denied"]);
        assert_eq!(texts(repeats.take(seconds(260), remark(1, "denied"))), ["denied"]);
    }

    #[test]
    fn lost_lines_are_added_up() {
        let mut repeats = Repeats::default();
        let lost = |lines| Remark { words: Words::LostLines(lines), ..remark(1, "") };
        let told = texts(repeats.take(seconds(0), lost(3)));
        assert_eq!(told, ["3 lines of output could not be written to its log"]);
        assert!(repeats.take(seconds(1), lost(4)).is_empty());
        assert!(repeats.take(seconds(2), lost(5)).is_empty());
        let told = texts(repeats.due(seconds(60)));
        assert_eq!(told, ["9 lines of output could not be written to its log"]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Take(u32, u32),
        Due,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (1_u64..50).prop_map(Step::Wait),
            6 => (0_u32..3, 0_u32..400).prop_map(|(slot, text)| Step::Take(slot, text)),
            6 => (0_u32..3, 0_u32..3).prop_map(|(slot, text)| Step::Take(slot, text)),
            1 => Just(Step::Due),
        ]
    }

    proptest! {
        #[test]
        fn each_is_told_or_counted_and_none_twice_a_minute(
            steps in proptest::collection::vec(step(), 0..600),
        ) {
            let mut repeats = Repeats::default();
            let (mut now, mut is_full) = (0, false);
            let (mut came, mut told) = (0_u64, 0_u64);
            let mut last: HashMap<(u32, String), u64> = HashMap::new();
            let mut tell = |now: u64, few: bool, list: Vec<ToTell>| {
                for (remark, again) in list {
                    told += again.unwrap_or(1);
                    let key = (remark.slot, remark.words.text(None));
                    let before = last.insert(key, now);
                    if let Some(before) = before.filter(|_| few) {
                        assert!(now - before >= 60, "told at {before} s and at {now} s");
                    }
                }
            };
            for step in steps {
                let mut list = Vec::new();
                match step {
                    Step::Wait(time) => now += time,
                    Step::Due => list = repeats.due(seconds(now)),
                    Step::Take(slot, text) => {
                        came += 1;
                        list = repeats.take(seconds(now), remark(slot, &text.to_string()));
                    }
                }
                prop_assert!(repeats.told.len() <= TOLD_MAX);
                // Those that had to go for others may come again at once.
                is_full |= repeats.told.len() == TOLD_MAX;
                tell(now, !is_full, list);
            }
            tell(now, false, repeats.rest());
            prop_assert_eq!(told, came);
            prop_assert_eq!(repeats.deadline(), None);
        }
    }
}
