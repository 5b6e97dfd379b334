//! What is done to the fleet: requests without a pause, and accidents in the midst of them.
//!
//! 1. Requests go out one after another; each answer is counted. While the server is being restarted,
//!    connections are refused, and the same request is tried again.
//! 2. The sentinels are killed in mid-work: SIGSTOP within a burst of requests, wherever that finds
//!    them, and SIGKILL at the end of the burst. So lines were delivered to them, and not committed.
//! 3. The server is killed only when the line of its last answer is in the file: a server that dies
//!    between answering and logging has lost that line, and no reader of the log could know.

use std::fs;
use std::time::{Duration, Instant};

use super::DemoError;
use super::count::{CLASSES, Counts};
use super::place::{at, freeze, kill};
use super::screen::{Style, grouped};
use super::stage::{PATIENCE, SENTINEL, SENTINEL_NATIVE, SENTINELS, Stage};

/// The requests of one step.
const STEP_REQUESTS: u64 = 300;
/// How many lines of a daemon's log are shown if it dies at its start.
const LOG_LINES: usize = 4;
/// How long figures must stand still to be final.
const SETTLED: Duration = Duration::from_millis(300);

const WEB: &str = "web";
const FLAKY: &str = "flaky";
const WHY_SENTINEL: &str =
    "frozen in a burst of requests, then SIGKILL: what it had not committed is delivered again";

impl Stage<'_> {
    /// All of it.
    pub(super) fn tell(&mut self) -> Result<(), DemoError> {
        self.wait_until("all four daemons run", |stage| {
            let all_run =
                stage.rows.len() == 4 && stage.rows.iter().all(|row| row.state == "running");
            all_run || stage.first_death().is_some()
        })?;
        if let Some(died) = self.first_death() {
            return Err(died);
        }
        self.step(
            "Requests",
            "good, missing, moved and slow ones, one after another; the demo counts the answers",
        );
        self.requests(STEP_REQUESTS)?;
        self.work_until("all four daemons are healthy", |stage| {
            stage.rows.iter().all(|row| row.health == "healthy")
        })?;
        self.snapshot()?;

        self.kill_flaky()?;
        self.kill_native_sentinel()?;
        self.kill_worker()?;
        self.kill_web()?;
        self.requests(STEP_REQUESTS)?;
        self.work_until("all four daemons are healthy again", |stage| {
            stage.rows.iter().all(|row| row.health == "healthy")
        })?;
        self.compare()
    }

    fn kill_flaky(&mut self) -> Result<(), DemoError> {
        self.step(
            "Kill flaky",
            "it is told to panic: that ends one component, not its neighbour in the same process",
        );
        let before = self.row(FLAKY)?.incarnation;
        let commands = self.place.flaky_commands();
        fs::write(&commands, "crash\n").map_err(at(&commands))?;
        self.work_until("flaky has panicked", |stage| {
            stage.fleet.event(FLAKY, "exited", before).is_some()
        })?;
        // Its slice never committed, so the command would be delivered again.
        fs::write(&commands, "").map_err(at(&commands))?;
        self.work_until_back(&[(FLAKY, before)])?;
        self.go_on()
    }

    fn kill_native_sentinel(&mut self) -> Result<(), DemoError> {
        self.step("Kill the native sentinel", WHY_SENTINEL);
        let row = self.row(SENTINEL_NATIVE)?;
        let pid = row.pid.ok_or_else(|| DemoError::NotRunning(SENTINEL_NATIVE.to_owned()))?;
        self.kill_in_mid_work(&format!("process {pid}"), pid, SENTINEL_NATIVE)?;
        self.work_until_back(&[(SENTINEL_NATIVE, row.incarnation)])?;
        self.go_on()
    }

    fn kill_worker(&mut self) -> Result<(), DemoError> {
        self.step("Kill the worker, the process that hosts sentinel and flaky", WHY_SENTINEL);
        let flaky_before = self.row(FLAKY)?.incarnation;
        let row = self.row(SENTINEL)?;
        let pid = row.worker_pid.ok_or_else(|| DemoError::NotRunning(SENTINEL.to_owned()))?;
        self.kill_in_mid_work(&format!("worker {pid}"), pid, SENTINEL)?;
        self.work_until_back(&[(SENTINEL, row.incarnation), (FLAKY, flaky_before)])?;
        self.go_on()
    }

    /// Kills a process in which a sentinel runs, with lines in its hands: it is frozen wherever it is
    /// within a burst of requests, gets more lines than it can take note of, and never wakes.
    fn kill_in_mid_work(&mut self, what: &str, pid: u32, sentinel: &str) -> Result<(), DemoError> {
        self.burst()?;
        freeze(pid);
        let burst = self.burst();
        // Even if a request failed: nobody is left frozen.
        kill(pid);
        burst?;
        let answered = self.truth.requests;
        let counted = self.counts(sentinel)?.requests;
        let held = answered.saturating_sub(counted);
        self.say(&format!(
            "killed {what} at request {}: {} counted, {held} not yet",
            grouped(answered),
            grouped(counted),
        ));
        Ok(())
    }

    fn kill_web(&mut self) -> Result<(), DemoError> {
        self.step(
            "Kill the web server",
            "SIGKILL once its last line is in the file; what is refused meanwhile is tried again",
        );
        let answered = self.truth.requests;
        let deadline = Instant::now() + PATIENCE;
        while self.place.access_log_lines()? < answered {
            self.wait_a_little("the last line is in the access log", deadline)?;
        }
        let row = self.row(WEB)?;
        let pid = row.pid.ok_or_else(|| DemoError::NotRunning(WEB.to_owned()))?;
        let before = row.incarnation;
        kill(pid);
        self.say(&format!("killed process {pid} after request {}", grouped(answered)));
        // Until it is gone its socket still takes connections, which nobody will ever answer.
        self.wait_until("web is gone", |stage| stage.fleet.event(WEB, "exited", before).is_some())?;
        let refused = self.refused;
        self.work_until_back(&[(WEB, before)])?;
        let refused = self.refused - refused;
        if refused > 0 {
            self.say(&format!(
                "{} connections refused meanwhile, each tried again",
                grouped(refused)
            ));
        }
        self.go_on()
    }

    /// Waits until the sentinels have read all, and sets their figures beside the truth.
    fn compare(&mut self) -> Result<(), DemoError> {
        self.step(
            "The count",
            "what was sent and answered, beside what each sentinel counted through all of this",
        );
        let truth = self.truth;
        let deadline = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        let mut counts = SENTINELS.map(|_| Counts::default());
        // Equal is not enough: a line that is counted twice may come late.
        while Instant::now() < deadline && since.elapsed() < SETTLED {
            let now = [self.counts(SENTINEL)?, self.counts(SENTINEL_NATIVE)?];
            if now != counts || now.iter().any(|count| count.requests < truth.requests) {
                (counts, since) = (now, Instant::now());
            }
            // The deadline is looked at above: figures that never become equal are shown.
            self.wait_a_little("the figures stand still", deadline + PATIENCE)?;
        }
        let lines = self.place.access_log_lines()?;
        self.refresh()?;
        let block = self.block();
        self.screen.keep(&block);
        self.show_counts(lines, counts);
        let mut differences: Vec<String> = SENTINELS
            .iter()
            .zip(counts)
            .filter_map(|(name, count)| Some(format!("{name}: {}", count.difference_from(&truth)?)))
            .collect();
        if lines != truth.requests {
            differences
                .push(format!("the access log has {lines} lines for {} answers", truth.requests));
        }
        if !differences.is_empty() {
            return Err(DemoError::Difference(differences.join("; ")));
        }
        let equal = self.screen.paint("equal: none lost, none counted twice", Style::Green);
        self.screen.say(&format!("  {equal}"));
        Ok(())
    }

    fn show_counts(&mut self, lines: u64, counts: [Counts; 2]) {
        let dim = |text: &str| (text.to_owned(), Style::Dim);
        let [a, b, c, d, e] = CLASSES.map(dim);
        let mut table = vec![[dim("COUNTED BY"), dim("REQUESTS"), a, b, c, d, e, dim("MALFORMED")]];
        let truth = [("the client (true count)", self.truth)];
        for (who, count) in truth.into_iter().chain(SENTINELS.into_iter().zip(counts)) {
            let plain = |count: u64| (grouped(count), Style::Plain);
            let [a, b, c, d, e] = count.classes.map(plain);
            let style =
                if count.difference_from(&self.truth).is_some() { Style::Red } else { Style::Bold };
            let requests = (grouped(count.requests), style);
            table.push([
                (who.to_owned(), Style::Plain),
                requests,
                a,
                b,
                c,
                d,
                e,
                plain(count.malformed),
            ]);
        }
        let text = self.screen.columns(&table, [false, true, true, true, true, true, true, true]);
        self.screen.say(&format!("\n{text}\n  the access log has {} lines", grouped(lines)));
    }

    /// A daemon that has ended although nobody has done anything to it yet.
    fn first_death(&self) -> Option<DemoError> {
        let exited = self.fleet.events.iter().find(|event| event.kind == "exited")?;
        let log = fs::read_to_string(self.place.log_dir().join(format!("{}.log", exited.daemon)));
        let lines: Vec<String> = log.unwrap_or_default().lines().map(str::to_owned).collect();
        let last =
            lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
        Some(DemoError::Died { daemon: exited.daemon.clone(), how: exited.detail.clone(), last })
    }

    /// Works for a while, and shows how things are.
    fn go_on(&mut self) -> Result<(), DemoError> {
        self.requests(STEP_REQUESTS)?;
        self.snapshot()
    }
}
