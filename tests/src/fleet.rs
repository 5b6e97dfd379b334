//! A fleet of its own for each test: the real program on a configuration in a directory that
//! vanishes, asked by its command line.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::daemons::program;
use crate::process::{Process, processes_with};
use crate::rows::{Event, Failure, Row, Table};

/// How long anything may take before a test gives up on it. Only a failure waits this long.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How often what has no event is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// The variable by which a fleet's processes are known: it lies in the environment of each.
const HOME_VARIABLE: &str = "DUENDE_RUNTIME_DIR";

/// Waits until `look` finds something, by looking again and again.
///
/// # Panics
/// It finds nothing in time; `what` says what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < TIMEOUT, "waited in vain: {what}");
        std::thread::sleep(LOOK_PERIOD);
    }
}

/// Where the tests' compiled components lie: of all tests, so that each component is compiled once. A test of
/// the cache itself says otherwise.
fn image_cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-images")
}

/// `duende`, in a home of its own: sockets, state and logs lie under it.
#[must_use]
pub fn duende(home: &Path) -> Command {
    let mut command = Command::new(program("duende"));
    command
        .env(HOME_VARIABLE, home.join("run"))
        .env("DUENDE_STATE_DIR", home.join("state"))
        .env("DUENDE_CACHE_DIR", image_cache())
        .env_remove("DUENDE_LOG_DIR")
        .stdin(Stdio::null())
        .current_dir(home);
    command
}

/// The same command, by a program that becomes what its arguments name.
///
/// # Panics
/// There is no program.
#[must_use]
pub fn under(wrapper: &[&str], command: &Command) -> Command {
    let (program, arguments) = wrapper.split_first().expect("a program");
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped.stdin(Stdio::null());
    wrapped
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// It can't be started.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program can be started");
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output, as JSON of this form.
    ///
    /// # Panics
    /// It is not.
    #[must_use]
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that it was done.
    ///
    /// # Panics
    /// It was not.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts that it was refused with this exit code, and that its JSON says the same.
    ///
    /// # Panics
    /// It was done, or refused otherwise.
    #[track_caller]
    pub fn refused(&self, code: u8) -> Failure {
        assert_eq!(self.code, Some(i32::from(code)), "{self:?}");
        let failure: Failure = self.json();
        assert_eq!(failure.error.exit_code, code, "{self:?}");
        failure
    }
}

/// A fleet, and its manager while it runs.
#[derive(Debug)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    home: TempDir,
    running: Option<Running>,
    /// What happened in all runs so far.
    seen: Vec<Event>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    events: Receiver<Event>,
}

impl Fleet {
    /// A fleet of these daemons (TOML); it does not run yet. In the text `{home}` stands for the
    /// fleet's directory.
    ///
    /// # Panics
    /// Its directory can't be made.
    #[must_use]
    pub fn new(name: &str, daemons: &str) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let fleet = Self { name: name.to_owned(), home, running: None, seen: Vec::new() };
        fleet.configure(daemons);
        fleet
    }

    /// Writes its configuration anew.
    ///
    /// # Panics
    /// It can't be written.
    pub fn configure(&self, daemons: &str) {
        let daemons = daemons.replace("{home}", &self.home().display().to_string());
        let text = format!("[fleet]\nname = \"{}\"\n{daemons}", self.name);
        std::fs::write(self.file(), text).expect("the configuration can be written");
    }

    /// A fleet of these daemons that runs.
    ///
    /// # Panics
    /// It can't be started.
    #[must_use]
    pub fn up(name: &str, daemons: &str) -> Self {
        let mut fleet = Self::new(name, daemons);
        fleet.start();
        fleet
    }

    /// Its directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its configuration.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.home().join("fleet.toml")
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home().join("run").join(format!("{}.sock", self.name))
    }

    /// Starts its manager in the foreground and waits until it answers.
    ///
    /// # Panics
    /// It does not.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// As [`start`](Self::start), with more in its environment.
    ///
    /// # Panics
    /// It does not answer.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let mut command = duende(self.home());
        command.envs(environment.iter().copied());
        self.launch(command);
    }

    /// As [`start`](Self::start), by a program that becomes what its arguments name, as `nsenter` does.
    ///
    /// # Panics
    /// It does not answer.
    pub fn start_under(&mut self, wrapper: &[&str]) {
        let command = under(wrapper, &duende(self.home()));
        self.launch(command);
    }

    fn launch(&mut self, mut command: Command) {
        let said = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home().join("manager.stderr"))
            .expect("the manager's output can be kept");
        command.args(["up", "--json"]).arg(self.file()).stdout(Stdio::piped()).stderr(said);
        let mut child = command.spawn().expect("duende can be started");
        let stdout = child.stdout.take().expect("it was asked for");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                // An error of `up` itself is a document of another form; its exit code tells.
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        self.running = Some(Running { child, events });
        let socket = self.socket();
        wait_for("the manager's socket", || {
            if let Some(status) = self.manager().try_wait().expect("its status") {
                panic!("the manager ended at once: {status}\n{}", self.story());
            }
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// The manager's process.
    ///
    /// # Panics
    /// It does not run.
    pub fn manager(&mut self) -> &mut Child {
        &mut self.running.as_mut().expect("the fleet runs").child
    }

    /// A verb of the command line, with `--json`, for this fleet.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = duende(self.home());
        command.arg("--json").args(arguments).args(["--fleet", &self.name]);
        command
    }

    /// Runs a verb for this fleet.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// All rows.
    ///
    /// # Panics
    /// The manager does not answer.
    #[must_use]
    #[track_caller]
    pub fn ps(&self) -> Table {
        self.run(&["ps"]).done().json()
    }

    /// The row of one daemon, from `ps`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn row(&self, daemon: &str) -> Row {
        let found = self.ps().daemons.into_iter().find(|row| row.name == daemon);
        found.unwrap_or_else(|| panic!("no row of {daemon}"))
    }

    /// Waits until a daemon's row is as wanted.
    ///
    /// # Panics
    /// It never is.
    #[track_caller]
    pub fn wait_row(&self, daemon: &str, wanted: impl Fn(&Row) -> bool) -> Row {
        let mut last = None;
        let began = Instant::now();
        loop {
            let row = self.row(daemon);
            if wanted(&row) {
                return row;
            }
            last.replace(row);
            assert!(began.elapsed() < TIMEOUT, "{daemon}: {last:?}\n{}", self.story());
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// Waits until a daemon is in a state.
    ///
    /// # Panics
    /// It never is.
    #[track_caller]
    pub fn wait_state(&self, daemon: &str, state: &str) -> Row {
        self.wait_row(daemon, |row| row.state == state)
    }

    /// Waits for the next event for which `wanted` is true; the ones before it are remembered.
    ///
    /// # Panics
    /// None comes, or the manager ends first.
    #[track_caller]
    pub fn next_event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let began = Instant::now();
        loop {
            let events = &self.running.as_ref().expect("the fleet runs").events;
            match events.recv_timeout(TIMEOUT.saturating_sub(began.elapsed())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no such event\n{}", self.story()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the manager ended\n{}", self.story())
                }
            }
        }
    }

    /// Waits for the next event of a daemon of this kind.
    ///
    /// # Panics
    /// None comes.
    #[track_caller]
    pub fn next(&mut self, daemon: &str, kind: &str) -> Event {
        self.next_event(|event| event.is(daemon, kind))
    }

    /// What happened so far, in order.
    pub fn events(&mut self) -> &[Event] {
        if let Some(running) = &self.running {
            self.seen.extend(running.events.try_iter());
        }
        &self.seen
    }

    /// Waits until the manager has ended by itself; its exit code.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn wait_end(&mut self) -> Option<i32> {
        let status =
            wait_for("the end of the manager", || self.manager().try_wait().expect("its status"));
        if let Some(running) = self.running.take() {
            // Its output has ended with it: what is left of it arrives.
            self.seen.extend(running.events.iter());
        }
        status.code()
    }

    /// Stops everything in order, as an operator does, and waits for the end.
    ///
    /// # Panics
    /// Something is left.
    #[track_caller]
    pub fn down(&mut self) {
        self.run(&["down"]).done();
        assert_eq!(self.wait_end(), Some(0), "{}", self.story());
        self.assert_empty();
    }

    /// Kills the manager as `kill -9` does, and waits until nothing of the fleet is left.
    ///
    /// # Panics
    /// Something is left.
    #[track_caller]
    pub fn kill_manager(&mut self) {
        let pid = self.manager().id();
        Process::of(pid).signal(Signal::KILL);
        self.wait_end();
        wait_for("the end of keep, worker and natives", || {
            self.processes().is_empty().then_some(())
        });
    }

    /// The living processes of this fleet.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        processes_with(HOME_VARIABLE, &self.home().join("run").display().to_string())
    }

    /// Asserts that neither a process nor a socket is left.
    ///
    /// # Panics
    /// One is.
    #[track_caller]
    pub fn assert_empty(&self) {
        let left: Vec<_> = self.processes().iter().map(Process::command).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let run = std::fs::read_dir(self.home().join("run"));
        let files: Vec<_> = run.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(files.is_empty(), "left behind: {files:?}");
    }

    /// What is known of this fleet, for the text of a failure.
    #[must_use]
    pub fn story(&self) -> String {
        const EVENTS: usize = 40;
        let mut text = String::new();
        for event in self.seen.iter().skip(self.seen.len().saturating_sub(EVENTS)) {
            let Event { daemon, incarnation, kind, detail, .. } = event;
            let _ = writeln!(text, "  {daemon}/{incarnation} {kind} {detail}");
        }
        let said = std::fs::read_to_string(self.home().join("manager.stderr")).unwrap_or_default();
        let _ = write!(text, "{said}");
        text
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // Fails only if it has ended.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        let began = Instant::now();
        let mut left = self.processes();
        while !left.is_empty() && began.elapsed() < TIMEOUT {
            std::thread::sleep(LOOK_PERIOD);
            left = self.processes();
        }
        let commands: Vec<_> = left.iter().map(Process::command).collect();
        for process in left {
            process.signal(Signal::KILL);
        }
        if std::thread::panicking() {
            // What the failure was about is in the logs, which are about to vanish.
            eprintln!("{}", self.story());
            return;
        }
        assert!(commands.is_empty(), "outlived their manager: {commands:?}");
    }
}
