//! `cargo xtask guests`: the daemons that are shipped as components, built into `artifacts/`; with `--all`
//! the same daemon in several languages too, which needs their compilers and takes a minute.

use std::fs;
use std::path::{Path, PathBuf};

use crate::languages;
use crate::shell::{self, Error, at, say};
use crate::wasm::{Toolchain, WASM32};

/// The packages under `guests/` that are components.
const COMPONENTS: [&str; 3] = ["log-sentinel", "flaky", "reporter"];

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let mut built = build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--all"] => built.extend(languages::build()?),
        _ => return Err(Error::Usage("takes `--all` or nothing".to_owned())),
    }
    for path in built {
        let bytes = fs::metadata(&path).map_err(at(&path))?.len();
        let shown = path.strip_prefix(shell::root()).unwrap_or(&path);
        say(&format!("{} ({} KiB)", shown.display(), bytes.div_ceil(1024)));
    }
    Ok(())
}

/// Builds what is out of date and returns the components' paths. An artifact that would not change
/// is not touched.
pub(crate) fn build() -> Result<Vec<PathBuf>, Error> {
    let toolchain = Toolchain::prepare(WASM32)?;
    let mut cargo = toolchain.cargo("build")?;
    cargo.args(["--quiet", "--lib"]);
    for package in COMPONENTS {
        cargo.args(["-p", package]);
    }
    shell::run(&mut cargo)?;

    let built = shell::target_dir().join("guests").join(WASM32.triple).join("guest");
    let artifacts = shell::root().join("artifacts");
    fs::create_dir_all(&artifacts).map_err(at(&artifacts))?;
    COMPONENTS
        .iter()
        .map(|package| {
            let from = built.join(format!("{}.wasm", package.replace('-', "_")));
            let to = artifacts.join(format!("{package}.wasm"));
            copy_if_changed(&from, &to)?;
            Ok(to)
        })
        .collect()
}

/// Lints the components as WebAssembly, which is other code than their native side; warnings are
/// errors.
pub(crate) fn clippy() -> Result<(), Error> {
    let mut cargo = Toolchain::prepare(WASM32)?.cargo("clippy")?;
    cargo.args(["--quiet", "--lib", "-p", "duende-sdk"]);
    for package in COMPONENTS {
        cargo.args(["-p", package]);
    }
    shell::run(cargo.args(["--", "-D", "warnings"]))
}

pub(crate) fn copy_if_changed(from: &Path, to: &Path) -> Result<(), Error> {
    let bytes = fs::read(from).map_err(at(from))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    // A reader sees the old file or the new one, never half of one.
    let rising = to.with_extension("new");
    fs::write(&rising, bytes).map_err(at(&rising))?;
    fs::rename(&rising, to).map_err(at(to))
}
