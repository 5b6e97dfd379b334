//! The fleet from outside: `duende up` as a child of the demo, and `duende ps` and `duende down` as its
//! clients. The demo knows of it only what these print with `--json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::DemoError;
use super::place::{Place, at};
use crate::shell;

/// How long stopping everything may take: the longest grace of a daemon, and some.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked whether a process has ended.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// Events that wait to be looked at; a manager that is further ahead waits.
const EVENTS_MAX: usize = 1_024;

/// One daemon, of what `duende ps --json` prints.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) isolation: String,
    pub(super) state: String,
    pub(super) pid: Option<u32>,
    pub(super) worker_pid: Option<u32>,
    pub(super) incarnation: u32,
    pub(super) restarts: u64,
    pub(super) health: String,
    pub(super) uptime_ms: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) rate: Option<Rate>,
    pub(super) metrics: BTreeMap<String, f64>,
}

/// How much a daemon does.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rate {
    pub(super) per_second: f64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    daemons: Vec<Row>,
}

/// What happened to a daemon, as `duende up --json` prints it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) time_unix_us: u64,
    pub(super) daemon: String,
    pub(super) incarnation: u32,
    pub(super) kind: String,
    pub(super) detail: String,
}

/// A fleet that runs.
#[derive(Debug)]
pub(super) struct Fleet {
    manager: Child,
    coming: Receiver<Event>,
    /// Everything that has happened so far.
    pub(super) events: Vec<Event>,
}

impl Fleet {
    /// Starts the manager. In a process group of its own: a Ctrl-C is for the demo, which stops the fleet.
    pub(super) fn start(place: &Place) -> Result<Self, DemoError> {
        let errors = place.log_dir().join("manager.stderr");
        let mut up = duende(place);
        up.args(["up", "--json", "--state-dir"])
            .arg(place.state_dir())
            .arg("--log-dir")
            .arg(place.log_dir())
            .arg(place.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).map_err(at(&errors))?)
            .process_group(0);
        let mut manager = up.spawn().map_err(|source| shell::start_error(&up, source))?;
        let (sender, coming) = sync_channel(EVENTS_MAX);
        if let Some(stdout) = manager.stdout.take() {
            // Ends with the manager, or with the fleet's end of the channel.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(event) = serde_json::from_str(&line)
                        && sender.send(event).is_err()
                    {
                        return;
                    }
                }
            });
        }
        Ok(Self { manager, coming, events: Vec::new() })
    }

    /// Takes what has happened since the last call; an error if the manager has ended.
    pub(super) fn look(&mut self, place: &Place) -> Result<(), DemoError> {
        self.events.extend(self.coming.try_iter());
        match self.manager.try_wait().map_err(DemoError::Wait)? {
            None => Ok(()),
            Some(status) => {
                let path = place.log_dir().join("manager.stderr");
                let mut said = String::new();
                File::open(&path)
                    .and_then(|mut file| file.read_to_string(&mut said))
                    .map_err(at(&path))?;
                Err(DemoError::ManagerEnded { status, said: said.trim().to_owned() })
            }
        }
    }

    /// Asks for all daemons; none if nobody answers yet.
    pub(super) fn rows(place: &Place) -> Result<Option<Vec<Row>>, DemoError> {
        /// The exit code of `duende` that says that no manager runs.
        const NOT_RUNNING: i32 = 4;
        let mut ps = duende(place);
        let output = ps
            .args(["ps", "--json", "--fleet", "edge"])
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .map_err(|source| shell::start_error(&ps, source))?;
        if output.status.code() == Some(NOT_RUNNING) {
            return Ok(None);
        }
        let answer: Result<Answer, _> = serde_json::from_slice(&output.stdout);
        answer.map(|answer| Some(answer.daemons)).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            DemoError::Answer { error, said }
        })
    }

    /// The moment of the first event of a kind, in an incarnation, in microseconds since 1970.
    pub(super) fn event(&self, daemon: &str, kind: &str, incarnation_min: u32) -> Option<&Event> {
        self.events.iter().find(|event| {
            event.daemon == daemon && event.kind == kind && event.incarnation >= incarnation_min
        })
    }

    /// Stops everything in order. Whatever goes wrong, no process is left.
    pub(super) fn stop(mut self, place: &Place) -> Result<Vec<Event>, DemoError> {
        let stopped = self.down(place);
        if stopped.is_err() {
            place.kill_processes();
            // It was told to end; only how matters no more.
            let _ = self.manager.wait();
        }
        let status = stopped?;
        // The reader ends with the manager's output.
        self.events.extend(self.coming.iter());
        if !status.success() {
            return Err(DemoError::Stop(format!("the manager ended with {status}")));
        }
        Ok(self.events)
    }

    fn down(&mut self, place: &Place) -> Result<ExitStatus, DemoError> {
        let mut down = duende(place);
        down.args(["down", "--json", "--fleet", "edge"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut client = down.spawn().map_err(|source| shell::start_error(&down, source))?;
        let client_status = wait(&mut client, deadline)?;
        if client_status.is_none_or(|status| !status.success()) {
            let how = client_status.map_or("no end".to_owned(), |status| status.to_string());
            return Err(DemoError::Stop(format!("`duende down` came to {how}")));
        }
        wait(&mut self.manager, deadline)?
            .ok_or_else(|| DemoError::Stop("the manager does not end".to_owned()))
    }
}

/// Waits for the end of a child, until a deadline. One that does not end by then is killed.
fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>, DemoError> {
    loop {
        if let Some(status) = child.try_wait().map_err(DemoError::Wait)? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).map_err(DemoError::Wait)?;
            return Ok(None);
        }
        thread::sleep(LOOK_PERIOD);
    }
}

/// `duende`, as it was built, for the fleet of this demo.
fn duende(place: &Place) -> Command {
    let mut command = Command::new(shell::target_dir().join("debug/duende"));
    command.env("DUENDE_RUNTIME_DIR", &place.runtime_dir);
    // Compiled once for all demos.
    command.env("DUENDE_CACHE_DIR", shell::target_dir().join("demo-images"));
    command
}
