//! From a followed file to durable state: what a line costs, and what a fleet of idle tails does.
//!
//! `cargo xtask bench sources` builds what this needs and runs it. The contenders take turns, round by
//! round. Ours are whole fleets: the manager follows a file that is there already, `log-sentinel` parses and
//! counts each line, and what it counted is durable; the time runs from `duende up` until the last line is
//! counted. Beside them stand `wc -l`, and a program that reads the same file and adds up the same figure.

use std::{
    error::Error,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use duende_report::{Measure, Rank, Report};

/// The errors of a benchmark are for people only.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LINES: u64 = 2_000_000;
const ROUNDS: usize = 5;
const TAILS: usize = 150;
/// How long idle tails are watched.
const IDLE: Duration = Duration::from_secs(10);
/// From one question to the next: a hundredth of what a round takes.
const LOOK: Duration = Duration::from_millis(20);
/// What the two kinds of `log-sentinel` may take for a line, in nanoseconds.
const NATIVE_NS_MAX: f64 = 1_000.0;
const WOS_NS_MAX: f64 = 1_200.0;
/// A thousandth of a core, as nanoseconds of work in a second.
const IDLE_NS_MAX: f64 = 1_000_000.0;

struct Arguments {
    /// `--artifacts`: the components.
    artifacts: PathBuf,
    /// `--log-sentinel`: the native program, built in release.
    native: PathBuf,
    /// `--json`: the file to write.
    json: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every goal is met.
fn run() -> Result<bool> {
    let Arguments { artifacts, native, json } = arguments()?;
    let component = format!("image = \"{}\"", artifacts.join("log-sentinel.wasm").display());
    let native = format!("command = [\"{}\"]\nlink = true", native.display());
    let dir = tempfile::tempdir()?;
    let mut report = Report::new(&[])?;
    let log = dir.path().join("access.log");
    let bytes = write_log(&log)?;

    let (mut by_native, mut by_wos, mut by_wc, mut by_plain) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let home = |name: &str| dir.path().join(format!("{name}-{round}"));
        by_wc.push(per_line(|| count_by_wc(&log))?);
        by_plain.push(per_line(|| count_plainly(&log, bytes))?);
        by_native.push(per_line(|| Fleet::up(&home("native"), &native, &[&log])?.end(bytes))?);
        by_wos.push(per_line(|| Fleet::up(&home("wos"), &component, &[&log])?.end(bytes))?);
    }
    report.add(
        Measure::new("line", "one line of an access log, from the file to durable state")
            .contender("native", by_native)
            .contender("WOS", by_wos)
            .contender("wc -l", by_wc)
            .contender("plain Rust", by_plain)
            .at_most_ns("native", Rank::P50, NATIVE_NS_MAX)
            .at_most_ns("WOS", Rank::P50, WOS_NS_MAX),
    );

    let logs: Vec<PathBuf> = (0..TAILS).map(|n| dir.path().join(format!("{n}.log"))).collect();
    logs.iter().try_for_each(|log| File::create(log).map(drop))?;
    let logs: Vec<&Path> = logs.iter().map(PathBuf::as_path).collect();
    let fleet = Fleet::up(&dir.path().join("idle"), &component, &logs)?;
    let busy = fleet.busy_ns(IDLE)?;
    fleet.end(0)?;
    report.add(
        Measure::new("idle", "work of 150 idle tails in a second, all processes of the fleet")
            .contender("duende", vec![busy])
            .at_most_ns("duende", Rank::P50, IDLE_NS_MAX),
    );
    fs::write(&json, report.to_json()?).map_err(|error| format!("{}: {error}", json.display()))?;
    print!("{report}");
    Ok(report.is_met())
}

/// Writes an access log, and returns the sum of the bytes that its lines say were sent.
fn write_log(path: &Path) -> Result<u64> {
    let mut log = BufWriter::new(File::create(path)?);
    let mut sum = 0;
    for line in 0..LINES {
        let (minute, second) = (line / 60 % 60, line % 60);
        let (status, sent) = ([200, 200, 304, 404][usize::try_from(line % 4)?], line % 9_973);
        sum += sent;
        writeln!(
            log,
            "192.0.2.{} - - [21/Nov/2026:09:{minute:02}:{second:02} +0000] \"GET /page/{line} HTTP/1.1\" \
             {status} {sent} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
            line % 250
        )?;
    }
    log.into_inner()?.sync_all()?;
    Ok(sum)
}

/// How long one line takes, in nanoseconds.
fn per_line(count: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    count()?;
    Ok(start.elapsed().as_nanos() as f64 / LINES as f64)
}

fn count_by_wc(log: &Path) -> Result<()> {
    let output = Command::new("wc").arg("-l").arg(log).output()?;
    let counted = String::from_utf8(output.stdout)?;
    if counted.split_whitespace().next() == Some(&LINES.to_string()) {
        Ok(())
    } else {
        Err(format!("wc -l says {counted}").into())
    }
}

/// The least that counts the same: fields by blanks, the tenth is what was sent.
fn count_plainly(log: &Path, expected: u64) -> Result<()> {
    let mut log = BufReader::with_capacity(128 << 10, File::open(log)?);
    let (mut line, mut sum) = (Vec::new(), 0_u64);
    while log.read_until(b'\n', &mut line)? > 0 {
        let sent =
            line.split(|byte| *byte == b' ').nth(9).and_then(|sent| str::from_utf8(sent).ok());
        sum += sent.and_then(|sent| sent.parse::<u64>().ok()).unwrap_or(0);
        line.clear();
    }
    if sum == expected { Ok(()) } else { Err(format!("{sum} is not {expected}").into()) }
}

/// A fleet of `log-sentinel`s, one for each log.
struct Fleet {
    home: PathBuf,
    manager: Child,
}

impl Fleet {
    fn up(home: &Path, run: &str, logs: &[&Path]) -> Result<Self> {
        fs::create_dir_all(home)?;
        let mut text = "[fleet]\nname = \"bench\"\n".to_owned();
        for (number, log) in logs.iter().enumerate() {
            text += &format!(
                "[[daemon]]\nname = \"d{number}\"\n{run}\ngrant = [\"log\", \"state\", \"metric\", \
                 \"channel:lines\"]\nchannel.lines.from = {{ tail = \"{}\" }}\n",
                log.display()
            );
        }
        let file = home.join("fleet.toml");
        fs::write(&file, text)?;
        let mut up = duende(home);
        up.arg("up").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { home: home.to_owned(), manager: up.spawn()? })
    }

    /// What `status` says, once the fleet answers.
    fn status(&self) -> Option<serde_json::Value> {
        let mut status = duende(&self.home);
        let output = status.args(["status", "--json", "--fleet", "bench"]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until each line is counted, and ends the fleet.
    fn end(mut self, expected: u64) -> Result<()> {
        // What is told are floats, and these are exact as such.
        let (lines, expected) = (if expected == 0 { 0.0 } else { LINES as f64 }, expected as f64);
        loop {
            let status = self.status().unwrap_or_default();
            let metrics = &status["daemons"][0]["metrics"];
            let of = |name: &str| metrics[name].as_f64().unwrap_or_default();
            if of("requests_total") + of("malformed_total") >= lines {
                if of("bytes_total") != expected {
                    return Err(format!("{metrics} is not {expected} bytes").into());
                }
                break;
            }
            if let Some(status) = self.manager.try_wait()? {
                return Err(format!("the manager ended: {status}").into());
            }
            thread::sleep(LOOK);
        }
        let down = duende(&self.home).args(["down", "--fleet", "bench"]).output()?;
        let ended = self.manager.wait()?;
        if down.status.success() && ended.success() {
            Ok(())
        } else {
            Err(format!("down: {down:?}, the manager: {ended}").into())
        }
    }

    /// How long the processor worked for the fleet in a second, in nanoseconds, once all of it runs.
    fn busy_ns(&self, length: Duration) -> Result<f64> {
        let is_running = |status: &serde_json::Value| {
            let daemons = status["daemons"].as_array();
            daemons.is_some_and(|daemons| daemons.iter().all(|daemon| daemon["state"] == "running"))
        };
        while !self.status().as_ref().is_some_and(is_running) {
            thread::sleep(LOOK);
        }
        // What the start left to do is done.
        thread::sleep(Duration::from_secs(3));
        let before = self.worked_ns()?;
        thread::sleep(length);
        Ok((self.worked_ns()? - before) as f64 / length.as_secs_f64())
    }

    /// The time of the manager and its children, from the scheduler's books.
    fn worked_ns(&self) -> Result<u64> {
        let manager = self.manager.id();
        let children = fs::read_to_string(format!("/proc/{manager}/task/{manager}/children"))?;
        let mut total = 0;
        for pid in children.split_whitespace().map(str::to_owned).chain([manager.to_string()]) {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let books = fs::read_to_string(thread?.path().join("schedstat"))?;
                total += books.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
            }
        }
        Ok(total)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Fails if it has ended, as it should have.
        let _ = self.manager.kill();
        let _ = self.manager.wait();
    }
}

fn duende(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duende"));
    for (variable, directory) in [
        ("DUENDE_STATE_DIR", "state"),
        ("DUENDE_LOG_DIR", "logs"),
        ("DUENDE_RUNTIME_DIR", "run"),
        ("DUENDE_CACHE_DIR", "cache"),
    ] {
        command.env(variable, home.join(directory));
    }
    command
}

fn arguments() -> Result<Arguments> {
    let (mut artifacts, mut native, mut json) = (None, None, None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let place = match word.to_str() {
            // What cargo adds.
            Some("--bench") => continue,
            Some("--artifacts") => &mut artifacts,
            Some("--log-sentinel") => &mut native,
            Some("--json") => &mut json,
            _ => return Err(format!("unexpected argument: {}", word.display()).into()),
        };
        *place = words.next().map(PathBuf::from);
    }
    let missing = "run it with `cargo xtask bench sources`: an argument is missing";
    Ok(Arguments {
        artifacts: artifacts.ok_or(missing)?,
        native: native.ok_or(missing)?,
        json: json.ok_or(missing)?,
    })
}
