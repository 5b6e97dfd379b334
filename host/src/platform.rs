//! Where this process runs.
//!
//! What is looked at — variables, the user id, files — comes in through [`Surroundings`], so that
//! every answer can be tested on any machine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Starts the executable that this process runs, also once it was replaced or removed, under the name
/// by which lists of processes show it.
#[cfg(feature = "manager")]
pub(crate) fn own_command() -> std::process::Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("duende");
    command
}

/// Raises this process's soft limit of open files as far as it goes, and remembers what it was: see
/// [`inherited_open_files`]. Where raising is forbidden the old limit serves.
#[cfg(feature = "manager")]
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Some(soft) = current {
        let _ = INHERITED_OPEN_FILES.set(soft);
    }
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The soft limit of open files that this process was started with, if it was raised since: what the
/// programs that it starts are to have.
#[cfg(feature = "manager")]
#[must_use]
pub fn inherited_open_files() -> Option<u64> {
    INHERITED_OPEN_FILES.get().copied()
}

#[cfg(feature = "manager")]
static INHERITED_OPEN_FILES: std::sync::OnceLock<u64> = std::sync::OnceLock::new();

/// What a process can see of the place where it runs.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The environment's variables.
    pub vars: BTreeMap<OsString, OsString>,
    /// The effective user id.
    pub uid: u32,
    /// The hard limit of open files; none: there is no limit.
    pub open_files_max: Option<u64>,
    /// What `/` is. Another directory in tests.
    pub root: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn current() -> Self {
        Self {
            vars: std::env::vars_os().collect(),
            uid: rustix::process::geteuid().as_raw(),
            open_files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
            root: PathBuf::from("/"),
        }
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// An absolute path, seen from [`root`](Self::root).
    #[must_use]
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Whether an absolute path is there.
    #[must_use]
    pub fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).exists()
    }

    /// The text of a small file, if it can be read.
    #[must_use]
    pub fn read(&self, absolute: &str) -> Option<String> {
        std::fs::read_to_string(self.path(absolute)).ok()
    }

    /// The file of a program: found in `PATH` if the name has no slash.
    #[must_use]
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.var("PATH")?;
        std::env::split_paths(path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|candidate| is_executable(candidate))
    }

    /// The first place in `PATH` where a program can't be looked for, and why.
    pub(crate) fn barred_program(&self, name: &str) -> Option<(PathBuf, std::io::Error)> {
        std::env::split_paths(self.var("PATH")?)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find_map(|candidate| match std::fs::metadata(&candidate) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    Some((candidate, error))
                }
                Ok(_) | Err(_) => None,
            })
    }
}

/// Whether this is a file that somebody may execute.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The places that a program can find itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// Linux with systemd.
    Linux,
    /// macOS with launchd.
    MacOS,
    /// A container.
    Container,
    /// A pepita microVM.
    PepitaMicroVM,
    /// A process of a WebAssembly OS.
    Wos,
    /// None of these: a process of some operating system.
    Native,
}

impl Platform {
    /// The word that people and `--json` see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "systemd",
            Self::MacOS => "launchd",
            Self::Container => "container",
            Self::PepitaMicroVM => "pepita",
            Self::Wos => "wos",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where this process runs.
#[must_use]
pub fn detect_platform() -> Platform {
    detect(&Surroundings::current()).0
}

/// Where a process with these surroundings runs, and what says so. The first that holds of: WOS,
/// pepita, container, systemd, launchd, native.
#[must_use]
pub fn detect(surroundings: &Surroundings) -> (Platform, String) {
    if cfg!(target_arch = "wasm32") {
        return (Platform::Wos, "compiled to WebAssembly".to_owned());
    }
    // A variable says so by being there, whatever its value.
    let is_set = |name: &str| surroundings.vars.contains_key(OsStr::new(name));
    if is_set("WOS_KERNEL") {
        return (Platform::Wos, "WOS_KERNEL is set".to_owned());
    }
    if is_set("PEPITA_VM") {
        return (Platform::PepitaMicroVM, "PEPITA_VM is set".to_owned());
    }
    if surroundings.exists("/dev/virtio-ports") {
        return (Platform::PepitaMicroVM, "/dev/virtio-ports exists".to_owned());
    }
    if let Some(evidence) = container_evidence(surroundings) {
        return (Platform::Container, evidence);
    }
    if surroundings.exists("/run/systemd/system") {
        return (Platform::Linux, "/run/systemd/system exists".to_owned());
    }
    if cfg!(target_os = "macos") {
        return (Platform::MacOS, "compiled for macOS".to_owned());
    }
    (Platform::Native, "nothing else was recognised".to_owned())
}

/// The files and variables by which container engines can be known.
fn container_evidence(surroundings: &Surroundings) -> Option<String> {
    for file in ["/.dockerenv", "/run/.containerenv"] {
        if surroundings.exists(file) {
            return Some(format!("{file} exists"));
        }
    }
    // The field's convention: systemd, podman, LXC and nspawn set it for the first process.
    if let Some(engine) = surroundings.var("container") {
        return Some(format!("container={} is set", engine.to_string_lossy()));
    }
    let cgroup = surroundings.read("/proc/1/cgroup")?;
    let markers = ["docker", "containerd", "kubepods", "libpod", "/lxc/"];
    let marker = markers.into_iter().find(|marker| cgroup.contains(marker))?;
    Some(format!("/proc/1/cgroup names `{}`", marker.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is detected with these variables and files.
    #[track_caller]
    fn check(vars: &[&str], files: &[(&str, &str)], expected: Platform) {
        let root = tempfile::tempdir().expect("temporary directory");
        for (file, text) in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, text).expect("file");
        }
        let surroundings = Surroundings {
            vars: vars.iter().map(|name| (name.into(), "1".into())).collect(),
            uid: 1000,
            open_files_max: None,
            root: root.path().to_owned(),
        };
        assert_eq!(detect(&surroundings).0, expected, "{vars:?} {files:?}");
    }

    #[test]
    fn the_first_that_holds_wins() {
        let systemd = ("run/systemd/system/x", "");
        let docker = (".dockerenv", "");
        let virtio = ("dev/virtio-ports/x", "");
        check(&[], &[], Platform::Native);
        check(&[], &[systemd], Platform::Linux);
        check(&[], &[systemd, docker], Platform::Container);
        check(&[], &[("proc/1/cgroup", "0::/docker/abc\n")], Platform::Container);
        check(&[], &[("proc/1/cgroup", "0::/init.scope\n"), systemd], Platform::Linux);
        check(&["container"], &[], Platform::Container);
        check(&[], &[systemd, docker, virtio], Platform::PepitaMicroVM);
        check(&["PEPITA_VM"], &[docker], Platform::PepitaMicroVM);
        check(&["WOS_KERNEL", "PEPITA_VM"], &[docker, systemd], Platform::Wos);
    }
}
