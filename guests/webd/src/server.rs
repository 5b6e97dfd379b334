//! The daemon: it listens, accepts, reloads, drains, and answers for its health.
//!
//! - Ready means: the socket listens, and root and access log are open.
//! - At most [`CONNECTIONS_MAX`] connections are open; further ones wait in the kernel's queue.
//! - SIGHUP opens access log and root anew. What can't be opened keeps its old one, and stderr says
//!   why; it never ends the server.
//! - Asked to stop, it closes the listening socket, finishes the requests under way, and cuts what is
//!   left when the drain timeout (or nine tenths of the time that whoever asked allows) is over.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duende_daemon::{
    Daemon, DaemonConfig, DaemonContext, DaemonError, DaemonId, DaemonMetrics, ExitReason,
    HealthStatus, Priority, log,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};

use crate::access_log::AccessLog;
use crate::args::Args;
use crate::connection;
use crate::shared::Shared;
use crate::site::Site;

/// Most connections at one time.
const CONNECTIONS_MAX: usize = 1_024;

/// How long to wait when no connection can be accepted (no descriptor or memory left), before trying
/// again.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What `init` opened.
#[derive(Debug)]
struct Opened {
    shared: Arc<Shared>,
    /// Where the socket listens.
    address: SocketAddr,
    /// Taken by `run`.
    listener: Mutex<Option<StdListener>>,
}

/// The daemon.
#[derive(Debug)]
pub(crate) struct Webd {
    id: DaemonId,
    args: Args,
    opened: Option<Opened>,
}

impl Webd {
    pub(crate) fn new(id: DaemonId, args: Args) -> Self {
        Self { id, args, opened: None }
    }

    fn open(&self) -> Result<Opened, DaemonError> {
        let Args { root, access_log, listen, .. } = &self.args;
        let site = Site::open(root).map_err(|source| root_error(root, source))?;
        let log = AccessLog::open(access_log).map_err(|source| log_error(access_log, source))?;
        let listener = listen_on(*listen).map_err(|source| listen_error(*listen, source))?;
        let address = listener.local_addr().map_err(|source| listen_error(*listen, source))?;
        Ok(Opened {
            shared: Arc::new(Shared::new(site, log, self.args.diagnostics)),
            address,
            listener: Mutex::new(Some(listener)),
        })
    }

    fn opened(&self) -> Result<&Opened, DaemonError> {
        self.opened.as_ref().ok_or_else(|| DaemonError::Failed("init was not called".to_owned()))
    }

    /// Opens log and root anew.
    async fn reload(&self, shared: &Arc<Shared>) {
        if let Err(source) = shared.reopen_log() {
            kept(&log_error(&self.args.access_log, source));
        }
        let reopened = {
            let shared = shared.clone();
            spawn_blocking(move || shared.reopen_site()).await
        };
        if let Err(source) = reopened.map_err(io::Error::other).flatten() {
            kept(&root_error(&self.args.root, source));
        }
        log(Priority::Info, "webd: reloaded");
    }
}

fn kept(error: &DaemonError) {
    let text = error.with_causes();
    log(Priority::Error, format_args!("webd: reload keeps the old one: {text}"));
}

impl Daemon for Webd {
    fn id(&self) -> DaemonId {
        self.id
    }

    fn name(&self) -> &str {
        "webd"
    }

    async fn init(&mut self, _config: &DaemonConfig) -> Result<(), DaemonError> {
        self.opened = Some(self.open()?);
        Ok(())
    }

    async fn run(&self, ctx: &DaemonContext) -> Result<ExitReason, DaemonError> {
        let opened = self.opened()?;
        let shared = &opened.shared;
        let listener = opened.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = listener
            .ok_or_else(|| DaemonError::Failed("run was called twice".to_owned()))
            .and_then(|listener| {
                TcpListener::from_std(listener)
                    .map_err(|source| listen_error(opened.address, source))
            })?;
        let root = self.args.root.display();
        let status = format!("listening on {}, serving {root}", opened.address);
        log(Priority::Info, format_args!("webd: {status}"));
        ctx.status(&status);
        ctx.notify_ready();

        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = ctx.shutdown_requested() => break,
                reload = ctx.reload_requested() => {
                    self.reload(shared).await;
                    drop(reload);
                }
                Some(_) = connections.join_next() => {}
                (stream, peer) = accept(&listener, shared), if connections.len() < CONNECTIONS_MAX => {
                    let (shared, ctx) = (shared.clone(), ctx.clone());
                    connections.spawn(connection::serve(stream, peer.ip(), shared, ctx));
                }
            }
        }

        drop(listener);
        shared.accepts_no_more("stopping".to_owned());
        ctx.status(&format!("finishing {} connections", connections.len()));
        while connections.join_next().await.is_some() {}
        shared.all_are_served();
        Ok(ExitReason::Graceful)
    }

    async fn shutdown(&self, timeout: Duration) -> Result<(), DaemonError> {
        let shared = &self.opened()?.shared;
        // A tenth is kept for cutting and for ending.
        let allowed = timeout.saturating_sub(timeout / 10);
        let drain_timeout = self.args.drain_timeout.min(allowed);
        tokio::select! {
            biased;
            () = shared.drain_is_done() => {}
            () = tokio::time::sleep(drain_timeout) => {
                log(
                    Priority::Warning,
                    format_args!(
                        "webd: requests cut, not finished within {}: {}",
                        humantime::format_duration(drain_timeout),
                        shared.in_flight()
                    ),
                );
                shared.cut();
            }
        }
        Ok(())
    }

    async fn health_check(&self) -> HealthStatus {
        match &self.opened {
            Some(opened) => opened.shared.health().await,
            None => HealthStatus::unhealthy("init was not called", Duration::ZERO),
        }
    }

    fn metrics(&self) -> DaemonMetrics {
        self.opened.as_ref().map(|opened| opened.shared.metrics()).unwrap_or_default()
    }
}

/// The next connection. What fails for want of descriptors or memory is tried again; a client that
/// went away before it was accepted is none.
async fn accept(listener: &TcpListener, shared: &Shared) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                shared.accepts();
                // Answers are written whole; waiting for more to send with them only adds delay.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if shared.accepts_no_more(error.to_string()) {
                    log(Priority::Error, format_args!("webd: cannot accept connections: {error}"));
                }
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}

fn listen_on(address: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen_error(address: SocketAddr, source: io::Error) -> DaemonError {
    let (ip, port) = (address.ip(), address.port());
    let way_out = match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens there (`ss -ltnp 'sport = :{port}'` shows it): stop it, or \
             choose another port with --listen"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address {ip}: choose another with --listen")
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: choose another with --listen".to_owned()
        }
        _ => "choose another address with --listen".to_owned(),
    };
    DaemonError::Io { what: format!("cannot listen on {address}: {way_out}"), source }
}

fn root_error(root: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io {
        what: format!(
            "cannot serve {}: give a directory that this user may read with --root",
            root.display()
        ),
        source,
    }
}

fn log_error(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io {
        what: format!(
            "cannot append to the access log {}: give a file in an existing directory that this \
             user may write with --access-log",
            path.display()
        ),
        source,
    }
}
