//! Starts `duende compile-worker`, and judges how it ended.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    process::{
        Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
    },
};

use super::{CompileLimits, Refusal, Survey, Verdict, process::arguments};
use crate::{children::Own, platform, terminal};

/// How often a compilation says that it goes on.
pub(crate) const PROGRESS_PERIOD: Duration = Duration::from_secs(1);
/// How much of its last words is told, in bytes.
const WORDS_BYTES_MAX: u64 = 2_048;

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is to blame on the component.
    #[error("{0}")]
    Refused(Refusal),
    /// It took more than it may.
    #[error("{0}")]
    OverLimit(String),
    /// The compiler failed on it.
    #[error("the compiler failed on it ({how}): the component is refused; please report it")]
    Failed {
        /// How it ended, with its last words.
        how: String,
    },
    /// It was ended from outside.
    #[error(
        "the compiler was killed by signal 9, as the system does when its memory runs out: it is tried again"
    )]
    Killed,
    /// It can't be asked.
    #[error("the compiler can't be started: {0}")]
    Start(#[from] io::Error),
}

impl CompileError {
    /// Whether the same component may be compiled another time.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Killed | Self::Start(_))
    }
}

/// A compilation that is under way.
struct UnderWay(Running);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

/// Compiles components, each in a process of its own.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: Option<PathBuf>,
    profile: String,
    limits: CompileLimits,
    running: Running,
}

/// The processes that compile now, to be ended by whoever needs none of them any more.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<Processes>>);

#[derive(Debug, Default)]
struct Processes {
    pidfds: Vec<Arc<OwnedFd>>,
    /// Compilations, from before their process is there until after it is gone.
    under_way: usize,
    is_over: bool,
}

impl Running {
    /// Ends all of them; none begins any more.
    pub fn end(&self) {
        let mut processes = self.lock();
        processes.is_over = true;
        for pidfd in &processes.pidfds {
            // One that has ended by itself is as good.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// Whether no process is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().under_way == 0
    }

    /// A compilation begins, unless it is over.
    fn enter(&self) -> io::Result<UnderWay> {
        let mut processes = self.lock();
        if processes.is_over {
            return Err(io::Error::other("nobody needs it any more"));
        }
        processes.under_way += 1;
        Ok(UnderWay(self.clone()))
    }

    /// One more, unless it is over.
    fn begin(&self, pidfd: &Arc<OwnedFd>) -> io::Result<()> {
        let mut processes = self.lock();
        if processes.is_over {
            return Err(io::Error::other("nobody needs it any more"));
        }
        processes.pidfds.push(pidfd.clone());
        Ok(())
    }

    fn ended(&self, pidfd: &Arc<OwnedFd>) {
        self.lock().pidfds.retain(|other| !Arc::ptr_eq(other, pidfd));
    }

    fn lock(&self) -> MutexGuard<'_, Processes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compiler {
    /// By this process's own executable.
    #[must_use]
    pub fn new(profile: &str, limits: CompileLimits, running: Running) -> Self {
        Self { program: None, profile: profile.to_owned(), limits, running }
    }

    /// By another executable of the same build: tests and benchmarks are no `duende`.
    #[must_use]
    pub fn by(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// Compiles one component; `goes_on` is told every [`PROGRESS_PERIOD`].
    ///
    /// # Errors
    /// It is refused, takes too much, or the compiler can't be asked.
    pub fn compile(
        &self,
        component: &[u8],
        mut goes_on: impl FnMut(Duration),
    ) -> Result<(Survey, Vec<u8>), CompileError> {
        let _under_way = self.running.enter()?;
        let input = sealed(component)?;
        let mut output =
            File::from(memfd_create("duende-code", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
        let words =
            File::from(memfd_create("duende-words", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
        let began = Instant::now();
        let mut command = self.command();
        command
            .args(arguments(&self.profile, self.limits))
            // One arena: each thread's would reserve 64 MiB of the address space that is limited.
            .env("MALLOC_ARENA_MAX", "1")
            // Its last words are told, and are few.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(words.try_clone()?))
            .process_group(0);
        ends_with_this_process(&mut command);
        let (mut child, _own) = Own::spawn(&mut command)?;
        let ended = pidfd(&child).and_then(|pidfd| {
            self.running.begin(&pidfd)?;
            let ended = wait(&mut child, &pidfd, began, self.limits.wall, &mut goes_on);
            self.running.ended(&pidfd);
            ended
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        match ended? {
            Some(status) if status.success() => {}
            Some(status) => return Err(self.failed(status, &last_words(words))),
            None => {
                return Err(CompileError::OverLimit(format!(
                    "compiling it takes more than {}: give it more time (compile.timeout)",
                    humantime::format_duration(self.limits.wall)
                )));
            }
        }
        output.seek(SeekFrom::Start(0))?;
        let mut said = Vec::new();
        output.read_to_end(&mut said)?;
        let (verdict, at) = parse(&said)
            .ok_or_else(|| CompileError::Failed { how: "what it says can't be read".into() })?;
        match verdict {
            Verdict::Compiled(survey) => Ok((survey, said.split_off(at))),
            Verdict::Refused(refusal) => Err(CompileError::Refused(refusal)),
        }
    }

    fn command(&self) -> Command {
        match &self.program {
            Some(program) => Command::new(program),
            None => platform::own_command(),
        }
    }

    fn failed(&self, status: ExitStatus, words: &str) -> CompileError {
        let signal = status.signal().and_then(Signal::from_named_raw);
        let out_of_memory = words.contains("memory allocation of")
            || words.contains("Cannot allocate memory")
            || words.contains("out of memory")
            || words.contains("failed to spawn thread");
        if out_of_memory {
            return CompileError::OverLimit(format!(
                "compiling it takes more than {} of memory: give it more (compile.memory_bytes), or make it smaller",
                ByteSize::b(self.limits.memory_bytes).display().iec()
            ));
        }
        match signal {
            Some(Signal::XCPU) => CompileError::OverLimit(format!(
                "compiling it takes more than {} of processor time: give it more (compile.cpu_time), or make it \
                 smaller",
                humantime::format_duration(self.limits.cpu)
            )),
            Some(Signal::XFSZ) => CompileError::OverLimit(format!(
                "its machine code has more than {}: make it smaller",
                ByteSize::b(super::limits::CODE_BYTES_MAX).display().iec()
            )),
            Some(Signal::KILL) => CompileError::Killed,
            _ if words.is_empty() => CompileError::Failed { how: status.to_string() },
            _ => CompileError::Failed { how: format!("{status}: {words}") },
        }
    }
}

/// It ends when this process does: nobody else wants to know.
fn ends_with_this_process(command: &mut Command) {
    let own = std::process::id();
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may be gone already.
            if std::os::unix::process::parent_id() == own {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
}

/// A file in memory that nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("duende-component", flags)?);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}

fn pidfd(child: &Child) -> io::Result<Arc<OwnedFd>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
    Ok(Arc::new(pidfd_open(pid, PidfdFlags::empty())?))
}

/// Waits for its end. None: its time was over, and it was killed.
fn wait(
    child: &mut Child,
    pidfd: &OwnedFd,
    began: Instant,
    wall: Duration,
    goes_on: &mut impl FnMut(Duration),
) -> io::Result<Option<ExitStatus>> {
    loop {
        let left = wall.saturating_sub(began.elapsed());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        let pause = left.min(PROGRESS_PERIOD);
        let timeout = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => goes_on(began.elapsed()),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The verdict, and where the machine code begins.
fn parse(said: &[u8]) -> Option<(Verdict, usize)> {
    let (length, rest) = said.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let verdict = postcard::from_bytes(rest.get(..length)?).ok()?;
    Some((verdict, 4 + length))
}

/// What it printed last, on one line.
fn last_words(mut words: File) -> String {
    let read = |words: &mut File| {
        let end = words.seek(SeekFrom::End(0))?;
        words.seek(SeekFrom::Start(end.saturating_sub(WORDS_BYTES_MAX)))?;
        let mut text = Vec::new();
        words.take(WORDS_BYTES_MAX).read_to_end(&mut text)?;
        io::Result::Ok(text)
    };
    let text = read(&mut words).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE"));
    terminal::harmless(&lines.collect::<Vec<_>>().join(" "))
}
