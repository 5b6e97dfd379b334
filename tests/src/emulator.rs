//! Images for a Cortex-M4, run in QEMU.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemons::{built, tool};

/// The board: a Cortex-M4. Time passes by instructions, and at once while the processor sleeps, so two
/// runs of an image are alike and take no time that a test would wait for.
const MACHINE: [&str; 10] = [
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
];

/// What came of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulated {
    /// What it printed.
    pub lines: Vec<String>,
    /// Whether it ended with success.
    pub success: bool,
}

/// An image of this repository.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn image(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    built(root.join("artifacts").join(format!("{name}.elf")), "cargo xtask firmware")
}

/// Runs an image to its end in `directory`, whose files it may read. It is told `argument`, if it asks.
///
/// # Panics
/// QEMU is not there.
#[must_use]
pub fn emulate(image: &Path, directory: &Path, argument: &str) -> Emulated {
    let mut qemu = Command::new(tool("qemu-system-arm", "qemu-system-arm"));
    qemu.args(MACHINE)
        .arg("-semihosting-config")
        .arg(format!("enable=on,target=native,arg={argument}"))
        .args([OsStr::new("-kernel"), image.as_os_str()])
        .current_dir(directory)
        .stdin(Stdio::null());
    let output = qemu.output().expect("QEMU can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    // What QEMU says itself shows in a test that fails.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().map(str::to_owned).collect();
    Emulated { lines, success: output.status.success() }
}
