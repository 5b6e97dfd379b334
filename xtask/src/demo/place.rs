//! Where a demo runs: a directory of its own, laid out as the repository is, so that `edge.toml` is used
//! as it stands, and several demos can run at once.
//!
//! ```text
//! target/demo/PID/examples/edge.toml   a copy; access.log appears beside it
//!                /examples/public    → the repository's
//!                /target, /artifacts → the repository's
//!                /state
//!                /log                  the one thing that stays; access.log is moved here
//! /tmp/duende-demo-PID/                the sockets: their paths must be short
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::DemoError;
use crate::shell;

/// The address in `edge.toml`.
const ADDRESS: &str = "127.0.0.1:8731";
/// The ports that are tried if that one is taken. Not one that the system hands out by itself: while the
/// server is away, that could be given to a client, even to the demo's own connection.
const OTHER_PORTS: std::ops::Range<u16> = 8_732..9_732;

/// The directories of one demo.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    /// For sockets.
    pub(super) runtime_dir: PathBuf,
}

impl Place {
    /// Makes the directories of this process's demo, and removes those of earlier ones.
    pub(super) fn make() -> Result<Self, DemoError> {
        let all = shell::target_dir().join("demo");
        fs::create_dir_all(&all).map_err(at(&all))?;
        remove_abandoned(&all)?;
        let place = Self::of(&all, std::process::id());
        for dir in [&place.dir, &place.examples(), &place.log_dir()] {
            fs::create_dir(dir).map_err(at(dir))?;
        }
        DirBuilder::new().mode(0o700).create(&place.runtime_dir).map_err(at(&place.runtime_dir))?;
        let links = [
            (shell::target_dir(), place.dir.join("target")),
            (shell::root().join("artifacts"), place.dir.join("artifacts")),
            (shell::root().join("examples/public"), place.examples().join("public")),
        ];
        for (original, link) in links {
            symlink(original, &link).map_err(at(&link))?;
        }
        Ok(place)
    }

    fn of(all: &Path, process: u32) -> Self {
        Self {
            dir: all.join(process.to_string()),
            runtime_dir: std::env::temp_dir().join(format!("duende-demo-{process}")),
        }
    }

    /// Copies `edge.toml`, with another port if its own is taken, and returns where webd will listen.
    pub(super) fn write_config(&self) -> Result<(SocketAddr, bool), DemoError> {
        let original = shell::root().join("examples/edge.toml");
        let mut text = fs::read_to_string(&original).map_err(at(&original))?;
        if text.matches(ADDRESS).count() != 1 {
            return Err(DemoError::Config(format!("it does not name {ADDRESS} just once")));
        }
        let mut address: SocketAddr = ADDRESS
            .parse()
            .map_err(|_| DemoError::Config("its address is malformed".to_owned()))?;
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let is_moved = !is_free(&address.port());
        if is_moved {
            // Each demo begins elsewhere, so that two that start at once do not choose the same.
            let begin = usize::try_from(std::process::id()).unwrap_or(0) % OTHER_PORTS.len();
            let port = OTHER_PORTS
                .cycle()
                .skip(begin)
                .take(OTHER_PORTS.len())
                .find(is_free)
                .ok_or(DemoError::NoPort)?;
            address.set_port(port);
            text = text.replace(ADDRESS, &address.to_string());
        }
        let copy = self.config();
        fs::write(&copy, text).map_err(at(&copy))?;
        Ok((address, is_moved))
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.examples().join("edge.toml")
    }

    /// Where the fleet's state lies.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where logs lie.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What webd writes and the sentinels read.
    pub(super) fn access_log(&self) -> PathBuf {
        self.examples().join("access.log")
    }

    /// What `flaky` is told in.
    pub(super) fn flaky_commands(&self) -> PathBuf {
        self.examples().join("flaky.commands")
    }

    fn examples(&self) -> PathBuf {
        self.dir.join("examples")
    }

    /// Whole lines of the access log.
    pub(super) fn access_log_lines(&self) -> Result<u64, DemoError> {
        let path = self.access_log();
        let mut reader = BufReader::new(File::open(&path).map_err(at(&path))?);
        let (mut lines, mut line) = (0, Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(at(&path))? > 0 {
            lines += u64::from(line.ends_with(b"\n"));
            line.clear();
        }
        Ok(lines)
    }

    /// The processes of the fleet that are left: all that have this demo's runtime directory in their
    /// environment, which each inherits from the manager.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mark = format!("DUENDE_RUNTIME_DIR={}", self.runtime_dir.display());
        let is_marked = |pid: &u32| {
            // Another user's process can't be read, and is none of ours.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_marked).collect()
    }

    /// Kills what is left of the fleet.
    pub(super) fn kill_processes(&self) {
        for pid in self.processes() {
            kill(pid);
        }
    }

    /// Sockets that are left.
    pub(super) fn sockets(&self) -> Result<Vec<PathBuf>, DemoError> {
        let entries = fs::read_dir(&self.runtime_dir).map_err(at(&self.runtime_dir))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }

    /// Removes everything but the logs.
    pub(super) fn remove(&self) -> Result<(), DemoError> {
        let access_log = self.access_log();
        if access_log.exists() {
            let kept = self.log_dir().join("access.log");
            fs::rename(&access_log, &kept).map_err(at(&access_log))?;
        }
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))?.flatten() {
            let path = entry.path();
            if path != self.log_dir() {
                remove(&path)?;
            }
        }
        remove(&self.runtime_dir)
    }
}

/// Ends a process now.
pub(super) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Stops a process where it is, without its knowing.
pub(super) fn freeze(pid: u32) {
    signal(pid, Signal::STOP);
}

/// Sends a signal. A process that has ended gets none, and the events of the fleet tell of its end.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Removes the logs of earlier demos, and what was left by one that was itself killed.
fn remove_abandoned(all: &Path) -> Result<(), DemoError> {
    for entry in fs::read_dir(all).map_err(at(all))?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if process == std::process::id() || !Path::new(&format!("/proc/{process}")).exists() {
            let abandoned = Place::of(all, process);
            abandoned.kill_processes();
            remove(&abandoned.runtime_dir)?;
            remove(&abandoned.dir)?;
        }
    }
    Ok(())
}

/// Removes a file, a link (not what it leads to) or a directory, if there is one.
fn remove(path: &Path) -> Result<(), DemoError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> DemoError {
    let path = path.to_path_buf();
    |source| DemoError::File { path, source }
}
