//! What is run and not linked: programs of other projects, from `PATH` if they serve there, else from
//! Debian's packages below `target/debian`.
//!
//! A tool serves if it does here what it is wanted for: that is tried, whatever its version says. Tests
//! look below `target/debian` first, as a folder is there only if what the machine has did not serve;
//! see `duende_tests::tool`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debian::{Unpacked, Wanted};
use crate::shell::{self, Error};

/// A program or a library to preload.
pub(crate) struct Tool {
    /// Its file's name.
    name: &'static str,
    /// Where the machine may have it.
    of_the_machine: fn(&str) -> Vec<PathBuf>,
    /// Debian's packages of it.
    packages: Wanted,
    /// Where it is when they are unpacked.
    unpacked: fn(&Unpacked, &str) -> Vec<PathBuf>,
    /// Tries it.
    serves: fn(&Path) -> bool,
}

/// The emulator of a Cortex-M4.
pub(crate) const QEMU: Tool = Tool {
    name: "qemu-system-arm",
    of_the_machine: in_path,
    packages: Wanted { packages: &["qemu-system-arm"], beside: &["qemu-system-"], version_min: "" },
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| prints(Command::new(program).args(["-machine", "help"]), "mps2-an386"),
};

/// The supervisor that restarts are compared with; its `runsv` is in the same folder.
pub(crate) const RUNIT: Tool = Tool {
    name: "runsvdir",
    of_the_machine: in_path,
    packages: Wanted { packages: &["runit"], beside: &[], version_min: "" },
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| {
        program.with_file_name("runsv").is_file()
            && prints(&mut Command::new(program), "runsvdir [-P] dir")
    },
};

/// What rotates logs on most machines. Tests have it rotate those that are followed.
pub(crate) const LOGROTATE: Tool = Tool {
    name: "logrotate",
    // An ordinary user has no `sbin` among its folders.
    of_the_machine: |name| [in_path(name), in_sbin(name)].concat(),
    packages: Wanted { packages: &["logrotate"], beside: &[], version_min: "" },
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| prints(Command::new(program).arg("--version"), "Default mail command"),
};

/// The loggers that keep a `current` and name what is finished by a stamp: runit's, daemontools' and s6's.
pub(crate) const SVLOGD: Tool = Tool {
    name: "svlogd",
    of_the_machine: in_path,
    packages: RUNIT.packages,
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| prints(&mut Command::new(program), "svlogd [-ttv]"),
};
pub(crate) const MULTILOG: Tool = Tool {
    name: "multilog",
    of_the_machine: in_path,
    packages: Wanted { packages: &["daemontools"], beside: &[], version_min: "" },
    unpacked: |folder, name| vec![folder.program(name)],
    // It has no word of its own for what it takes: this is one about a folder that is not there.
    serves: |program| prints(Command::new(program).arg("/nowhere/log"), "multilog: fatal:"),
};
pub(crate) const S6_LOG: Tool = Tool {
    name: "s6-log",
    of_the_machine: in_path,
    packages: Wanted { packages: &["s6"], beside: &[], version_min: "" },
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| prints(&mut Command::new(program), "logging_script"),
};

/// What such a log is compressed with, beside gzip, which each Debian has.
pub(crate) const ZSTD: Tool = Tool {
    name: "zstd",
    of_the_machine: in_path,
    packages: Wanted { packages: &["zstd"], beside: &[], version_min: "" },
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| prints(Command::new(program).arg("--version"), "Zstandard"),
};

/// The library by which tests turn a program's clock: F101 back, and those of followed logs to the next day.
pub(crate) const FAKETIME: Tool = Tool {
    name: "libfaketime.so.1",
    of_the_machine: |name| faketimes(Path::new("/usr/lib"), name),
    packages: Wanted { packages: &["faketime"], beside: &["libfaketime"], version_min: "" },
    unpacked: |folder, name| faketimes(&folder.path("usr/lib"), name),
    serves: |library| {
        let mut date = Command::new("date");
        date.env("LD_PRELOAD", library).env("FAKETIME", "@1999-01-02 03:04:05");
        prints(date.arg("+in %Y"), "in 1999")
    },
};

/// What runs the client of `docs/control.md`.
pub(crate) const PYTHON: Tool = Tool {
    name: "python3",
    of_the_machine: in_path,
    packages: Wanted {
        packages: &["python3"],
        beside: &["python3", "libpython3"],
        version_min: "",
    },
    unpacked: |folder, name| vec![folder.program(name)],
    serves: |program| {
        let mut python = Command::new(program);
        prints(python.args(["-I", "-c", "import json, socket; print('serves')"]), "serves")
    },
};

/// A compiler for C++, which the fuzzer's engine is written in.
pub(crate) const CXX: Tool = Tool {
    name: "c++",
    of_the_machine: in_path,
    packages: Wanted {
        packages: &["g++"],
        beside: &["g++-", "gcc-", "cpp-", "libstdc++-", "libgcc-"],
        version_min: "",
    },
    // The name `c++` is made by an installation.
    unpacked: |folder, _| vec![folder.program("g++")],
    serves: |compiler| {
        let out = shell::target_dir().join("debian").join(format!("c++-{}", std::process::id()));
        let source = out.with_extension("cc");
        let text = "#include <iostream>\nint main() { std::cout << \"serves\\n\"; }\n";
        let built = fs::create_dir_all(source.parent().unwrap_or(&source)).is_ok()
            && fs::write(&source, text).is_ok()
            && Command::new(compiler)
                .arg(&source)
                .arg("-o")
                .arg(&out)
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        let serves = built && prints(&mut Command::new(&out), "serves");
        for leaving in [source, out] {
            let _ = fs::remove_file(leaving);
        }
        serves
    },
};

impl Tool {
    /// Finds it, or fetches it. Quick when it is there.
    pub(crate) fn prepare(&self) -> Result<PathBuf, Error> {
        let of_the_machine = (self.of_the_machine)(self.name);
        if let Some(found) = self.first_that_serves(of_the_machine) {
            return Ok(found);
        }
        let folder = Unpacked::prepare(&self.packages)?;
        if let Some(found) = self.first_that_serves((self.unpacked)(&folder, self.name)) {
            return Ok(found);
        }
        // What it takes from the machine may have changed since it was unpacked.
        folder.remove()?;
        let folder = Unpacked::prepare(&self.packages)?;
        let found = self.first_that_serves((self.unpacked)(&folder, self.name));
        found.ok_or_else(|| {
            let why = format!("{} was unpacked, but does not do its work here", self.name);
            self.packages.missing(why)
        })
    }

    fn first_that_serves(&self, places: Vec<PathBuf>) -> Option<PathBuf> {
        places.into_iter().find(|place| place.is_file() && (self.serves)(place))
    }
}

fn in_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).collect()
}

/// Where those programs lie that are meant for root.
fn in_sbin(name: &str) -> Vec<PathBuf> {
    ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(name)).to_vec()
}

/// Debian has a folder for each kind of processor between the two; others have none.
fn faketimes(lib: &Path, name: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
    let dirs = dirs.chain([lib.to_path_buf()]);
    dirs.map(|dir| dir.join("faketime").join(name)).collect()
}

/// Whether `text` is among what the command prints; it may fail after that.
fn prints(command: &mut Command, text: &str) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| {
        [output.stdout, output.stderr]
            .iter()
            .any(|printed| String::from_utf8_lossy(printed).contains(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found first but does not serve is passed over.
    #[test]
    fn the_first_that_serves_is_taken() {
        let tool = Tool {
            name: "sh",
            of_the_machine: in_path,
            packages: Wanted { packages: &[], beside: &[], version_min: "" },
            unpacked: |_, _| Vec::new(),
            serves: |program| prints(Command::new(program).args(["-c", "echo yes"]), "yes"),
        };
        let places = ["/nowhere/sh", "/bin/false", "/bin/sh", "/bin/bash"].map(PathBuf::from);
        assert_eq!(tool.first_that_serves(places.to_vec()), Some("/bin/sh".into()));
        assert_eq!(tool.first_that_serves(places[..2].to_vec()), None);
    }
}
