//! What every verb needs: the repository's folders, and programs that are run with their failures
//! told in words.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Why a verb failed. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}; is it installed and in PATH?")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed; what it printed stands above.
    #[error("`{command}` failed ({status}); its own output above says why")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A target cannot be compiled for, and nothing here can change that.
    #[error(
        "no compiler for {target}: `rustup target add {target}` adds it to the one here; {why}"
    )]
    NoCompiler {
        /// The target's triple.
        target: &'static str,
        /// Why Debian's is not to be had either.
        why: String,
    },
    /// Packages are missing, and can't be unpacked here.
    #[error(
        "no {packages}: {why}; on Debian, `apt-get update` (as root) makes the lists of packages that are \
         read here, and `apt-get install {packages}` does what is done here without changing the machine; \
         elsewhere, install your system's packages of the same programs"
    )]
    NoPackages {
        /// What Debian calls them.
        packages: String,
        /// Why not.
        why: String,
    },
    /// Something was built or run that had to fail, and did not, or not for that reason.
    #[error("{0}")]
    Unproved(String),
    /// The arguments of a verb.
    #[error("{0}")]
    Usage(String),
    /// The verb has told its failures itself, before its last line.
    #[error("failed, as told above")]
    Reported,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder for everything that is built: `CARGO_TARGET_DIR`, or `target`.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Cargo's own folder: `CARGO_HOME`, or `.cargo` in the user's.
pub(crate) fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME")
        .map_or_else(|| std::env::home_dir().unwrap_or_default().join(".cargo"), PathBuf::from)
}

/// Says on standard error what is being done.
pub(crate) fn say(what: &str) {
    eprintln!("xtask: {what}");
}

/// Refuses arguments, for verbs that take none.
pub(crate) fn no_arguments(arguments: &[String]) -> Result<(), Error> {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(Error::Usage(format!("takes no argument, but got `{first}`"))),
    }
}

/// Runs a program to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| start_error(command, source))?;
    if status.success() { Ok(()) } else { Err(failed(command, status)) }
}

/// Runs a program to its end and returns what it printed on standard output, trimmed.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| start_error(command, source))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(failed(command, output.status))
    }
}

/// A program that cargo installs: the one in `PATH`, else the one below what is built, else it is
/// installed there, which takes minutes.
pub(crate) fn cargo_tool(name: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = target_dir().join("tools");
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend([cargo_home().join("bin"), tools.join("bin")]);
    let there = || places.iter().map(|place| place.join(name)).find(|program| program.is_file());
    if let Some(program) = there() {
        return Ok(program);
    }
    say(&format!("installing {name}, once; this takes minutes"));
    let mut cargo = Command::new("cargo");
    run(cargo.args(["install", name, "--locked", "--root"]).arg(&tools))?;
    there().ok_or_else(|| Error::Usage(format!("`cargo install {name}` installed no `{name}`")))
}

/// Wraps an error of a file operation.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    |source| Error::File { path, source }
}

/// The error for a program that could not be started.
pub(crate) fn start_error(command: &Command, source: io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// The error for a program that failed.
pub(crate) fn failed(command: &Command, status: ExitStatus) -> Error {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    Error::Failed { command: words.join(" "), status }
}
