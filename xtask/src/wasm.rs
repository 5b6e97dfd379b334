//! Compilers for targets that rustup's default toolchain does not bring: WebAssembly and firmware.
//!
//! Tried in this order, the first that works is used:
//! 1. the active toolchain already has the target;
//! 2. `rustup target add`, where rustup may install (`RUSTUP_AUTO_INSTALL` is not 0);
//! 3. on Debian, the packages of [`PACKAGES`], those of the machine or, without changing it, below
//!    `target/debian`: a second compiler with the sources of its standard library, which is built once
//!    into a cached sysroot. A sysroot serves only the compiler that built it, so its folder is named
//!    after that compiler;
//! 4. an error that says what to install.
//!
//! The linker for components is rustup's own `wasm-component-ld` in all cases: rustc then writes a
//! component directly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use crate::debian::{Unpacked, Wanted};
use crate::shell::{self, Error, at, say};

/// A target and what of the standard library it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The triple.
    pub(crate) triple: &'static str,
    /// The crates that `-Zbuild-std` is to build.
    standard_library: &'static str,
    /// Whether programs are optimised together with the standard library. An image must be: only then
    /// can its panics be seen to be out of reach, and it is small.
    whole_program: bool,
}

/// What guests are compiled for.
pub(crate) const WASM32: Target = Target {
    triple: "wasm32-unknown-unknown",
    standard_library: "std,panic_abort",
    whole_program: false,
};

/// What `std` of guests reaches the outside with WASI in: the linker makes that of the component model of it.
pub(crate) const WASIP1: Target =
    Target { triple: "wasm32-wasip1", standard_library: "std,panic_abort", whole_program: false };

/// A Cortex-M4 or M7 with an FPU: no operating system, `core` only.
pub(crate) const THUMBV7EM: Target =
    Target { triple: "thumbv7em-none-eabihf", standard_library: "core", whole_program: true };

/// A compiler, its cargo, the library sources and the clippy that fit it. A compiler finds the library
/// for its own machine beside itself.
const PACKAGES: Wanted = Wanted {
    packages: &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"],
    beside: &["libstd-rust-web-"],
    version_min: "1.95",
};

/// The C library that `std` for WASI is linked with. Rustup's target brings its own.
const WASI_LIBC: Wanted = Wanted { packages: &["wasi-libc"], beside: &[], version_min: "" };

/// The oldest Rust that compiles this workspace (1.`MINOR`), as above and in the top-level Cargo.toml.
const RUST_MINOR_MIN: u32 = 95;

/// A compiler that can make code for a target.
#[derive(Debug)]
pub(crate) struct Toolchain {
    target: Target,
    active: Active,
    /// Debian's compiler with a sysroot that we built; `None`: the active toolchain as it is.
    debian: Option<(Compiler, PathBuf)>,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.debian {
            None => f.write_str("the active toolchain"),
            Some((compiler, _)) => write!(f, "{}", compiler.rustc.display()),
        }
    }
}

/// A compiler from Debian's packages.
#[derive(Debug)]
struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
    clippy: PathBuf,
    /// The sources of its library, and all else that Rust code is compiled with.
    rustlib: PathBuf,
}

impl Compiler {
    /// The machine's, if it is whole and new enough; else the one below `target/debian`.
    fn prepare() -> Result<Self, Error> {
        let of_the_machine = Self {
            rustc: "/usr/bin/rustc".into(),
            cargo: "/usr/bin/cargo".into(),
            clippy: "/usr/bin/cargo-clippy".into(),
            rustlib: "/usr/lib/rustlib".into(),
        };
        if of_the_machine.serves() {
            return Ok(of_the_machine);
        }
        let unpacked = || {
            let folder = Unpacked::prepare(&PACKAGES)?;
            let compiler = Self {
                rustc: folder.program("rustc"),
                cargo: folder.program("cargo"),
                clippy: folder.program("cargo-clippy"),
                rustlib: folder.path("usr/lib/rustlib"),
            };
            Ok((folder, compiler))
        };
        let (folder, compiler) = unpacked()?;
        if compiler.serves() {
            return Ok(compiler);
        }
        // What it takes from the machine may have changed since it was unpacked.
        folder.remove()?;
        let (_, compiler) = unpacked()?;
        if compiler.serves() {
            return Ok(compiler);
        }
        Err(PACKAGES.missing(format!(
            "what was unpacked is no whole compiler, or one older than 1.{RUST_MINOR_MIN}"
        )))
    }

    /// Whether all parts are there and run, and are new enough.
    fn serves(&self) -> bool {
        let version = |program: &Path| {
            let output = Command::new(program).arg("--version").output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let new_enough = version(&self.rustc)
            .and_then(|text| minor_version(&text))
            .is_some_and(|minor| minor >= RUST_MINOR_MIN);
        new_enough
            && version(&self.cargo).is_some()
            && self.clippy.is_file()
            && self.rustlib.join("src/rust/library/Cargo.toml").is_file()
    }

    /// Its cargo, or its clippy. Clippy is named by its path: cargo would find rustup's, which does not
    /// read what this compiler has written.
    fn command(&self, verb: &str) -> Command {
        let mut cargo = Command::new(if verb == "clippy" { &self.clippy } else { &self.cargo });
        // Cargo and rustup hand these down; they would name the other compiler.
        cargo.env_remove("RUSTUP_TOOLCHAIN").env("CARGO", &self.cargo).env("RUSTC", &self.rustc);
        cargo
    }
}

/// The toolchain that this program was built with.
#[derive(Debug)]
struct Active {
    sysroot: PathBuf,
    host: String,
}

impl Active {
    fn find() -> Result<Self, Error> {
        let print = ["--print", "sysroot", "--print", "host-tuple"];
        let printed = shell::output(Command::new("rustc").args(print))?;
        let (sysroot, host) = printed.split_once('\n').unwrap_or((&printed, ""));
        Ok(Self { sysroot: sysroot.into(), host: host.to_owned() })
    }

    /// The folder of what belongs to the machine `triple`.
    fn rustlib(&self, triple: &str) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(triple)
    }

    fn has(&self, target: Target) -> bool {
        let libraries = self.rustlib(target.triple).join("lib");
        fs::read_dir(libraries).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// The linker for images: rustup's toolchain for the host has one, whatever its targets are.
    fn linker(&self) -> Result<PathBuf, Error> {
        let linker = self.rustlib(&self.host).join("bin/rust-lld");
        fs::metadata(&linker).map_err(at(&linker))?;
        Ok(linker)
    }

    /// The programs that turn object files into a component: `wasm-component-ld`, and the `wasm-ld`
    /// that it calls. Rustup's toolchain for the host has both, whatever its targets are.
    fn component_linkers(&self) -> Result<(PathBuf, PathBuf), Error> {
        let programs = self.rustlib(&self.host).join("bin");
        let linkers = (programs.join("wasm-component-ld"), programs.join("gcc-ld/wasm-ld"));
        fs::metadata(&linkers.0).map_err(at(&linkers.0))?;
        fs::metadata(&linkers.1).map_err(at(&linkers.1))?;
        Ok(linkers)
    }
}

impl Toolchain {
    /// Finds a compiler for `target`, or installs one. Quick when there is one.
    pub(crate) fn prepare(target: Target) -> Result<Self, Error> {
        let active = Active::find()?;
        if !active.has(target) && rustup_may_install() {
            say(&format!("adding {} to the active toolchain", target.triple));
            let mut add = Command::new("rustup");
            add.args(["target", "add", target.triple]);
            if let Err(error) = shell::run(&mut add) {
                say(&format!("{error}; trying Debian's packages"));
            }
        }
        if active.has(target) {
            return Ok(Self { target, active, debian: None });
        }
        let compiler = Compiler::prepare()
            .map_err(|error| Error::NoCompiler { target: target.triple, why: error.to_string() })?;
        let sysroot = sysroot(target, &compiler)?;
        Ok(Self { target, active, debian: Some((compiler, sysroot)) })
    }

    /// `cargo VERB --profile guest --target …`, with a target folder of its own under the usual one, so that two
    /// compilers do not undo each other's work. Paths of this machine are kept out of what is built.
    pub(crate) fn cargo(&self, verb: &str) -> Result<Command, Error> {
        let (mut cargo, mut flags);
        match &self.debian {
            None => {
                cargo = Command::new("cargo");
                flags = remap_flags(&self.active.sysroot.join("lib/rustlib"));
            }
            Some((compiler, sysroot)) => {
                cargo = compiler.command(verb);
                flags = remap_flags(&compiler.rustlib);
                flags.push(format!("--sysroot={}", sysroot.display()));
            }
        }
        if self.target == WASM32 {
            let (component, wasm_ld) = self.active.component_linkers()?;
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", component);
            flags.push(format!("-Clink-arg=--wasm-ld-path={}", wasm_ld.display()));
        }
        if self.target == WASIP1 {
            let (component, wasm_ld) = self.active.component_linkers()?;
            cargo.env("CARGO_TARGET_WASM32_WASIP1_LINKER", component);
            flags.push(format!("-Clink-arg=--wasm-ld-path={}", wasm_ld.display()));
            if self.debian.is_some() {
                let library = Unpacked::prepare(&WASI_LIBC)?.path("usr/lib/wasm32-wasi");
                flags.extend(["-Clink-self-contained=no", "-Clink-arg=-lc"].map(str::to_owned));
                flags.push(format!("-Lnative={}", library.display()));
                flags.push(format!("-Clink-arg={}", library.join("crt1-reactor.o").display()));
            }
        }
        if self.target == THUMBV7EM {
            cargo.env("CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER", self.active.linker()?);
        }
        cargo
            .current_dir(shell::root())
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .args([verb, "--profile", "guest"])
            .args(["--target", self.target.triple, "--target-dir"])
            .arg(shell::target_dir().join("guests"));
        Ok(cargo)
    }
}

/// Builds `duende-core` for `target`: it needs nothing beyond the language's `core`.
pub(crate) fn check_core(target: Target) -> Result<(), Error> {
    say(&format!("building duende-core for {}", target.triple));
    let toolchain = Toolchain::prepare(target)?;
    shell::run(toolchain.cargo("build")?.args(["-q", "-p", "duende-core"]))
}

/// Flags that replace this machine's paths in panic messages and debug information.
fn remap_flags(rustlib: &Path) -> Vec<String> {
    [
        (shell::root(), "/duende"),
        (rustlib.join("src/rust"), "/rust"),
        (shell::cargo_home(), "/cargo"),
    ]
    .iter()
    .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
    .collect()
}

pub(crate) fn rustup_may_install() -> bool {
    std::env::var_os("RUSTUP_AUTO_INSTALL").is_none_or(|value| value != "0")
        && Command::new("rustup")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
}

/// The 96 of `rustc 1.96.0 (ac68faa20 2026-05-25)`.
fn minor_version(text: &str) -> Option<u32> {
    let version = text.strip_prefix("rustc 1.")?;
    version.split('.').next()?.parse().ok()
}

/// The standard library for `target`, built by Debian's compiler on the first call.
fn sysroot(target: Target, compiler: &Compiler) -> Result<PathBuf, Error> {
    let version = shell::output(Command::new(&compiler.rustc).arg("--version"))?;
    let name: String = version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    let name = if target.whole_program { format!("{name}-bitcode") } else { name };
    let base = shell::target_dir().join("sysroot").join(target.triple);
    let done = base.join(name);
    if done.exists() {
        return Ok(done);
    }
    say(&format!(
        "building the standard library for {} with {version}: once, about 40 s",
        target.triple
    ));

    // An empty crate, because cargo builds the library only for a crate that uses it.
    let scratch = base.join("scratch");
    let sources = scratch.join("src");
    let manifest = "[package]\nname = \"nothing\"\nedition = \"2024\"\n\n\
                    [workspace]\n\n[profile.release]\npanic = \"abort\"\n";
    fs::create_dir_all(&sources).map_err(at(&sources))?;
    write(&scratch.join("Cargo.toml"), manifest)?;
    write(&sources.join("lib.rs"), "#![no_std]\n")?;
    let mut flags = remap_flags(&compiler.rustlib);
    if target.whole_program {
        // Cargo says `no` where the last crate is a library; the last flag counts.
        flags.push("-Cembed-bitcode=yes".to_owned());
    }
    let mut cargo = compiler.command("build");
    cargo
        .current_dir(&scratch)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["build", "--quiet", "--release", "--target", target.triple])
        .arg(format!("-Zbuild-std={}", target.standard_library))
        .arg("--target-dir")
        .arg(scratch.join("target"));
    shell::run(&mut cargo)?;

    // The finished folder appears under its name in one step: an interrupted build leaves none.
    let built = scratch.join("target").join(target.triple).join("release/deps");
    let rising = base.join("rising");
    let libraries = rising.join("lib/rustlib").join(target.triple).join("lib");
    fs::create_dir_all(&libraries).map_err(at(&libraries))?;
    for entry in fs::read_dir(&built).map_err(at(&built))? {
        let from = entry.map_err(at(&built))?.path();
        let name = from.file_name().unwrap_or_default().to_owned();
        let ours = name.to_string_lossy().starts_with("libnothing-");
        if !ours && from.extension().is_some_and(|extension| extension == "rlib") {
            fs::copy(&from, libraries.join(name)).map_err(at(&from))?;
        }
    }
    fs::rename(&rising, &done).map_err(at(&done))?;
    fs::remove_dir_all(&scratch).map_err(at(&scratch))?;
    Ok(done)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_is_read_from_what_rustc_prints() {
        for (text, minor) in [
            ("rustc 1.96.0 (ac68faa20 2026-05-25)", Some(96)),
            ("rustc 1.63.0", Some(63)),
            ("rustc 1.97.0-nightly (0 2026-06-01)", Some(97)),
            ("gcc 12", None),
            ("", None),
        ] {
            assert_eq!(minor_version(text), minor, "{text:?}");
        }
    }
}
