//! The daemon's end of the link to the manager: the messages of `duende_core::wire::link`, in frames,
//! over a stream socket that the process inherited.
//!
//! Rules:
//! 1. A future of this module may be dropped at any await. What is half read or half written lies in
//!    [`Link`], never in a future.
//! 2. A command is read only when all answers were written: a manager that does not read can't make
//!    the queue of answers grow.
//! 3. At most one health check is under way. A second question meanwhile is answered `Busy`, at once.
//! 4. Commands for another address are of another incarnation and ignored.
//! 5. The limits, level and grants of the description are not for this end: what a native process may use,
//!    the manager enforces from outside. State and channels, which only the SDK's natives have, are
//!    refused, and so is a required limit or capability that this build does not know by name.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use duende_core::wire::link::{
    Address, Command, Event, Grants, HealthReport, Limits, Outcome, TEXT_BYTES_MAX,
};
use duende_core::wire::{
    Decoder, EncodeError, FRAME_BYTES_MAX, FrameError, Hello, HelloError, Role, encode,
};
use tokio::net::UnixStream;

use super::context::{Stop, StopCause};
use super::{Daemon, DaemonConfig, DaemonContext, DaemonMetrics, HealthStatus, Priority, log};

/// Longest frame that a native daemon sends: a text at its limit, and what stands around it.
const EVENT_BYTES_MAX: usize = TEXT_BYTES_MAX + 512;

/// Why the link can't be used any longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The manager closed it or died.
    #[error("the manager closed the link")]
    Closed,
    /// The system refused to read or write.
    #[error("the link failed: {0}")]
    Io(#[from] io::Error),
    /// The manager sent what is no frame.
    #[error("the manager does not speak this link: {0}")]
    Frame(#[from] FrameError),
    /// The manager speaks no version of the link that is spoken here.
    #[error("{0}")]
    Hello(#[from] HelloError),
    /// An answer does not fit.
    #[error("an answer cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// The manager asks for what a daemon of this trait can't do.
    #[error("the manager sent {0}")]
    Refused(&'static str),
}

/// Why [`Link::serve`] returned.
#[derive(Debug)]
pub(super) enum ServeEnd {
    /// The manager said: end now.
    Killed,
    /// The link is gone.
    Lost(LinkError),
}

/// What a command asks for, without what it borrows.
enum Asked {
    Nothing,
    Health { token: u64 },
    Metrics { token: u64 },
    Shutdown { grace: Duration },
    Reload,
    Kill,
    Refuse(&'static str),
}

impl Asked {
    /// Something by a name: it is nothing to do where the name is known, and `what` is refused where it is
    /// not, if it is required.
    const fn known_or(is_known: bool, required: bool, what: &'static str) -> Self {
        if is_known || !required { Self::Nothing } else { Self::Refuse(what) }
    }
}

/// A health check under way.
struct Checking<'a> {
    token: u64,
    since: Instant,
    status: Pin<Box<dyn Future<Output = HealthStatus> + Send + 'a>>,
}

/// The daemon's end.
pub(super) struct Link {
    stream: UnixStream,
    decoder: Decoder<Vec<u8>>,
    /// Where one frame is made.
    frame: Vec<u8>,
    /// Frames to write; the first `written` bytes are gone already.
    out: Vec<u8>,
    written: usize,
    /// What the manager calls this daemon; set by its `Create`.
    at: Address,
}

impl Link {
    /// A link over a connected, non-blocking stream.
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            decoder: Decoder::new(vec![0; FRAME_BYTES_MAX]),
            frame: vec![0; EVENT_BYTES_MAX],
            out: Vec::new(),
            written: 0,
            at: Address::of(0, 0),
        })
    }

    /// Says hello and reads everything up to `Start`.
    pub(super) async fn handshake(&mut self, name: &str) -> Result<DaemonConfig, LinkError> {
        let hello = Hello::of(Role::TRAIT);
        let bytes = encode(&hello, &mut self.frame)?;
        self.out.extend_from_slice(self.frame.get(..bytes).unwrap_or_default());
        self.flush().await?;
        while hello.hear(&mut self.decoder)?.is_none() {
            self.fill().await?;
        }
        let mut config = None;
        loop {
            match self.decoder.next::<Command<'_>>()? {
                None => self.fill().await?,
                Some(Command::Create { at, name: given, .. }) => {
                    self.at = at;
                    config = Some(DaemonConfig::new(if given.is_empty() { name } else { given }));
                }
                Some(Command::ConfigEntry { key, value, .. }) => {
                    let config =
                        config.as_mut().ok_or(LinkError::Refused("ConfigEntry before Create"))?;
                    if !config.insert(key, value) {
                        return Err(LinkError::Refused("more configuration than a daemon takes"));
                    }
                }
                Some(Command::Start { .. }) => {
                    return config.ok_or(LinkError::Refused("Start before Create"));
                }
                Some(command) => {
                    if let Asked::Refuse(what) = asked(&command, self.at) {
                        return Err(LinkError::Refused(what));
                    }
                }
            }
        }
    }

    /// Says that `init` returned.
    pub(super) async fn running(&mut self) -> Result<(), LinkError> {
        self.queue(&Event::Running { at: self.at, pid: std::process::id() })?;
        self.flush().await
    }

    /// Says how the daemon ended.
    pub(super) async fn exited(&mut self, outcome: Outcome, reason: &str) -> Result<(), LinkError> {
        let code = u8::from(outcome != Outcome::Graceful);
        self.queue(&Event::Exited { at: self.at, outcome, code, reason: bounded(reason) })?;
        self.flush().await
    }

    /// Answers commands until the link ends. Without a daemon (while `init` has it) health is `Busy`
    /// and there are no figures.
    pub(super) async fn serve<D: Daemon>(
        &mut self,
        daemon: Option<&D>,
        ctx: &DaemonContext,
    ) -> ServeEnd {
        match self.answer(daemon, ctx).await {
            Ok(()) => ServeEnd::Killed,
            Err(error) => ServeEnd::Lost(error),
        }
    }

    async fn answer<D: Daemon>(
        &mut self,
        daemon: Option<&D>,
        ctx: &DaemonContext,
    ) -> Result<(), LinkError> {
        let since = Instant::now();
        let mut checking: Option<Checking<'_>> = None;
        let mut is_reloading = false;
        loop {
            self.flush().await?;
            let command = self.decoder.next::<Command<'_>>()?;
            match command.map(|command| asked(&command, self.at)) {
                None => {
                    let status = async {
                        match checking.as_mut() {
                            Some(checking) => checking.status.as_mut().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        read = self.fill() => read?,
                        () = ctx.reload_done(), if is_reloading => {
                            is_reloading = false;
                            self.queue(&Event::Reloaded { at: self.at })?;
                        }
                        status = status => {
                            if let Some(checking) = checking.take() {
                                self.queue_health(checking.token, &status)?;
                            }
                        }
                    }
                }
                Some(Asked::Nothing) => {}
                Some(Asked::Health { token }) => match (daemon, &checking) {
                    (Some(daemon), None) => {
                        checking = Some(Checking {
                            token,
                            since: Instant::now(),
                            status: Box::pin(daemon.health_check()),
                        });
                    }
                    (_, checking) => {
                        let since = checking.as_ref().map_or(since, |checking| checking.since);
                        self.queue_busy(token, since.elapsed())?;
                    }
                },
                Some(Asked::Metrics { token }) => {
                    let metrics = daemon.map(Daemon::metrics).unwrap_or_default();
                    self.queue_metrics(token, &metrics)?;
                }
                Some(Asked::Shutdown { grace }) => {
                    ctx.request_stop(Stop { cause: StopCause::Manager, timeout: grace });
                }
                Some(Asked::Reload) => {
                    ctx.request_reload();
                    is_reloading = true;
                }
                Some(Asked::Kill) => return Ok(()),
                Some(Asked::Refuse(what)) => return Err(LinkError::Refused(what)),
            }
        }
    }

    fn queue_health(&mut self, token: u64, status: &HealthStatus) -> Result<(), LinkError> {
        let (failures, degradations) = (status.failures(), status.degradations());
        let report = if !failures.is_empty() {
            HealthReport::Unhealthy(bounded(&failures))
        } else if !degradations.is_empty() {
            HealthReport::Degraded(bounded(&degradations))
        } else {
            HealthReport::Healthy
        };
        self.queue_report(token, report)
    }

    fn queue_busy(&mut self, token: u64, since: Duration) -> Result<(), LinkError> {
        let slice_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.queue_report(token, HealthReport::Busy { slice_ns })
    }

    fn queue_report(&mut self, token: u64, report: HealthReport<'_>) -> Result<(), LinkError> {
        self.queue(&Event::Health {
            at: self.at,
            token,
            report,
            memory_bytes: resident_bytes().unwrap_or(0),
        })
    }

    fn queue_metrics(&mut self, token: u64, metrics: &DaemonMetrics) -> Result<(), LinkError> {
        let at = self.at;
        if metrics.refused() > 0 {
            log(
                Priority::Warning,
                format_args!("{} figures were left out: bad name or too many", metrics.refused()),
            );
        }
        for sample in metrics.samples() {
            self.queue(&Event::Sample {
                at,
                token,
                name: sample.name,
                counter: sample.counter,
                value: sample.value,
            })?;
        }
        self.queue(&Event::SamplesEnd { at, token })
    }

    fn queue(&mut self, event: &Event<'_>) -> Result<(), LinkError> {
        let bytes = encode(event, &mut self.frame)?;
        self.out.extend_from_slice(self.frame.get(..bytes).unwrap_or_default());
        Ok(())
    }

    /// Writes what is queued.
    async fn flush(&mut self) -> Result<(), LinkError> {
        while let Some(rest) = self.out.get(self.written..)
            && !rest.is_empty()
        {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(bytes) => self.written = self.written.saturating_add(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Waits for more bytes of the stream.
    async fn fill(&mut self) -> Result<(), LinkError> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(self.decoder.spare()) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(bytes) => {
                    self.decoder.filled(bytes);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn asked(command: &Command<'_>, own: Address) -> Asked {
    let (at, asked) = match *command {
        Command::HealthCheck { at, token } => (at, Asked::Health { token }),
        Command::Metrics { at, token } => (at, Asked::Metrics { token }),
        Command::Shutdown { at, grace_ns } => {
            (at, Asked::Shutdown { grace: Duration::from_nanos(grace_ns) })
        }
        Command::Kill { at } => (at, Asked::Kill),
        Command::ChannelOpen { at, granted: false, .. } => (at, Asked::Nothing),
        Command::Create { at, .. } => (at, Asked::Refuse("a second Create")),
        // What every peer knows by name is of things that daemons of the async trait do not have; their
        // process is limited from outside.
        Command::Setting { at, name, required, .. } => {
            let is_known = Limits::NONE.clone().set(name, 0);
            (at, Asked::known_or(is_known, required, "a limit that this program does not know"))
        }
        Command::Grant { at, capability, required } => {
            let is_known = Grants::of_word(capability).is_some();
            (
                at,
                Asked::known_or(is_known, required, "a capability that this program does not know"),
            )
        }
        // The table is read at the start; what is read anew is the daemon's own to decide.
        Command::ConfigEntry { at, .. } => (at, Asked::Nothing),
        Command::Start { at } => (at, Asked::Refuse("a second Start")),
        Command::Pause { at } | Command::Resume { at } => {
            (at, Asked::Refuse("a pause, which is for the process: stop it with SIGSTOP"))
        }
        Command::Reload { at } => (at, Asked::Reload),
        Command::StateEntry { at, .. } => {
            (at, Asked::Refuse("durable state, which daemons of the async trait do not have"))
        }
        Command::ChannelOpen { at, .. } | Command::Messages { at, .. } => {
            (at, Asked::Refuse("a channel, which daemons of the async trait do not have"))
        }
    };
    if at == own { asked } else { Asked::Nothing }
}

/// At most the bytes that a text of the link has, cut at a character.
fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// The process's resident memory in bytes; `None` where there is no `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1_024)
}
