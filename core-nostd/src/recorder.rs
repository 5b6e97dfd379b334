//! The flight recorder: the last events before something went wrong.
//!
//! It records all the time and costs one write into a ring; when a machine halts, its owner dumps the
//! ring beside the [`Epitaph`].
//!
//! Rules:
//! 1. The last events are kept, as many as the storage has places. What gave way is counted.
//! 2. A dump trusts nothing but the places themselves: not the cursors, not the order, not the
//!    clock. It visits each place once, so it ends whatever is broken, and changes nothing, so it can
//!    be repeated.
//! 3. The epitaph comes first, then the events, the **newest first**: what a full writer cuts off is
//!    the oldest.
//! 4. One event can't ruin the dump: its text is cut at [`EVENT_BYTES_MAX`], stays on one line, and
//!    one that fails to print itself is named by its number. Only a writer that fails ends it.

use core::fmt::{self, Display, Write};

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::ring::Ring;
use crate::time::Instant;

/// Longest text of an event in a dump, in bytes. What is longer is cut at the end of a character.
pub const EVENT_BYTES_MAX: usize = 128;

/// An event, its number and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record<E> {
    /// Counts the events of this recorder, from 1.
    pub sequence: u64,
    /// When it was recorded.
    pub at: Instant,
    /// What happened.
    pub event: E,
}

/// A place for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<E>(Option<Record<E>>);

impl<E> Slot<E> {
    /// Without an event.
    pub const EMPTY: Self = Self(None);
}

impl<E> Default for Slot<E> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// What a dump wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// Events that were written, whole or cut.
    pub events: usize,
    /// Whether everything was written; otherwise the writer failed before the end.
    pub complete: bool,
}

/// The last events.
///
/// ```
/// use duende_core::epitaph::Epitaph;
/// use duende_core::recorder::{Clip, Recorder, Slot};
/// use duende_core::time::Instant;
///
/// let mut recorder = Recorder::new([Slot::EMPTY; 2]);
/// for (at_ns, event) in [(10, "start"), (20, "ready"), (30, "crash")] {
///     recorder.record(Instant::from_ns(at_ns), event);
/// }
///
/// let mut memory = [0; 256];
/// let mut text = Clip::new(&mut memory);
/// recorder.dump(Some(&Epitaph::new(format_args!("slot 3 is used twice"))), &mut text);
/// assert_eq!(text.as_str(), "halt: slot 3 is used twice\n#3 30 crash\n#2 20 ready\n");
/// ```
#[derive(Clone, Debug)]
pub struct Recorder<E, S> {
    ring: Ring<Slot<E>, S>,
    /// The number of the last event.
    sequence: u64,
}

impl<E, S: AsRef<[Slot<E>]> + AsMut<[Slot<E>]>> Recorder<E, S> {
    /// Without events. Keeps as many as `storage` has places; what lies there is forgotten.
    pub fn new(mut storage: S) -> Self {
        storage.as_mut().fill_with(|| Slot::EMPTY);
        Self { ring: Ring::new(storage), sequence: 0 }
    }

    /// Keeps an event. Its number.
    pub fn record(&mut self, at: Instant, event: E) -> u64 {
        self.sequence = self.sequence.saturating_add(1);
        let sequence = self.sequence;
        // What gives way is seen in the numbers: they are counted without a gap.
        drop(self.ring.push(Slot(Some(Record { sequence, at, event }))));
        sequence
    }

    /// How many events are kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events gave way to younger ones.
    #[must_use]
    pub fn displaced(&self) -> u64 {
        self.sequence.saturating_sub(u64::try_from(self.len()).unwrap_or(u64::MAX))
    }

    /// The kept events, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record<E>> {
        self.ring.iter().filter_map(|slot| slot.0.as_ref())
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.ring.check_invariants()?;
        let filled = self.ring.slots().iter().filter(|slot| slot.0.is_some()).count();
        let len = self.len();
        invariant!(filled == len, "recorder keeps {len}, has {filled}");
        let last = self.sequence;
        let mut expected = self.displaced();
        for Record { sequence, .. } in self.iter() {
            expected = expected.saturating_add(1);
            invariant!(*sequence == expected, "recorder has {sequence} in place of {expected}");
        }
        invariant!(expected == last || len == 0, "recorder ends at {expected}, not {last}");
        Ok(())
    }
}

impl<E: Display, S: AsRef<[Slot<E>]> + AsMut<[Slot<E>]>> Recorder<E, S> {
    /// Writes the epitaph, if there is one, and the kept events, the newest first: a line each, of
    /// number, nanoseconds and text.
    pub fn dump(&self, epitaph: Option<&Epitaph>, out: &mut impl Write) -> Dumped {
        let mut dumped = Dumped { events: 0, complete: false };
        if let Some(epitaph) = epitaph
            && writeln!(out, "halt: {epitaph}").is_err()
        {
            return dumped;
        }
        let slots = self.ring.slots();
        let number = |slot: &Slot<E>| slot.0.as_ref().map(|record| record.sequence);
        // The newest place and those before it, then the rest from the end of the storage.
        let newest = (0..slots.len()).max_by_key(|index| slots.get(*index).map(number));
        let behind = usize::from(!planted::is(Plant::RecorderDump));
        let end = newest.map_or(0, |newest| newest.saturating_add(behind));
        let (before, behind) = slots.split_at_checked(end).unwrap_or((slots, &[]));
        let places = before.iter().rev().chain(behind.iter().rev());
        for record in places.filter_map(|slot| slot.0.as_ref()) {
            if write_record(record, out).is_err() {
                return dumped;
            }
            dumped.events = dumped.events.saturating_add(1);
        }
        dumped.complete = true;
        dumped
    }
}

/// Fails only if the writer does.
fn write_record<E: Display>(record: &Record<E>, out: &mut impl Write) -> fmt::Result {
    write!(out, "#{} {} ", record.sequence, record.at.as_ns())?;
    let mut line = Line { out, bytes_left: EVENT_BYTES_MAX, failed: false };
    let printed = write!(line, "{}", record.event);
    if line.failed {
        return Err(fmt::Error);
    }
    out.write_str(if printed.is_ok() { "\n" } else { "(does not print)\n" })
}

/// Passes on what fits into one line.
struct Line<'a, W> {
    out: &'a mut W,
    bytes_left: usize,
    /// Whether it was the writer that failed, and not the event.
    failed: bool,
}

impl<W: Write> Write for Line<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(left) = self.bytes_left.checked_sub(character.len_utf8()) else {
                self.bytes_left = 0;
                break;
            };
            self.bytes_left = left;
            let shown = if character.is_control() { ' ' } else { character };
            if let Err(error) = self.out.write_char(shown) {
                self.failed = true;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Writes text into bytes until they are full, and then fails: a bounded writer for a dump.
#[derive(Debug)]
pub struct Clip<'a> {
    memory: &'a mut [u8],
    len: usize,
}

impl<'a> Clip<'a> {
    /// An empty text in `memory`.
    pub const fn new(memory: &'a mut [u8]) -> Self {
        Self { memory, len: 0 }
    }

    /// What was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only whole characters are written.
        self.memory.get(..self.len).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Write for Clip<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.memory.get_mut(self.len..).unwrap_or_default();
        let fits = text.floor_char_boundary(free.len().min(text.len()));
        for (place, byte) in free.iter_mut().zip(text.as_bytes().iter().take(fits)) {
            *place = *byte;
        }
        self.len = self.len.saturating_add(fits);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    type Heap = Recorder<u32, Vec<Slot<u32>>>;

    fn with(capacity: usize, events: u32) -> Heap {
        let mut recorder = Recorder::new(vec![Slot::EMPTY; capacity]);
        for event in 1..=events {
            // The clock stalls and steps back: numbers keep the order.
            recorder.record(Instant::from_ns(u64::from(event % 3)), event);
            assert_eq!(recorder.check_invariants(), Ok(()));
        }
        recorder
    }

    fn dump<E: Display, S: AsRef<[Slot<E>]> + AsMut<[Slot<E>]>>(
        recorder: &Recorder<E, S>,
        epitaph: Option<&Epitaph>,
        bytes: usize,
    ) -> (String, Dumped) {
        let mut memory = vec![0; bytes];
        let mut clip = Clip::new(&mut memory);
        let dumped = recorder.dump(epitaph, &mut clip);
        (clip.as_str().into(), dumped)
    }

    proptest! {
        #[test]
        fn the_last_events_are_dumped_newest_first(
            capacity in 0..6_usize, events in 0..20_u32, bytes in 0..200_usize, halted: bool,
        ) {
            let recorder = with(capacity, events);
            let kept = usize::try_from(events).unwrap().min(capacity);
            prop_assert_eq!((recorder.len(), recorder.is_empty()), (kept, kept == 0));
            prop_assert_eq!(recorder.displaced(), u64::from(events) - kept as u64);
            let first = events + 1 - u32::try_from(kept).unwrap();
            prop_assert!(recorder.iter().map(|record| record.event).eq(first..=events));

            let epitaph = halted.then(|| Epitaph::new(format_args!("broken")));
            let head = if halted { "halt: broken\n" } else { "" };
            let lines = (first..=events).rev().map(|n| format!("#{n} {} {n}\n", n % 3));
            let whole = [vec![head.into()], lines.collect::<Vec<_>>()].concat().concat();
            let (text, dumped) = dump(&recorder, epitaph.as_ref(), bytes);
            prop_assert_eq!(&text, &whole[..whole.len().min(bytes)]);
            prop_assert_eq!(dumped.complete, whole.len() <= bytes);
            let (body, heads) = (text.lines().count(), usize::from(halted));
            prop_assert!((dumped.events..=dumped.events + 1).contains(&body.saturating_sub(heads)));
        }

        /// Whatever lies in the cursors, the same text comes out; whatever lies in the places, each
        /// event is written once.
        #[test]
        fn a_broken_recorder_is_dumped(
            events in 0..12_u32,
            (next, len, sequence) in (any::<usize>(), any::<usize>(), any::<u64>()),
            numbers in proptest::collection::vec(proptest::option::of(any::<u64>()), 5),
        ) {
            let sound = with(5, events);
            let mut broken = sound.clone();
            broken.ring.spoil(next, len);
            broken.sequence = sequence;
            prop_assert_eq!(dump(&broken, None, 1_000), dump(&sound, None, 1_000));

            let place = |sequence| Record { sequence, at: Instant::MAX, event: 0 };
            let slots = numbers.iter().map(|n| Slot(n.map(place))).collect::<Vec<_>>();
            let mut broken = Recorder { ring: Ring::new(slots), sequence };
            broken.ring.spoil(next, len);
            let (text, dumped) = dump(&broken, None, 1_000);
            prop_assert!(dumped.complete);
            let mut written = text
                .lines()
                .map(|line| line[1..line.find(' ').unwrap()].parse().unwrap())
                .collect::<Vec<u64>>();
            let mut expected = numbers.into_iter().flatten().collect::<Vec<_>>();
            prop_assert_eq!(written.first(), expected.iter().max());
            written.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(written, expected);
            // And it records on.
            broken.record(Instant::ZERO, 1);
        }
    }

    struct Strange(&'static str, bool);

    impl Display for Strange {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            if self.1 { Ok(()) } else { Err(fmt::Error) }
        }
    }

    #[test]
    fn one_event_does_not_ruin_the_dump() {
        let mut recorder = Recorder::new([const { Slot::EMPTY }; 4]);
        let long: &'static str = String::leak("ü".repeat(EVENT_BYTES_MAX));
        for event in [
            Strange("first", true),
            Strange("half ", false),
            Strange("two\nlines\u{1b}", true),
            Strange(long, true),
        ] {
            recorder.record(Instant::MAX, event);
        }
        let (text, dumped) = dump(&recorder, None, 1_000);
        assert_eq!(dumped, Dumped { events: 4, complete: true });
        let cut = &long[..EVENT_BYTES_MAX];
        let max = u64::MAX;
        assert_eq!(
            text,
            format!(
                "#4 {max} {cut}\n#3 {max} two lines \n#2 {max} half (does not print)\n#1 {max} first\n"
            )
        );
    }

    #[test]
    fn a_clipped_text_ends_at_a_character() {
        let mut memory = [0; 4];
        let mut clip = Clip::new(&mut memory);
        assert!(clip.write_str("abü").is_ok());
        assert_eq!(clip.as_str(), "abü");
        let mut clip = Clip::new(&mut memory);
        assert!(clip.write_str("abcü").is_err());
        assert_eq!(clip.as_str(), "abc");
    }
}
