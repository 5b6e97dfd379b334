//! From the kill of a native daemon to the first instruction of its next process: `duende up`
//! against the least that a supervisor can do, a loop in C, and against runit.
//!
//! All three start the same static program ([`stamp.c`]), which tells when it runs. Each has a
//! directory of its own with the named pipe that the program writes to.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use duende_report::{Measure, Report};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    process::{Pid, Signal, kill_process, kill_process_group},
    time::{ClockId, clock_gettime},
};

use super::Result;

const KILLS: usize = 100;
/// Services of runit that take turns, and how old each is when it is killed: `runsv` waits for a
/// second before it starts a service again that ran for less.
const RUNIT_SERVICES: usize = 16;
const RUNIT_AGE_MIN: Duration = Duration::from_millis(1_100);
/// Between two kills: the supervisors have finished with the last one.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for a start; `runsvdir` looks for new services every five seconds.
const START_TIMEOUT: Timespec = Timespec { tv_sec: 15, tv_nsec: 0 };
/// Longest wait for a supervisor to end.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// Measures and adds to the report.
pub(crate) fn measure(runit: &Path, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let programs = dir.path().join("programs");
    fs::create_dir(&programs)?;
    let stamp = compile("stamp", &programs)?;
    let bare = compile("loop", &programs)?;
    let mut duende = Duende::start(&dir.path().join("duende"), &stamp)?;
    let mut bare = Loop::start(&dir.path().join("loop"), &bare, &stamp)?;
    let mut runit = Runit::start(&dir.path().join("runit"), runit, &stamp)?;

    let (mut ours, mut c, mut runsv) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..KILLS {
        thread::sleep(PAUSE);
        ours.push(duende.kill()? as f64);
        thread::sleep(PAUSE);
        c.push(bare.kill()? as f64);
        thread::sleep(PAUSE);
        runsv.push(runit.kill()? as f64);
    }
    duende.supervisor.end(Signal::TERM)?;
    bare.end()?;
    runit.supervisor.end(Signal::HUP)?;
    report.add(
        Measure::new(
            "restart",
            "from the kill of a native process to the first instruction of the next",
        )
        .contender("duende", ours)
        .contender("loop in C", c)
        .contender("runit", runsv)
        .ratio_at_most("duende", "loop in C", 1.5)
        .ratio_at_most("duende", "runit", 1.0),
    );
    Ok(())
}

/// Compiles one of the C programs beside this file, statically.
fn compile(name: &str, dir: &Path) -> Result<PathBuf> {
    let source = format!("{}/benches/spine/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let program = dir.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall", "-Werror", "-static", "-o"]).arg(&program).arg(source);
    if cc.status()?.success() {
        Ok(program)
    } else {
        Err(format!("cc cannot compile {name}.c").into())
    }
}

/// What the program says when it begins to run.
#[derive(Clone, Copy)]
struct Stamp {
    at_ns: u64,
    pid: Pid,
}

/// The reading end of a named pipe. It is open for writing too, so it never ends.
struct Stamps(OwnedFd);

impl Stamps {
    /// Makes the directory and the pipe in it.
    fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join("stamp");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        Ok(Self(open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn next(&self) -> Result<Stamp> {
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&START_TIMEOUT))? == 0 {
            return Err("the process was not started in time".into());
        }
        let mut bytes = [0; 16];
        // Written at once, so read at once.
        if rustix::io::read(&self.0, &mut bytes)? != bytes.len() {
            return Err("half a stamp".into());
        }
        let (at_ns, pid) = bytes.split_at(8);
        let pid = i32::try_from(u64::from_ne_bytes(pid.try_into()?))?;
        Ok(Stamp {
            at_ns: u64::from_ne_bytes(at_ns.try_into()?),
            pid: Pid::from_raw(pid).ok_or("a stamp without a process")?,
        })
    }

    /// Kills the process and waits for the next one: that one, and how long it took in nanoseconds.
    fn kill(&self, pid: Pid) -> Result<(Pid, u64)> {
        let killed_ns = monotonic_ns()?;
        kill_process(pid, Signal::KILL)?;
        let stamp = self.next()?;
        Ok((stamp.pid, stamp.at_ns.saturating_sub(killed_ns)))
    }
}

fn monotonic_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::Monotonic);
    Ok(u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?)
}

/// A supervisor's process; it gets killed, with its group, if the run fails.
struct Supervisor(Child);

impl Supervisor {
    fn start(command: &mut Command) -> Result<Self> {
        match command.process_group(0).spawn() {
            Ok(child) => Ok(Self(child)),
            Err(error) => Err(format!("{}: {error}", command.get_program().display()).into()),
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).ok_or("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Asks it to end, with everything that it has started, and waits for it.
    fn end(mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let began = Instant::now();
        while self.0.try_wait()?.is_none() {
            if began.elapsed() > END_TIMEOUT {
                return Err("a supervisor does not end".into());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}

/// `duende up` with one native daemon, that it starts again at once and without a limit.
struct Duende {
    supervisor: Supervisor,
    stamps: Stamps,
    pid: Pid,
}

impl Duende {
    fn start(dir: &Path, stamp: &Path) -> Result<Self> {
        let stamps = Stamps::make(dir)?;
        let config = dir.join("fleet.toml");
        let text = format!(
            "[fleet]\nname = \"bench\"\n\n[[daemon]]\nname = \"stamp\"\ncommand = [{stamp:?}]\n\
             [daemon.restart]\npolicy = \"always\"\nbackoff_initial = \"0s\"\nwindow = \"0s\"\n"
        );
        fs::write(&config, text)?;
        let supervisor = Supervisor::start(
            Command::new(env!("CARGO_BIN_EXE_duende"))
                .arg("up")
                .arg(&config)
                .env("DUENDE_STATE_DIR", dir.join("state"))
                .env("DUENDE_LOG_DIR", dir.join("log"))
                .env("DUENDE_CACHE_DIR", dir.join("images"))
                .env("DUENDE_RUNTIME_DIR", dir.join("run"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let pid = stamps.next()?.pid;
        Ok(Self { supervisor, stamps, pid })
    }

    fn kill(&mut self) -> Result<u64> {
        let (pid, latency_ns) = self.stamps.kill(self.pid)?;
        self.pid = pid;
        Ok(latency_ns)
    }
}

/// The loop in C. It kills by itself, so it waits from the very first moment.
struct Loop {
    process: Child,
    commands: ChildStdin,
    killed: ChildStdout,
    stamps: Stamps,
}

impl Loop {
    fn start(dir: &Path, program: &Path, stamp: &Path) -> Result<Self> {
        let stamps = Stamps::make(dir)?;
        let mut process = Command::new(program)
            .arg(stamp)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (commands, killed) = pipes.ok_or("no pipes")?;
        stamps.next()?;
        Ok(Self { process, commands, killed, stamps })
    }

    fn kill(&mut self) -> Result<u64> {
        self.commands.write_all(b"k")?;
        let mut killed_ns = [0; 8];
        self.killed.read_exact(&mut killed_ns)?;
        let stamp = self.stamps.next()?;
        Ok(stamp.at_ns.saturating_sub(u64::from_ne_bytes(killed_ns)))
    }

    fn end(mut self) -> Result<()> {
        drop(self.commands);
        self.process.wait()?;
        Ok(())
    }
}

/// `runsvdir` with services whose `run` is the program itself, without a shell in between.
struct Runit {
    supervisor: Supervisor,
    services: Vec<Service>,
    /// The next one to kill.
    turn: usize,
}

struct Service {
    stamps: Stamps,
    pid: Pid,
    began: Instant,
}

impl Runit {
    fn start(dir: &Path, programs: &Path, stamp: &Path) -> Result<Self> {
        let made = (0..RUNIT_SERVICES).map(|number| {
            let service = dir.join(number.to_string());
            let stamps = Stamps::make(&service)?;
            fs::copy(stamp, service.join("run"))?;
            Ok(stamps)
        });
        let made: Vec<Stamps> = made.collect::<Result<_>>()?;
        let path = std::env::var("PATH")?;
        let supervisor = Supervisor::start(
            Command::new(programs.join("runsvdir"))
                .arg(dir)
                .env("PATH", format!("{}:{path}", programs.display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let services = made.into_iter().map(|stamps| {
            let pid = stamps.next()?.pid;
            Ok(Service { stamps, pid, began: Instant::now() })
        });
        Ok(Self { supervisor, services: services.collect::<Result<_>>()?, turn: 0 })
    }

    fn kill(&mut self) -> Result<u64> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.services.len();
        let service = self.services.get_mut(turn).ok_or("no services")?;
        thread::sleep(RUNIT_AGE_MIN.saturating_sub(service.began.elapsed()));
        let (pid, latency_ns) = service.stamps.kill(service.pid)?;
        (service.pid, service.began) = (pid, Instant::now());
        Ok(latency_ns)
    }
}
