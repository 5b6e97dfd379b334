//! A log that is written and rotated, its reader, and who consumes what that gives.
//!
//! What must hold: see [`World::judge`].

use std::{cell::RefCell, collections::BTreeMap, collections::VecDeque, rc::Rc, time::Duration};

use duende::source::{
    Batch, Item, Notice, Notices, StartAt,
    follow::{Follow, OPEN_MAX, Settings},
};
use duende_history::{Draw, Fault};

use crate::{
    disk::{Disk, Held, Step, View},
    scheme::{SCHEMES, Scheme},
};

const ROTATE_WAIT_MS: u64 = 5_000;
/// More files than one history has at a time.
const FILES_MAX: usize = 20;
/// How long a writer goes on in the old file at most.
const LATE_MS: u64 = 4_000;

/// Whom a line belongs to.
#[derive(Clone, Debug)]
struct Line {
    text: String,
    /// How often it was consumed.
    consumed: usize,
    /// Nobody could have read it any more.
    is_lost: bool,
    /// It has its newline.
    is_whole: bool,
}

pub(crate) struct World {
    pub(crate) told: bool,
    scheme: Scheme,
    keep: usize,
    open_max: usize,
    disk: Rc<RefCell<Disk>>,
    reader: Option<Follow<View>>,
    notices: Notices,
    now_ms: u64,
    lines: Vec<Line>,
    by_text: BTreeMap<String, usize>,
    /// Given and not consumed.
    pending: VecDeque<Item>,
    committed: Option<Vec<u8>>,
    turn: usize,
    /// When the writer left a file, by the number of late writers.
    left_at_ms: u64,
    /// Half a line, and in what file it stands.
    half: Option<(usize, Held)>,
    gaps: usize,
    truncations: usize,
    /// The last consumed line of each file, for the order.
    pub(crate) steps: u64,
    hostile: bool,
    clock_lies: bool,
}

impl World {
    pub(crate) fn new(word: u64) -> Self {
        let mut draw = Draw::new(word);
        let scheme = SCHEMES[draw.below(SCHEMES.len())];
        let keep = 2 + draw.below(5);
        let mut disk = Disk::new(scheme.followed());
        scheme.prepare(&mut disk);
        let hostile = draw.once_in(2);
        if draw.once_in(2) {
            disk.interference = Some(Draw::new(draw.word()));
        }
        // Few, so that some wait. A copy that waits until its original is closed is known by its last lines alone,
        // which here may be one long line.
        let open_max =
            if draw.once_in(4) && !scheme.has_copies() { 1 + draw.below(3) } else { OPEN_MAX };
        let mut world = Self {
            told: false,
            scheme,
            keep,
            open_max,
            disk: Rc::new(RefCell::new(disk)),
            reader: None,
            notices: Notices::default(),
            now_ms: 0,
            lines: Vec::new(),
            by_text: BTreeMap::new(),
            pending: VecDeque::new(),
            committed: None,
            turn: 0,
            left_at_ms: 0,
            half: None,
            gaps: 0,
            truncations: 0,
            steps: 0,
            hostile,
            clock_lies: false,
        };
        world.start();
        world
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms)
    }

    pub(crate) fn say(&self, text: &str) {
        if self.told {
            println!("{:>7} {text}", self.now_ms);
        }
    }

    pub(crate) fn introduce(&self) {
        self.disk.borrow_mut().is_told = self.told;
        self.say(&format!("{:?}, {} kept", self.scheme, self.keep));
    }

    fn start(&mut self) {
        let settings = Settings {
            start: StartAt::Beginning,
            rotate_wait: Duration::from_millis(ROTATE_WAIT_MS),
            open_max: self.open_max,
        };
        let path = self.scheme.followed();
        let now = self.now();
        let view = View(self.disk.clone());
        self.disk.borrow_mut().looks += 1;
        let opened =
            Follow::open(view, path, self.committed.as_deref(), settings, now, &mut self.notices);
        if let Ok(mut reader) = opened {
            if self.committed.is_none() {
                self.committed = Some(reader.position().encode());
            }
            self.reader = Some(reader);
            self.disk.borrow_mut().has_looked();
        }
    }

    /// One step of somebody.
    pub(crate) fn act(&mut self, word: u64) -> Result<(), Fault> {
        self.steps += 1;
        let mut draw = Draw::new(word);
        match draw.below(20) {
            0..=4 => self.write(&mut draw),
            5..=6 => self.rotate(&mut draw),
            7..=9 => self.play_script(1 + draw.below(3)),
            10..=12 => self.fill(&mut draw)?,
            13..=14 => self.consume(&mut draw)?,
            15 => self.look(),
            16 => {
                let step = if draw.once_in(3) { draw.below(8_000) } else { draw.below(300) };
                self.pass(u64::try_from(step).unwrap_or(0));
            }
            17 => self.write_late(&mut draw),
            18 => self.kill(),
            _ => self.meddle(&mut draw),
        }
        self.mark_lost();
        Ok(())
    }

    fn pass(&mut self, step_ms: u64) {
        // Nobody takes longer for a line than a file is waited for.
        self.finish_half();
        self.now_ms += step_ms;
        let mut disk = self.disk.borrow_mut();
        disk.wall_ns += i64::try_from(step_ms).unwrap_or(0) * 1_000_000;
        if self.now_ms.saturating_sub(self.left_at_ms) > LATE_MS {
            let half = self.half.as_ref().map(|(_, held)| held.clone());
            let is_half = |held: &Held| half.as_ref().is_some_and(|half| Rc::ptr_eq(half, held));
            disk.late.retain(|held| is_half(held));
        }
        drop(disk);
        self.say(&format!("{step_ms} ms pass"));
    }

    fn new_line(&mut self, draw: &mut Draw) -> usize {
        let number = self.lines.len();
        let length = if draw.once_in(10) { draw.below(1_500) } else { draw.below(60) };
        let text = format!("{number}:{}", format!("{number}.").repeat(1 + length / 4));
        self.by_text.insert(text.clone(), number);
        self.lines.push(Line { text, consumed: 0, is_lost: false, is_whole: false });
        number
    }

    fn write(&mut self, draw: &mut Draw) {
        let Some(held) = self.disk.borrow().writer.clone() else { return };
        // What is read of a short file after it was copied, and before it is emptied, can't be told from what
        // the copy holds if the reader is killed then.
        let is_copied = matches!(self.disk.borrow().script.front(), Some(Step::Truncate(_)));
        if is_copied && held.borrow().content.len() < 1_024 {
            return;
        }
        self.write_to(&held, draw);
    }

    fn write_late(&mut self, draw: &mut Draw) {
        let held = self.disk.borrow().late.last().cloned();
        // What is written to a file after it was copied makes two logs of one.
        if let Some(held) = held.filter(|_| self.scheme != Scheme::CopyRemove) {
            self.say("late:");
            self.write_to(&held, draw);
        }
    }

    /// Whole lines, and perhaps a half, or the rest of one.
    fn write_to(&mut self, held: &Held, draw: &mut Draw) {
        self.finish_half();
        for _ in 0..1 + draw.below(4) {
            let number = self.new_line(draw);
            self.lines[number].is_whole = true;
            let text = format!("{}\n", self.lines[number].text);
            self.disk.borrow_mut().append(held, text.as_bytes(), Some(number));
            self.say(&format!("line {number} into {}", held.borrow().number));
        }
        // A writer under copytruncate does not know that its half was cut off.
        if draw.once_in(6) && self.scheme != Scheme::CopyTruncate {
            let number = self.new_line(draw);
            let text = self.lines[number].text.clone();
            let half = &text[..text.len() / 2];
            self.disk.borrow_mut().append(held, half.as_bytes(), None);
            self.half = Some((number, held.clone()));
            self.disk.borrow_mut().is_half = true;
            self.say(&format!("half of line {number} into {}", held.borrow().number));
        }
    }

    /// It is finished where it was begun.
    fn finish_half(&mut self) {
        let Some((number, half)) = self.take_half() else { return };
        let text = &self.lines[number].text;
        let rest = format!("{}\n", &text[text.len() / 2..]);
        self.lines[number].is_whole = true;
        self.disk.borrow_mut().append(&half, rest.as_bytes(), Some(number));
        self.say(&format!("the rest of line {number} into {}", half.borrow().number));
    }

    fn take_half(&mut self) -> Option<(usize, Held)> {
        self.disk.borrow_mut().is_half = false;
        self.half.take()
    }

    fn rotate(&mut self, draw: &mut Draw) {
        if !self.disk.borrow().script.is_empty() {
            return self.play_script(100);
        }
        self.turn += 1;
        let steps = self.scheme.rotate(&self.disk.borrow(), self.turn, self.keep, draw);
        self.disk.borrow_mut().script.extend(steps);
        if draw.once_in(2) {
            self.play_script(100);
        }
    }

    fn play_script(&mut self, steps: usize) {
        for _ in 0..steps {
            let Some(step) = self.disk.borrow_mut().script.pop_front() else { break };
            self.say(&format!("{step:?}"));
            if matches!(step, Step::Reopen) {
                self.left_at_ms = self.now_ms;
            }
            self.disk.borrow_mut().step(step);
            self.mark_lost();
        }
    }

    fn fill(&mut self, draw: &mut Draw) -> Result<(), Fault> {
        let (items, bytes) = (1 + draw.below(20), draw.below(5_000));
        self.fill_with(items, bytes).map(drop)
    }

    fn fill_with(&mut self, items: usize, bytes: usize) -> Result<usize, Fault> {
        let now = self.now();
        let Some(reader) = &mut self.reader else { return Ok(0) };
        let mut batch = Batch::new(items, bytes);
        self.disk.borrow_mut().looks += 1;
        reader.fill(now, &mut batch, &mut self.notices);
        self.disk.borrow_mut().has_looked();
        let given = batch.into_items();
        if given.len() > items {
            return Err(format!("{} items instead of {items}", given.len()));
        }
        self.hear();
        let count = given.len();
        for item in given {
            self.say(&format!("gives {}", label(&item.payload)));
            self.pending.push_back(item);
        }
        self.mark_lost();
        Ok(count)
    }

    fn look(&mut self) {
        let now = self.now();
        if let Some(reader) = &mut self.reader {
            self.disk.borrow_mut().looks += 1;
            reader.look(now, &mut self.notices);
            self.disk.borrow_mut().has_looked();
        }
        self.hear();
    }

    fn hear(&mut self) {
        for notice in self.notices.take() {
            self.say(&format!("says: {notice}"));
            match notice {
                Notice::Gap(_) => self.gaps += 1,
                Notice::Truncated { .. } => self.truncations += 1,
                _ => {}
            }
        }
    }

    fn consume(&mut self, draw: &mut Draw) -> Result<(), Fault> {
        let count = draw.below(self.pending.len() + 1);
        self.consume_first(count)
    }

    fn consume_first(&mut self, count: usize) -> Result<(), Fault> {
        for _ in 0..count {
            let Some(item) = self.pending.pop_front() else { break };
            let text = String::from_utf8_lossy(&item.payload).into_owned();
            self.committed = Some(item.position.encode());
            self.count(&text)?;
        }
        if count > 0 {
            self.say(&format!("{count} consumed"));
        }
        Ok(())
    }

    fn count(&mut self, text: &str) -> Result<(), Fault> {
        if let Some(number) = self.by_text.get(text) {
            let line = &mut self.lines[*number];
            line.consumed += 1;
            if line.consumed > 1 {
                return Err(format!("line {number} was consumed twice"));
            }
            return Ok(());
        }
        // The half of a line that is not finished yet, or was finished late.
        let is_part = |line: &&Line| {
            let (first, second) = line.text.split_at(line.text.len() / 2);
            text == first || text == second
        };
        // A copy that was made in the middle of a line has no more of it.
        let is_cut_off = |line: &&mut Line| line.is_lost && line.text.starts_with(text);
        if let Some(line) = self.lines.iter_mut().find(is_cut_off) {
            line.consumed += 1;
            return Ok(());
        }
        if self.lines.iter().any(|line| is_part(&line)) {
            return Err(format!("a part of a line was given: {}", label(text.as_bytes())));
        }
        Err(format!("what was never written was given: {}", label(text.as_bytes())))
    }

    fn kill(&mut self) {
        if self.reader.take().is_some() {
            self.say("the reader is killed");
            self.pending.clear();
            // What comes and goes while nobody looks is told to be missing.
            self.disk.borrow_mut().looks += 1;
            self.disk.borrow_mut().has_looked();
            self.notices.take();
            self.mark_lost();
        } else {
            self.say("the reader is started");
            self.start();
            self.hear();
        }
    }

    /// Copies, touches, and a clock that is put back.
    fn meddle(&mut self, draw: &mut Draw) {
        if !self.hostile {
            return;
        }
        let mut disk = self.disk.borrow_mut();
        let paths = disk.paths();
        if paths.is_empty() {
            return;
        }
        let path = paths[draw.below(paths.len())].clone();
        let step = match draw.below(3) {
            0 => Step::Touch(path),
            // One line may be a greeting that each file begins with.
            1 if disk.find(&path).is_none_or(|held| held.borrow().lines.len() < 2) => return,
            1 => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let copy = path.with_file_name(format!("{name}.bak"));
                Step::Copy(path, copy)
            }
            // Where names do not tell the order, times alone do.
            _ if self.clock_lies || !self.scheme.has_order() => return,
            _ => {
                disk.wall_ns -= 3_600_000_000_000;
                drop(disk);
                self.clock_lies = true;
                return self.say("the clock goes back an hour");
            }
        };
        drop(disk);
        self.say(&format!("{step:?}"));
        self.disk.borrow_mut().step(step);
    }

    /// Finds the lines that nobody could read any more.
    fn mark_lost(&mut self) {
        let disk = self.disk.borrow();
        let mut there = vec![false; self.lines.len()];
        for line in disk.named_lines() {
            there[line] = true;
        }
        drop(disk);
        if let Some(reader) = &self.reader {
            for (_, open) in reader.open_files() {
                for line in open.lines() {
                    there[line] = true;
                }
            }
            for item in &self.pending {
                let text = String::from_utf8_lossy(&item.payload);
                if let Some(number) = self.by_text.get(text.as_ref()) {
                    there[*number] = true;
                }
            }
        }
        for (line, is_there) in self.lines.iter_mut().zip(there) {
            if line.is_whole && !is_there && line.consumed == 0 {
                line.is_lost = true;
            }
        }
    }

    /// Lets everybody come to an end: then each line was consumed once, or it was lost, and that was told.
    pub(crate) fn judge(&mut self) -> Result<(), Fault> {
        self.disk.borrow_mut().interference = None;
        self.say("everybody comes to an end");
        self.play_script(100);
        self.finish_half();
        self.mark_lost();
        if self.reader.is_none() {
            self.start();
            self.hear();
        }
        // Each file that is read to its end is waited for, and others may wait for that.
        let files_max = if self.open_max < OPEN_MAX { FILES_MAX } else { 1 };
        for _ in 0..2 * (1 + files_max) {
            while self.fill_with(50, 100_000)? > 0 {
                self.consume_first(self.pending.len())?;
            }
            self.consume_first(self.pending.len())?;
            self.pass(ROTATE_WAIT_MS / 2);
        }
        let mut unseen = std::mem::take(&mut self.disk.borrow_mut().unseen);
        // What was emptied before any of it was consumed can't be known again in a copy.
        for lines in &self.disk.borrow().emptied {
            if lines.iter().all(|line| self.lines[*line].consumed == 0) {
                unseen.extend(lines);
            }
        }
        let missing: Vec<_> = self
            .lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.is_whole && line.consumed == 0)
            .filter(|(number, _)| !unseen.contains(number))
            .collect();
        // Where the file that was read last is gone, times alone tell what follows; here they lied.
        if self.clock_lies && self.disk.borrow().destroyed > 0 {
            return Ok(());
        }
        if let Some((number, _)) = missing.iter().find(|(_, line)| !line.is_lost) {
            return Err(format!("line {number} was never given, and it is there"));
        }
        if !missing.is_empty() && self.gaps + self.truncations == 0 {
            let numbers: Vec<_> = missing.iter().map(|(number, _)| number).collect();
            return Err(format!("lines {numbers:?} are lost, and nothing was said"));
        }
        if self.gaps > 0 && self.disk.borrow().destroyed == 0 {
            return Err("a gap was told, and nothing is lost".to_owned());
        }
        Ok(())
    }
}

fn label(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    text.chars().take(20).collect()
}
