//! `cargo xtask firmware`: the core on a Cortex-M4, in QEMU.
//!
//! An image is built like any program for its target; the linker refuses one that needs more flash or
//! RAM than its `memory.x` allows, or in which a panic is reachable. Nothing here passes silently: where
//! QEMU is missing it is installed, or the verb fails and says what to install.

use std::fs;
use std::process::{Command, Stdio};

use crate::shell::{self, Error, at, say};
use crate::wasm::{THUMBV7EM, Toolchain};
use crate::{debian, guests};

/// The emulator, and Debian's package of it.
const QEMU: &str = "qemu-system-arm";

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

const PACKAGE: &str = "duende-firmware";

/// The function that the panic handler calls, which nobody defines.
const UNDEFINED: &str = "undefined symbol: a_panic_is_reachable";

/// Images: the name in `artifacts/`, and the feature that makes it.
const IMAGES: [(&str, &str); 2] =
    [("firmware.elf", "board"), ("firmware-broken.elf", "board,prove-epitaph")];

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    shell::no_arguments(arguments)?;
    prepare_emulator()?;
    build()?;
    let image = shell::root().join("artifacts").join(IMAGES[0].0);
    shell::run(Command::new(QEMU).args(MACHINE).arg("-kernel").arg(image).stdin(Stdio::null()))
}

/// Builds the images that tests run, into `artifacts/`.
pub(crate) fn build() -> Result<(), Error> {
    IMAGES.into_iter().try_for_each(image)
}

/// Shows that the linker refuses an image in which a panic is reachable.
pub(crate) fn prove_panic_check() -> Result<(), Error> {
    let mut cargo = cargo("build", "prove-panic-check")?;
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

/// Lints the image, which is other code than the library; warnings are errors.
pub(crate) fn clippy() -> Result<(), Error> {
    shell::run(cargo("clippy", "board")?.args(["--bins", "--", "-D", "warnings"]))
}

/// Finds the emulator, or installs it.
pub(crate) fn prepare_emulator() -> Result<(), Error> {
    if is_there() {
        return Ok(());
    }
    let missing = Error::NoEmulator { program: QEMU, package: QEMU };
    if !debian::is_debian() {
        return Err(missing);
    }
    say(&format!("installing Debian's {QEMU}"));
    if let Err(error) = debian::install(&[QEMU]) {
        say(&error.to_string());
    }
    if is_there() { Ok(()) } else { Err(missing) }
}

fn is_there() -> bool {
    let version = Command::new(QEMU).arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Builds one image, if it is out of date.
fn image((name, features): (&str, &str)) -> Result<(), Error> {
    shell::run(cargo("build", features)?.args(["--bin", "firmware"]))?;
    let built = shell::target_dir().join("guests").join(THUMBV7EM.triple).join("guest/firmware");
    let artifacts = shell::root().join("artifacts");
    fs::create_dir_all(&artifacts).map_err(at(&artifacts))?;
    guests::copy_if_changed(&built, &artifacts.join(name))
}

fn cargo(verb: &str, features: &str) -> Result<Command, Error> {
    let mut cargo = Toolchain::prepare(THUMBV7EM)?.cargo(verb)?;
    cargo.args(["--quiet", "-p", PACKAGE, "--features", features]);
    Ok(cargo)
}
