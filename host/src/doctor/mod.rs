//! What this machine offers, and what that means for daemons.
//!
//! Each check says what it found, what that means, and the way out if something is missing. What
//! could not be determined is said to be so; nothing is guessed without naming the evidence. The
//! checks look at the machine through [`Surroundings`] and [`Probes`], so that each can be tested on
//! any machine.

mod kernel;
mod tools;

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::cli::output::{Colour, paint};
use crate::confine::Layers;
use crate::image::Engine;
use crate::platform::{Surroundings, detect};
use crate::worker::Engines;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is there.
    Ok,
    /// It is there, with less than there could be.
    Limited,
    /// It is not there.
    Missing,
    /// It could not be determined.
    Unknown,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    const fn colour(self) -> Colour {
        match self {
            Self::Ok => Colour::Green,
            Self::Limited | Self::Unknown => Colour::Yellow,
            Self::Missing => Colour::Red,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: a stable word.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What that means for daemons.
    pub meaning: String,
    /// What to do about it; empty: nothing.
    pub way_out: String,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, finding: impl Into<String>) -> Self {
        let finding = finding.into();
        Self { name, verdict, finding, meaning: String::new(), way_out: String::new() }
    }

    fn means(mut self, meaning: impl Into<String>) -> Self {
        self.meaning = meaning.into();
        self
    }

    fn way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = way_out.into();
        self
    }
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of this program.
    pub version: &'static str,
    /// Where this process runs: `wos`, `pepita`, `container`, `systemd`, `launchd` or `native`.
    pub platform: &'static str,
    /// What says so.
    pub platform_evidence: String,
    /// Each thing that was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    /// The report for people.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "duende {}", self.version);
        let _ = writeln!(out, "platform: {} ({})\n", self.platform, self.platform_evidence);
        for check in &self.checks {
            let word = paint(check.verdict.as_str(), Some(check.verdict.colour()), colour);
            let gap = 8usize.saturating_sub(check.verdict.as_str().len());
            let _ = writeln!(out, "{word}{:gap$} {:16} {}", "", check.name, check.finding);
            for (label, text) in [("means", &check.meaning), ("way out", &check.way_out)] {
                if !text.is_empty() {
                    let _ = writeln!(out, "{:26}{label}: {text}", "");
                }
            }
        }
        out
    }
}

/// What the checks do besides reading files.
pub struct Probes<'p> {
    /// Runs a program and gives what it printed to standard output, if it ended well.
    pub run: &'p dyn Fn(&Path, &[&str]) -> Option<String>,
    /// Whether somebody accepts connections on a socket.
    pub connect: &'p dyn Fn(&Path) -> bool,
    /// Why a worker of so many components has no guarded engine, if it has none; or why it has none at all.
    pub engine: &'p dyn Fn(u32) -> Result<Option<String>, String>,
    /// What confines a process that meets a component, as one of ours that tried says.
    pub layers: &'p dyn Fn() -> Result<Layers, String>,
}

/// Looks at this machine.
#[must_use]
pub fn examine(surroundings: &Surroundings) -> Report {
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let connect = |socket: &Path| UnixStream::connect(socket).is_ok();
    let engine = |components| match Engines::for_fleet(components) {
        Ok(engines) => Ok(engines.reason().map(str::to_owned)),
        Err(error) => Err(format!("{error:#}")),
    };
    let layers = || match Engine::ask(None, 1) {
        Ok(engine) => Ok(engine.layers),
        Err(error) => Err(error.to_string()),
    };
    let probes = Probes { run: &run, connect: &connect, engine: &engine, layers: &layers };
    examine_with(surroundings, &probes)
}

/// As [`examine`], by other means.
#[must_use]
pub fn examine_with(surroundings: &Surroundings, probes: &Probes<'_>) -> Report {
    let (platform, platform_evidence) = detect(surroundings);
    let mut checks = tools::toolchain(surroundings, probes);
    checks.extend([
        kernel::kvm(surroundings),
        kernel::cgroups(surroundings),
        kernel::landlock(surroundings),
        tools::systemd(surroundings),
    ]);
    checks.extend(tools::container_engines(surroundings, probes));
    checks.extend([
        kernel::engine(probes),
        kernel::confinement(probes),
        kernel::max_map_count(surroundings),
        kernel::open_files(surroundings),
        tools::runtime_dir(surroundings),
    ]);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        platform: platform.as_str(),
        platform_evidence,
        checks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::Layer;

    /// A machine made of files and variables.
    struct Machine {
        root: tempfile::TempDir,
        surroundings: Surroundings,
    }

    fn machine(vars: &[(&str, &str)], files: &[(&str, &str)]) -> Machine {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("temporary directory");
        for (file, text) in files {
            let path = root.path().join(file.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(&path, text).expect("file");
            if file.starts_with("/bin/") {
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&path, mode).expect("chmod");
            }
        }
        let mut surroundings = Surroundings {
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            uid: 1000,
            open_files_max: None,
            root: root.path().to_owned(),
        };
        surroundings.vars.insert("PATH".into(), root.path().join("bin").into());
        Machine { root, surroundings }
    }

    /// Verdict and finding of one check on a machine; nobody answers on any socket but `socket`.
    #[track_caller]
    fn check(name: &str, files: &[(&str, &str)], socket: &str, expected: (Verdict, &str)) {
        let machine = machine(&[], files);
        let root = machine.root.path().to_owned();
        let run = |program: &Path, arguments: &[&str]| match (
            program.file_name()?.to_str()?,
            arguments,
        ) {
            ("rustc", ["--version"]) => Some("rustc 1.95.0 (abc 2026-01-01)".to_owned()),
            ("rustc", ["--print", "sysroot"]) => Some(root.join("sysroot").display().to_string()),
            _ => None,
        };
        let connect = |path: &Path| path == machine.surroundings.path(socket);
        let engine = |_| Ok(None);
        let probes = Probes { run: &run, connect: &connect, engine: &engine, layers: &full };
        let report = examine_with(&machine.surroundings, &probes);
        let found = report.checks.iter().find(|check| check.name == name).expect("check");
        assert_eq!(found.verdict, expected.0, "{found:?}");
        assert!(found.finding.contains(expected.1), "{found:?}");
        let needs_way_out = matches!(found.verdict, Verdict::Limited | Verdict::Missing);
        assert!(!needs_way_out || !found.way_out.is_empty(), "{found:?}");
        assert!(!found.meaning.is_empty(), "{found:?}");
    }

    fn full() -> Result<Layers, String> {
        Ok(vec![("seccomp".to_owned(), Layer::Full)])
    }

    #[test]
    fn a_layer_that_is_missing_is_named() {
        let missing = || Layer::Missing("no Landlock in this kernel".to_owned());
        for (layer, verdict, words) in [
            (Layer::Full, Verdict::Ok, "landlock, seccomp"),
            (Layer::Partly, Verdict::Limited, "landlock in part, seccomp"),
            (missing(), Verdict::Limited, "without landlock (no Landlock in this kernel); seccomp"),
        ] {
            let layers = || {
                Ok(vec![
                    ("landlock".to_owned(), layer.clone()),
                    ("seccomp".to_owned(), Layer::Full),
                ])
            };
            let engine = |_| Ok(None);
            let probes =
                Probes { run: &|_, _| None, connect: &|_| false, engine: &engine, layers: &layers };
            let found = kernel::confinement(&probes);
            assert_eq!((found.verdict, found.finding.as_str()), (verdict, words), "{found:?}");
        }
    }

    #[test]
    fn the_engine_is_the_one_that_the_addresses_are_there_for() {
        let fitting = |most: u32| {
            move |components: u32| {
                Ok((components > most).then(|| "`ulimit -v` leaves 1 GiB".to_owned()))
            }
        };
        for (most, verdict, finding) in [
            (1_000, Verdict::Ok, "guarded:"),
            (999, Verdict::Limited, "guarded for small fleets"),
            (0, Verdict::Limited, "checked:"),
        ] {
            let engine = fitting(most);
            let probes =
                Probes { run: &|_, _| None, connect: &|_| false, engine: &engine, layers: &full };
            let found = kernel::engine(&probes);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.starts_with(finding), "{found:?}");
            assert_eq!(found.meaning.contains("leaves 1 GiB"), verdict != Verdict::Ok, "{found:?}");
        }
    }

    #[test]
    fn toolchain() {
        check("rust", &[], "", (Verdict::Missing, "no rustc"));
        check("rust", &[("/bin/rustc", "")], "", (Verdict::Ok, "rustc 1.95.0"));
        check("wasm_target", &[("/bin/rustc", "")], "", (Verdict::Limited, "not installed"));
        let target = "/sysroot/lib/rustlib/wasm32-unknown-unknown/lib/libcore.rlib";
        check("wasm_target", &[("/bin/rustc", ""), (target, "")], "", (Verdict::Ok, "installed"));
    }

    #[test]
    fn kvm_and_its_backend() {
        let device = ("/dev/kvm", "");
        let vmx = ("/proc/cpuinfo", "flags\t\t: fpu vmx sse\n");
        let plain = ("/proc/cpuinfo", "flags\t\t: fpu sse\n");
        check("kvm", &[vmx], "", (Verdict::Missing, "/dev/kvm"));
        check("kvm", &[device, vmx, ("/sys/module/kvm_intel/x", "")], "", (Verdict::Ok, "VMX"));
        check(
            "kvm",
            &[device, plain, ("/sys/module/kvm_pvm/x", "")],
            "",
            (Verdict::Limited, "PVM"),
        );
        check("kvm", &[device, plain], "", (Verdict::Limited, "neither vmx nor svm"));
        check("kvm", &[device, vmx], "", (Verdict::Unknown, "could not be determined"));
    }

    #[test]
    fn cgroups_of_both_versions() {
        check("cgroups", &[], "", (Verdict::Missing, "no cgroup"));
        let v2 = ("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
        check("cgroups", &[v2], "", (Verdict::Ok, "v2: cpu memory pids"));
        let few = ("/sys/fs/cgroup/cgroup.controllers", "pids\n");
        check("cgroups", &[few], "", (Verdict::Limited, "v2: pids"));
        let v1 = (
            "/proc/self/mounts",
            "cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0\n\
             cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup2 /sys/fs/cgroup/u cgroup2 rw 0 0\n",
        );
        check("cgroups", &[v1], "", (Verdict::Limited, "v1: cpu cpuacct memory"));
    }

    #[test]
    fn kernel_figures() {
        let lsm = ("/sys/kernel/security/lsm", "capability,landlock,yama");
        let release = ("/proc/sys/kernel/osrelease", "6.18.1-test\n");
        check("landlock", &[lsm, release], "", (Verdict::Ok, "at least ABI 7"));
        check("landlock", &[release], "", (Verdict::Unknown, "could not be determined"));
        check("landlock", &[("/sys/kernel/security/lsm", "yama")], "", (Verdict::Missing, "yama"));
        let maps = |count| [("/proc/sys/vm/max_map_count", count)];
        check("max_map_count", &maps("65530\n"), "", (Verdict::Ok, "65530"));
        check("max_map_count", &maps("1000\n"), "", (Verdict::Limited, "1000"));
        check("max_map_count", &[], "", (Verdict::Unknown, "could not be"));
        let limits =
            |soft| format!("Limit  Soft  Hard  Units\nMax open files  {soft}  4096  files\n");
        check(
            "open_files",
            &[("/proc/self/limits", &limits("1024"))],
            "",
            (Verdict::Limited, "1024"),
        );
        check(
            "open_files",
            &[("/proc/self/limits", &limits("unlimited"))],
            "",
            (Verdict::Ok, "unl"),
        );
    }

    #[test]
    fn supervisors_of_others() {
        check("systemd", &[], "", (Verdict::Missing, "not running"));
        let both = [("/run/systemd/system/x", ""), ("/proc/1/comm", "systemd\n")];
        check("systemd", &both, "", (Verdict::Ok, "PID 1"));
        check("docker", &[], "", (Verdict::Missing, "no docker"));
        check("docker", &[("/bin/docker", "")], "", (Verdict::Limited, "does not answer"));
        check("docker", &[("/bin/docker", "")], "/var/run/docker.sock", (Verdict::Ok, "answers"));
        check("podman", &[("/bin/podman", "")], "", (Verdict::Ok, "podman"));
    }

    #[test]
    fn this_machine_is_examined_without_surprise() {
        let report = examine(&Surroundings::current());
        let text = report.render(false);
        assert!(report.checks.len() >= 10 && !text.contains('\x1b'), "{text}");
        let json = serde_json::to_value(&report).expect("serialises");
        assert_eq!(json["checks"][0]["name"], "rust");
    }
}
