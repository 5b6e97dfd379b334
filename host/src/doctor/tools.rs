//! Toolchain, other supervisors, and the place of the control sockets.

use std::path::Path;

use crate::config::dirs::{self, RuntimeDirError};
use crate::platform::Surroundings;

use super::{Check, Probes, Verdict};

const TARGET: &str = "wasm32-unknown-unknown";

/// The compiler, and its target for components.
pub(super) fn toolchain(surroundings: &Surroundings, probes: &Probes<'_>) -> Vec<Check> {
    let rustc = surroundings.find_program("rustc");
    let version = rustc.as_deref().and_then(|rustc| (probes.run)(rustc, &["--version"]));
    let means = "needed to build daemons, not to run them";
    let (Some(rustc), Some(version)) = (rustc, version) else {
        let rust = Check::new("rust", Verdict::Missing, "no rustc that works in PATH")
            .means(means)
            .way_out("install Rust from https://rustup.rs");
        let target = Check::new("wasm_target", Verdict::Unknown, "not looked for: no rustc")
            .means("needed to build components, not to run them");
        return vec![rust, target];
    };
    let rust = Check::new("rust", Verdict::Ok, version).means(means);
    vec![rust, wasm_target(&rustc, probes)]
}

fn wasm_target(rustc: &Path, probes: &Probes<'_>) -> Check {
    const NAME: &str = "wasm_target";
    let means = "needed to build components, not to run them";
    let Some(sysroot) = (probes.run)(rustc, &["--print", "sysroot"]) else {
        return Check::new(NAME, Verdict::Unknown, "rustc does not say where it lives")
            .means(means);
    };
    let libraries = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib");
    if libraries.is_dir() {
        return Check::new(NAME, Verdict::Ok, format!("{TARGET} is installed")).means(means);
    }
    Check::new(NAME, Verdict::Limited, format!("{TARGET} is not installed in {sysroot}"))
        .means(means)
        .way_out(format!("cargo xtask setup (it finds a way), or: rustup target add {TARGET}"))
}

/// systemd as the machine's own supervisor.
pub(super) fn systemd(surroundings: &Surroundings) -> Check {
    const NAME: &str = "systemd";
    let means = "daemons as systemd units are not in this version";
    let first = surroundings.read("/proc/1/comm").unwrap_or_default();
    let runs = surroundings.exists("/run/systemd/system");
    match (first.trim(), runs) {
        ("systemd", true) => Check::new(NAME, Verdict::Ok, "is PID 1").means(means),
        (first, true) => {
            let finding = format!("/run/systemd/system exists, and PID 1 is `{first}`");
            Check::new(NAME, Verdict::Limited, finding)
                .means(means)
                .way_out("boot with systemd as PID 1")
        }
        (first, false) => {
            let first = if first.is_empty() { "not known" } else { first };
            Check::new(NAME, Verdict::Missing, format!("not running; PID 1 is {first}"))
                .means(means)
                .way_out("none is needed: duende supervises by itself")
        }
    }
}

/// Docker and podman: the client, and whether its engine answers.
pub(super) fn container_engines(surroundings: &Surroundings, probes: &Probes<'_>) -> Vec<Check> {
    vec![docker(surroundings, probes), podman(surroundings)]
}

const CONTAINERS_MEAN: &str = "daemons in containers are not in this version";

fn docker(surroundings: &Surroundings, probes: &Probes<'_>) -> Check {
    const NAME: &str = "docker";
    if surroundings.find_program("docker").is_none() {
        return Check::new(NAME, Verdict::Missing, "no docker in PATH")
            .means(CONTAINERS_MEAN)
            .way_out("apt-get install docker.io, if you want it");
    }
    let socket = match surroundings.var("DOCKER_HOST").and_then(|host| host.to_str()) {
        None => surroundings.path("/var/run/docker.sock"),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) => path.into(),
            None => {
                let finding = format!("client found; DOCKER_HOST={host} was not asked");
                return Check::new(NAME, Verdict::Unknown, finding).means(CONTAINERS_MEAN);
            }
        },
    };
    let shown = socket.display();
    if (probes.connect)(&socket) {
        return Check::new(
            NAME,
            Verdict::Ok,
            format!("client found; the engine answers on {shown}"),
        )
        .means(CONTAINERS_MEAN);
    }
    let finding = format!("client found; the engine does not answer on {shown}");
    Check::new(NAME, Verdict::Limited, finding)
        .means(CONTAINERS_MEAN)
        .way_out("start dockerd, or join the group docker")
}

fn podman(surroundings: &Surroundings) -> Check {
    const NAME: &str = "podman";
    if surroundings.find_program("podman").is_none() {
        return Check::new(NAME, Verdict::Missing, "no podman in PATH")
            .means(CONTAINERS_MEAN)
            .way_out("apt-get install podman, if you want it");
    }
    Check::new(NAME, Verdict::Ok, "podman found; it needs no engine").means(CONTAINERS_MEAN)
}

/// Where control sockets would lie.
pub(super) fn runtime_dir(surroundings: &Surroundings) -> Check {
    const NAME: &str = "runtime_dir";
    let path = dirs::runtime_dir(surroundings);
    let means = "the control sockets of fleets lie there";
    match dirs::check_runtime_dir(&path, surroundings.uid) {
        Ok(()) => Check::new(NAME, Verdict::Ok, path.display().to_string()).means(means),
        Err(RuntimeDirError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let finding = format!("{} will be created by the first fleet", path.display());
            Check::new(NAME, Verdict::Ok, finding).means(means)
        }
        Err(error) => Check::new(NAME, Verdict::Limited, path.display().to_string())
            .means(means)
            .way_out(error.to_string()),
    }
}
