//! `cargo xtask firmware`: the core on a Cortex-M4, in QEMU.
//!
//! An image is built like any program for its target; the linker refuses one that needs more flash or
//! RAM than its `memory.x` allows, or in which a panic is reachable. Nothing here passes silently: where
//! QEMU is missing it is fetched, or the verb fails and says what to install.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shell::{self, Error, at};
use crate::wasm::{THUMBV7EM, Target, Toolchain, WASM32};
use crate::{guests, tools};

/// The board: a Cortex-M4. Time passes by instructions, not by the wall's clock, so that each run is like
/// the other; while the processor sleeps it passes at once.
const MACHINE: [&str; 12] = [
    "-machine",
    "mps2-an386",
    "-icount",
    "shift=5,sleep=off",
    "-display",
    "none",
    "-monitor",
    "none",
    "-serial",
    "none",
    "-semihosting-config",
    "enable=on,target=native",
];

/// The function that the panic handlers call, which nobody defines.
const UNDEFINED: &str = "undefined symbol: a_panic_is_reachable";

/// A program for the board.
#[derive(Clone, Copy)]
struct Image {
    package: &'static str,
    program: &'static str,
    features: &'static str,
    /// Its name in `artifacts/`.
    artifact: &'static str,
}

const FIRMWARE: Image = Image {
    package: "duende-firmware",
    program: "firmware",
    features: "board",
    artifact: "firmware.elf",
};

/// It breaks an invariant of its own.
const BROKEN: Image =
    Image { features: "board,prove-epitaph", artifact: "firmware-broken.elf", ..FIRMWARE };

/// A panic is reachable in it.
const PANICKING: Image = Image { features: "prove-panic-check", ..FIRMWARE };

/// Plays a recorded run.
const REPLAY: Image = Image {
    package: "duende-replay",
    program: "replay-metal",
    features: "metal",
    artifact: "replay.elf",
};

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    shell::no_arguments(arguments)?;
    let qemu = tools::QEMU.prepare()?;
    build()?;
    let image = artifact(FIRMWARE.artifact);
    shell::run(Command::new(qemu).args(MACHINE).arg("-kernel").arg(image).stdin(Stdio::null()))
}

/// Builds the images that tests run, and the replay as WebAssembly, into `artifacts/`.
pub(crate) fn build() -> Result<(), Error> {
    let artifacts = artifact("");
    fs::create_dir_all(&artifacts).map_err(at(&artifacts))?;
    for image in [FIRMWARE, BROKEN, REPLAY] {
        shell::run(&mut cargo("build", image)?)?;
        let built = built(THUMBV7EM).join(image.program);
        guests::copy_if_changed(&built, &artifact(image.artifact))?;
    }
    // Both kinds, as a package that is a component and a library has them: cargo then does not optimise
    // the program together with the standard library, which not every compiler here could.
    let mut cargo = Toolchain::prepare(WASM32)?.cargo("rustc")?;
    cargo.args(["--quiet", "--lib", "-p", REPLAY.package, "--crate-type", "cdylib,rlib"]);
    // Plain functions of numbers: a module, and no component.
    shell::run(cargo.args(["--", "-Clink-arg=--skip-wit-component"]))?;
    guests::copy_if_changed(&built(WASM32).join("duende_replay.wasm"), &artifact("replay.wasm"))
}

/// Shows that the linker refuses an image in which a panic is reachable.
pub(crate) fn prove_panic_check() -> Result<(), Error> {
    let mut cargo = cargo("build", PANICKING)?;
    let output = cargo.output().map_err(|source| shell::start_error(&cargo, source))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Err(Error::Unproved("the image links although a panic is reachable".to_owned()))
    } else if text.contains(UNDEFINED) {
        Ok(())
    } else {
        Err(Error::Unproved(format!("{text}\nthe image was to fail by `{UNDEFINED}`")))
    }
}

/// Lints the images, which are other code than the libraries; warnings are errors.
pub(crate) fn clippy() -> Result<(), Error> {
    for image in [FIRMWARE, REPLAY] {
        shell::run(cargo("clippy", image)?.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// A file that tests use.
fn artifact(name: &str) -> PathBuf {
    shell::root().join("artifacts").join(name)
}

/// Where cargo puts what it builds for a target.
fn built(target: Target) -> PathBuf {
    shell::target_dir().join("guests").join(target.triple).join("guest")
}

fn cargo(verb: &str, image: Image) -> Result<Command, Error> {
    let mut cargo = Toolchain::prepare(THUMBV7EM)?.cargo(verb)?;
    let Image { package, program, features, .. } = image;
    cargo.args(["--quiet", "-p", package, "--bin", program, "--features", features]);
    Ok(cargo)
}
