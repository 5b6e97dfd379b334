//! The fleet while the demo is at it: requests go out, the table is drawn, events and signals are
//! looked at, and everything that is waited for has its deadline.
//!
//! One thread does all of it, in turn: so the demo knows at each moment exactly how many requests were
//! sent and answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::DemoError;
use super::count::Counts;
use super::fleet::{Fleet, Row};
use super::http::{self, HttpError};
use super::place::Place;
use super::screen::{Screen, Style, grouped};

/// How long anything may take that is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often the table is drawn.
const REDRAW_PERIOD: Duration = Duration::from_millis(100);
/// The pause after a request, so that eyes can follow.
const PAUSE: Duration = Duration::from_millis(1);
/// The pause before a connection that was refused is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// The requests of a burst, without pauses, in which somebody is killed.
const BURST_REQUESTS: u64 = 40;

pub(super) const SENTINEL: &str = "sentinel";
pub(super) const SENTINEL_NATIVE: &str = "sentinel-native";
pub(super) const SENTINELS: [&str; 2] = [SENTINEL, SENTINEL_NATIVE];

/// The fleet, and what is known of it.
pub(super) struct Stage<'a> {
    pub(super) screen: &'a mut Screen,
    pub(super) place: &'a Place,
    pub(super) fleet: Fleet,
    server: SocketAddr,
    interrupted: Arc<AtomicBool>,
    /// Requests that were sent and answered.
    pub(super) truth: Counts,
    /// Connections that were refused, tried again, and not counted.
    pub(super) refused: u64,
    pub(super) rows: Vec<Row>,
    drawn: Instant,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        screen: &'a mut Screen,
        place: &'a Place,
        fleet: Fleet,
        server: SocketAddr,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        let (truth, drawn) = (Counts::default(), Instant::now());
        Self {
            screen,
            place,
            fleet,
            server,
            interrupted,
            truth,
            refused: 0,
            rows: Vec::new(),
            drawn,
        }
    }

    /// The fleet, to be stopped.
    pub(super) fn end(self) -> Fleet {
        self.fleet
    }

    // Working and waiting.

    /// Sends so many requests.
    pub(super) fn requests(&mut self, count: u64) -> Result<(), DemoError> {
        let goal = self.truth.requests + count;
        self.work_until("its requests are answered", |stage| stage.truth.requests >= goal)
    }

    /// Sends requests as quickly as they are answered.
    pub(super) fn burst(&mut self) -> Result<(), DemoError> {
        for _ in 0..BURST_REQUESTS {
            self.request()?;
        }
        Ok(())
    }

    /// Sends requests until something is so.
    pub(super) fn work_until(
        &mut self,
        what: &str,
        so: impl Fn(&Self) -> bool,
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look(what, deadline)?;
            if so(self) {
                return Ok(());
            }
            if self.request()? {
                thread::sleep(PAUSE);
            } else {
                thread::sleep(RETRY_PAUSE);
            }
        }
    }

    /// Sends requests until daemons run in a later incarnation than these, and says how it went.
    pub(super) fn work_until_back(&mut self, gone: &[(&str, u32)]) -> Result<(), DemoError> {
        let names: Vec<&str> = gone.iter().map(|(name, _)| *name).collect();
        let what = format!("{} is back", names.join(" and "));
        self.work_until(&what, |stage| {
            gone.iter().all(|(name, before)| {
                let is_later = |row: &&Row| row.incarnation > *before && row.state == "running";
                stage.rows.iter().filter(is_later).any(|row| row.name == *name)
            })
        })?;
        for (name, before) in gone {
            let exited = self.fleet.event(name, "exited", *before);
            let back = self.fleet.event(name, "running", before + 1);
            if let (Some(exited), Some(back)) = (exited, back) {
                let backoff = self.fleet.event(name, "backoff", *before);
                let delay = backoff.map_or("at once", |event| &event.detail);
                let away_us = back.time_unix_us.saturating_sub(exited.time_unix_us);
                let text = format!(
                    "{name}: {} · {delay} · back after {} ms",
                    exited.detail,
                    away_us / 1_000
                );
                self.say(&text);
            }
        }
        Ok(())
    }

    pub(super) fn wait_until(
        &mut self,
        what: &str,
        so: impl Fn(&Self) -> bool,
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            self.wait_a_little(what, deadline)?;
        }
        Ok(())
    }

    pub(super) fn wait_a_little(&mut self, what: &str, deadline: Instant) -> Result<(), DemoError> {
        self.look(what, deadline)?;
        thread::sleep(RETRY_PAUSE);
        Ok(())
    }

    /// What is due between two steps of anything: signals, events, the deadline, the table.
    fn look(&mut self, what: &str, deadline: Instant) -> Result<(), DemoError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        self.fleet.look(self.place)?;
        if Instant::now() >= deadline {
            return Err(DemoError::Late { waited_s: PATIENCE.as_secs(), what: what.to_owned() });
        }
        if self.rows.is_empty() || self.drawn.elapsed() >= REDRAW_PERIOD {
            self.refresh()?;
            let block = self.block();
            self.screen.redraw(&block);
            self.drawn = Instant::now();
        }
        Ok(())
    }

    /// Sends one request and counts its answer; false if nobody listens at present.
    pub(super) fn request(&mut self) -> Result<bool, DemoError> {
        match http::get(self.server, &path(self.truth.requests)) {
            Ok(status) => self.truth.add(status),
            Err(HttpError::Refused(_)) => {
                self.refused += 1;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    // Knowing and showing.

    pub(super) fn refresh(&mut self) -> Result<(), DemoError> {
        match Fleet::rows(self.place) {
            Ok(Some(rows)) => self.rows = rows,
            Ok(None) => {}
            Err(error) => {
                // That the manager has ended says more than that it did not answer.
                self.fleet.look(self.place)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// A daemon, as it is now.
    pub(super) fn row(&mut self, name: &str) -> Result<Row, DemoError> {
        self.refresh()?;
        let found = self.rows.iter().find(|row| row.name == name);
        found.cloned().ok_or_else(|| DemoError::Config(format!("there is no daemon `{name}`")))
    }

    pub(super) fn counts(&mut self, name: &str) -> Result<Counts, DemoError> {
        Ok(Counts::of_sentinel(&self.row(name)?.metrics))
    }

    pub(super) fn step(&mut self, title: &str, why: &str) {
        self.screen.step(title, why);
    }

    pub(super) fn say(&mut self, text: &str) {
        self.screen.say(&format!("  {text}"));
    }

    pub(super) fn snapshot(&mut self) -> Result<(), DemoError> {
        self.refresh()?;
        let block = self.block();
        self.screen.snapshot(&block);
        Ok(())
    }

    /// The table, and how far the count is.
    pub(super) fn block(&self) -> String {
        let counted = SENTINELS.map(|name| {
            let row = self.rows.iter().find(|row| row.name == name);
            let count = row.map(|row| Counts::of_sentinel(&row.metrics)).unwrap_or_default();
            format!(" · {name} counted {}", grouped(count.requests))
        });
        let line =
            format!("{} requests answered{}", grouped(self.truth.requests), counted.concat());
        format!("\n{}  {}\n", self.screen.table(&self.rows), self.screen.paint(&line, Style::Dim))
    }
}

/// What the request of this number asks for: mostly what is there, now and then what is missing, has
/// moved, or takes its time.
fn path(number: u64) -> String {
    match number % 20 {
        4 | 14 => format!("/missing/{number}"),
        9 => "/notes".to_owned(),
        19 => "/-/slow?ms=20".to_owned(),
        even if even % 2 == 0 => "/".to_owned(),
        7 => "/notes/".to_owned(),
        _ => "/style.css".to_owned(),
    }
}
