//! Text for people, written by a thread of its own: nobody who decides waits for a terminal, a pipe or
//! whoever should read it.
//!
//! Rules:
//! 1. At most [`WAITING_BYTES_MAX`] wait. What comes beyond that is dropped, and the number of lines
//!    is said once there is room again (`tests::what_nobody_reads_is_dropped_and_counted`).
//! 2. The end waits for the writer at most [`END_TIME`]. What was not written by then is in the log.
//! 3. If there can be no such thread, nothing is printed, and nothing else goes wrong.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Most bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// How long the end waits for what waits.
const END_TIME: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Queue {
    text: String,
    dropped_lines: u64,
    /// The writer is at it, outside of the lock.
    writing: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic is possible while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct Printer {
    shared: Option<Arc<Shared>>,
}

impl Printer {
    /// Whether anything is printed at all.
    pub(crate) const fn prints(&self) -> bool {
        self.shared.is_some()
    }

    /// A printer that prints nothing.
    pub(super) const fn none() -> Self {
        Self { shared: None }
    }

    /// A printer that writes to a descriptor of its own for the same file: a stream of the standard
    /// library would be locked as long as nobody reads, for everybody.
    pub(crate) fn to_fd(fd: impl AsFd, dropped_text: DroppedText) -> Self {
        let own = fd.as_fd().try_clone_to_owned();
        own.map_or_else(|_| Self::none(), |own| Self::to(File::from(own), dropped_text))
    }

    /// A printer that writes to `to`.
    fn to(to: impl Write + Send + 'static, dropped_text: DroppedText) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("printer".to_owned());
        match thread.spawn(move || write_all(&theirs, to, dropped_text)) {
            Ok(_) => Self { shared: Some(shared) },
            Err(_) => Self::none(),
        }
    }

    /// Prints whole lines, some time.
    pub(crate) fn print(&self, lines: &str) {
        let Some(shared) = self.shared.as_ref().filter(|_| !lines.is_empty()) else { return };
        let mut queue = shared.lock();
        if queue.text.len() + lines.len() > WAITING_BYTES_MAX {
            let count = lines.lines().count();
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            queue.dropped_lines = queue.dropped_lines.saturating_add(count);
            return;
        }
        queue.text.push_str(lines);
        shared.changed.notify_all();
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut queue = shared.lock();
        queue.closed = true;
        shared.changed.notify_all();
        // A writer that nobody reads from stays behind and goes with the process.
        let busy = |queue: &mut Queue| queue.writing || !queue.text.is_empty();
        let _ = shared.changed.wait_timeout_while(queue, END_TIME, busy);
    }
}

fn write_all(shared: &Shared, mut to: impl Write, dropped_text: DroppedText) {
    let mut queue = shared.lock();
    loop {
        if queue.text.is_empty() {
            if queue.closed {
                return;
            }
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let mut text = std::mem::take(&mut queue.text);
        let dropped = std::mem::take(&mut queue.dropped_lines);
        if dropped > 0 {
            text.push_str(&dropped_text(dropped));
        }
        queue.writing = true;
        drop(queue);
        // If nobody reads it, the log still has it.
        let written: io::Result<()> = to.write_all(text.as_bytes()).and_then(|()| to.flush());
        queue = shared.lock();
        queue.writing = false;
        shared.changed.notify_all();
        if written.is_err() {
            // Who reads has gone, and does not come back.
            queue.closed = true;
            queue.text.clear();
            return;
        }
    }
}

/// What is said of lines that were dropped, with its line feed.
pub(crate) type DroppedText = fn(u64) -> String;

/// As a line for people.
pub(crate) fn dropped_line(lines: u64) -> String {
    let plural = if lines == 1 { "line was" } else { "lines were" };
    format!("duende: {lines} {plural} not printed: nobody read them; the log has them\n")
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let printer = Printer::to(writer, dropped_line);
        let begun = Instant::now();
        const LINES: usize = 20_000;
        for number in 0..LINES {
            printer.print(&format!("line {number:05} {}\n", "x".repeat(88)));
        }
        // Far more than a pipe holds: nobody waited.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        // Once it is read, there is room again, and the gap is told.
        let mut more = 0;
        while printer.shared.as_ref().is_some_and(|shared| shared.lock().dropped_lines > 0) {
            printer.print("more\n");
            more += 1;
            thread::yield_now();
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        drop(printer);
        let text = reading.join().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("line ")).count();
        let mores = text.lines().filter(|line| *line == "more").count();
        let told: usize = text
            .lines()
            .filter_map(|line| line.strip_prefix("duende: ")?.split_once(' '))
            .map(|(count, _)| count.parse::<usize>().unwrap())
            .sum();
        assert!(lines < LINES && told > 0, "{lines}");
        assert_eq!(lines + mores + told, LINES + more);
    }

    #[test]
    fn the_end_waits_for_a_reader_and_not_for_ever() {
        let (_reader, writer) = io::pipe().unwrap();
        let printer = Printer::to(writer, dropped_line);
        printer.print(&"x\n".repeat(100_000));
        let begun = Instant::now();
        drop(printer);
        assert!(begun.elapsed() < END_TIME + Duration::from_secs(5), "{:?}", begun.elapsed());
        let (mut reader, writer) = io::pipe().unwrap();
        let printer = Printer::to(writer, dropped_line);
        printer.print("last words\n");
        drop(printer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words\n");
        // Without a thread nothing is printed, and nothing is wrong.
        Printer::none().print("x\n");
    }
}
