//! Packages from Debian, fetched and unpacked below `target/debian`, for what a machine lacks.
//!
//! Rules:
//! - Nothing of the machine changes. No package is installed or removed, apt's lists, cache and records
//!   are read at most, its hooks do not run, and none of it needs root.
//! - What is needed is worked out as for a machine without any package, so that nothing that is
//!   installed can stand in the way: a backport conflicts with nothing that is only unpacked. Then the
//!   packages that the machine has in that version or a newer one are left out, but for those that a
//!   program looks for beside itself. The C library always is: a program has one loader, the machine's.
//! - The machine's lists of packages serve if there are any. Where they are missing, or so old that what
//!   they name is gone or of no use, `apt-get update` makes lists of our own: from the machine's sources
//!   first, and then from Debian's own servers, which the machine's sources may not all name.
//! - A folder appears under its name in one step, whole: an interrupted fetch leaves none.
//! - Each program of a folder has a script in `run/` beside it, which starts it with the libraries that
//!   were unpacked with it. No other program sees those.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Error, at, say};

/// More packages than this, or more bytes to fetch, is a mistake: the largest so far is the compiler, at
/// 90 packages and 150 MB on a machine with none of them.
const PACKAGES_MAX: usize = 300;
const FETCHED_BYTES_MAX: u64 = 1 << 30;
/// How long a server may be silent, in seconds, and how often it is asked.
const SILENCE_SECONDS_MAX: u32 = 30;
const TRIES: u32 = 3;

/// The C library in all its parts.
const NEVER_UNPACKED: [&str; 4] = ["libc6", "libc-bin", "libc6-dev", "libc-dev-bin"];

/// The keys that Debian signs its lists with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where programs and libraries lie in a package.
const PROGRAM_DIRS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LIBRARY_DIRS: [&str; 2] = ["usr/lib", "lib"];

/// The folder with the scripts that start programs.
const RUN: &str = "run";
/// The file that says what was unpacked.
const CONTENTS: &str = "packages.txt";

/// What is to be unpacked together.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The packages; the folder is named after the first.
    pub(crate) packages: &'static [&'static str],
    /// How the names of those begin which are unpacked even if the machine has them: programs look for
    /// them beside themselves, and in exactly their own version.
    pub(crate) beside: &'static [&'static str],
    /// The oldest version of the first package that serves; empty if any does.
    pub(crate) version_min: &'static str,
}

impl Wanted {
    /// Whether a package is unpacked although the machine has it.
    fn has(&self, package: &str) -> bool {
        self.packages.contains(&package) || self.beside.iter().any(|name| package.starts_with(name))
    }

    /// The error, if it can't be had.
    pub(crate) fn missing(&self, why: String) -> Error {
        Error::NoPackages { packages: self.packages.join(" "), why }
    }
}

/// Packages that were unpacked together.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked(PathBuf);

impl Unpacked {
    /// Finds the folder, or makes it.
    pub(crate) fn prepare(wanted: &Wanted) -> Result<Self, Error> {
        let there = Self(place().join(wanted.packages.first().copied().unwrap_or_default()));
        if there.0.join(CONTENTS).is_file() {
            return Ok(there);
        }
        if !Path::new("/etc/debian_version").exists() {
            return Err(wanted.missing("this is not Debian".to_owned()));
        }
        let packages = wanted.packages.join(", ");
        say(&format!("fetching Debian's {packages} into {}", there.0.display()));
        let mut result = fetch(wanted, &there.0, Lists::Machine);
        for (lists, whence) in
            [(Lists::Sources, "the machine's sources"), (Lists::Debian, "Debian's own servers")]
        {
            if let Err(error) = &result {
                say(&format!("{error}: once more, by fresh lists from {whence}"));
                result = fetch(wanted, &there.0, lists);
            }
        }
        result.map(|()| there).map_err(|error| wanted.missing(error.to_string()))
    }

    /// Removes the folder, for one that has stopped working: a library of the machine may have gone.
    pub(crate) fn remove(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.0).map_err(at(&self.0))
    }

    /// The script that starts a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join(RUN).join(name)
    }

    /// A file or folder, by its path on a machine where the packages are installed, without the first `/`.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

/// Which lists of packages are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// The machine's, as they are.
    Machine,
    /// Our own, of the machine's sources.
    Sources,
    /// Our own, of all that Debian publishes for this release.
    Debian,
}

fn place() -> PathBuf {
    shell::target_dir().join("debian")
}

/// A package, and the version that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
}

/// Fetches and unpacks what is wanted, and what that needs here, into `done`.
fn fetch(wanted: &Wanted, done: &Path, lists: Lists) -> Result<(), Error> {
    let apt = Apt::prepare(lists)?;
    let mut packages = apt.resolve(wanted.packages)?;
    let first =
        |package: &&Package| Some(package.name.as_str()) == wanted.packages.first().copied();
    if let Some(Package { name, version }) = packages.iter().find(first)
        && !wanted.version_min.is_empty()
        && !is_at_least(version, wanted.version_min)
    {
        let needed = wanted.version_min;
        return Err(Error::Unproved(format!("{name} is {version} there, and {needed} is needed")));
    }
    let installed = installed()?;
    packages.retain(|Package { name, version }| {
        let has = || installed.get(name).is_some_and(|has| is_at_least(has, version));
        !NEVER_UNPACKED.contains(&name.as_str()) && (wanted.has(name) || !has())
    });
    let count = packages.len();
    if count > PACKAGES_MAX {
        let what = format!("{count} packages would be fetched, more than {PACKAGES_MAX}");
        return Err(Error::Unproved(what));
    }

    // Named after this process too: two that do the same at a time do not meet before the end.
    let name = done.file_name().unwrap_or_default().to_string_lossy();
    let rising = done.with_file_name(format!("{name}.rising-{}", std::process::id()));
    let archives = rising.join("archives");
    fs::create_dir_all(&archives).map_err(at(&archives))?;
    let result = apt.download(&packages, &archives).and_then(|()| unpack(&archives, &rising));
    let result = result.and_then(|()| finish(&packages, &rising, done));
    if result.is_err() {
        // The error is worth more than a second one about its leavings.
        let _ = fs::remove_dir_all(&rising);
    }
    result
}

/// Unpacks every archive into `root`.
fn unpack(archives: &Path, root: &Path) -> Result<(), Error> {
    let mut fetched_bytes = 0;
    for entry in fs::read_dir(archives).map_err(at(archives))? {
        let entry = entry.map_err(at(archives))?;
        let archive = entry.path();
        fetched_bytes += entry.metadata().map_err(at(&archive))?.len();
        if fetched_bytes > FETCHED_BYTES_MAX {
            return Err(Error::Unproved(format!(
                "more than {FETCHED_BYTES_MAX} bytes were fetched"
            )));
        }
        shell::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(root))?;
    }
    fs::remove_dir_all(archives).map_err(at(archives))
}

/// Adds the scripts and the table of contents, and gives the folder its name.
fn finish(packages: &[Package], rising: &Path, done: &Path) -> Result<(), Error> {
    let run = rising.join(RUN);
    fs::create_dir_all(&run).map_err(at(&run))?;
    let libraries = library_dirs(rising);
    for dir in PROGRAM_DIRS {
        for program in fs::read_dir(rising.join(dir)).into_iter().flatten().flatten() {
            // Through links: some lead out of what was unpacked, to where an installation would put more.
            let runs = fs::metadata(program.path())
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
            if runs {
                let name = program.file_name();
                let script = run.join(&name);
                let text = starter(&format!("{dir}/{}", name.to_string_lossy()), &libraries);
                write(&script, &text)?;
                let executable = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&script, executable).map_err(at(&script))?;
            }
        }
    }
    let mut contents = String::new();
    for Package { name, version } in packages {
        let _ = writeln!(contents, "{name} {version}");
    }
    write(&rising.join(CONTENTS), &contents)?;
    match fs::rename(rising, done) {
        // Another process was quicker.
        Err(_) if done.join(CONTENTS).is_file() => fs::remove_dir_all(rising).map_err(at(rising)),
        result => result.map_err(at(done)),
    }
}

/// The folders of libraries in `root`, relative to it.
fn library_dirs(root: &Path) -> Vec<String> {
    let mut dirs = Vec::new();
    for base in LIBRARY_DIRS {
        let entries = fs::read_dir(root.join(base)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        // Debian's name for what belongs to one kind of processor: x86_64-linux-gnu.
        names.retain(|name| name.contains("-linux-gnu"));
        dirs.extend(names.iter().map(|name| format!("{base}/{name}")));
        if root.join(base).is_dir() {
            dirs.push(base.to_owned());
        }
    }
    dirs
}

/// A script that starts the program at `path` with the libraries beside it. It finds them from its own
/// place, so that the folder may get its name later, and be seen at another place in a container.
fn starter(path: &str, libraries: &[String]) -> String {
    let libraries: Vec<_> = libraries.iter().map(|dir| format!("$root/{dir}")).collect();
    format!(
        "#!/bin/sh\nroot=$(cd \"${{0%/*}}/..\" && pwd) || exit\n\
         export LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         exec \"$root/{path}\" \"$@\"\n",
        libraries.join(":")
    )
}

/// apt with its own configuration, lists and cache, for a machine without packages.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// Writes the configuration, and fetches the lists if they are to be our own.
    fn prepare(lists: Lists) -> Result<Self, Error> {
        let place = place().join("apt");
        let private_lists = place.join("lists");
        for dir in ["lists/partial", "state", "cache", "log"] {
            let dir = place.join(dir);
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        write(&place.join("status"), "")?;
        let machine = shell::output(Command::new("apt-config").arg("dump"))?;
        let mut text = settings(&machine, &place);
        let lists_dir = if lists == Lists::Machine { lists_dir(&machine) } else { private_lists };
        let _ = writeln!(text, "Dir::State::lists \"{}/\";", lists_dir.display());
        if lists == Lists::Debian {
            let release = Path::new("/etc/os-release");
            let release = fs::read_to_string(release).map_err(at(release))?;
            let path = place.join("sources.list");
            write(&path, &sources(&release)?)?;
            let _ = writeln!(text, "Dir::Etc::sourcelist \"{}\";", path.display());
            text.push_str("Dir::Etc::sourceparts \"/dev/null\";\n");
        }
        let apt = Self { configuration: place.join("apt.conf") };
        write(&apt.configuration, &text)?;
        if lists != Lists::Machine {
            shell::run(apt.command("apt-get").arg("update"))?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C.UTF-8");
        command
    }

    /// All that `packages` need, they themselves included.
    fn resolve(&self, packages: &[&str]) -> Result<Vec<Package>, Error> {
        let mut apt = self.command("apt-get");
        let planned = shell::output(apt.args(["--simulate", "install"]).args(packages))?;
        Ok(planned.lines().filter_map(planned_package).collect())
    }

    /// Fetches archives into `into`. apt holds them against the signed lists.
    fn download(&self, packages: &[Package], into: &Path) -> Result<(), Error> {
        let names = packages.iter().map(|Package { name, version }| format!("{name}={version}"));
        shell::run(self.command("apt-get").arg("download").args(names).current_dir(into))
    }
}

/// The configuration of our apt: where the machine's gets packages from and how it reaches them, and
/// nothing else of it. Its hooks, above all, are not ours to run: some of them empty caches.
fn settings(machine: &str, place: &Path) -> String {
    let mut text = String::new();
    for line in machine.lines() {
        let whence = ["Acquire::", "Dir::Etc::", "APT::Default-Release"];
        let more_settings = ["Dir::Etc::parts ", "Dir::Etc::main "];
        let begins = |with: &[&str]| with.iter().any(|with| line.starts_with(with));
        if begins(&whence) && !begins(&more_settings) {
            let _ = writeln!(text, "{line}");
        }
    }
    let place = place.display();
    let _ = write!(
        text,
        "Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::main \"/dev/null\";\n\
         Dir::State \"{place}/state/\";\n\
         Dir::State::status \"{place}/status\";\n\
         Dir::Log \"{place}/log/\";\n\
         Dir::Cache \"{place}/cache/\";\n\
         Dir::Cache::pkgcache \"\";\n\
         Dir::Cache::srcpkgcache \"\";\n\
         APT::Sandbox::User \"root\";\n\
         APT::Install-Recommends \"false\";\n\
         APT::Get::Assume-Yes \"true\";\n\
         Acquire::Retries \"{TRIES}\";\n\
         Acquire::http::Timeout \"{SILENCE_SECONDS_MAX}\";\n\
         Acquire::https::Timeout \"{SILENCE_SECONDS_MAX}\";\n\
         quiet \"2\";\n"
    );
    text
}

/// What Debian publishes for the release that `os_release` names: its packages, and the newer ones since.
fn sources(os_release: &str) -> Result<String, Error> {
    let field = |name: &str| {
        let value = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"')
    };
    let codename = field("VERSION_CODENAME");
    if field("ID") != "debian" || codename.is_empty() {
        return Err(Error::Unproved("this is no release of Debian's own".to_owned()));
    }
    let mut text = String::new();
    for (server, suite) in
        [("debian", ""), ("debian", "-updates"), ("debian-security", "-security")]
    {
        let _ = writeln!(
            text,
            "deb [signed-by={KEYRING}] http://deb.debian.org/{server} {codename}{suite} main"
        );
    }
    Ok(text)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(at(path))
}

/// Where the machine's apt keeps its lists, by what `apt-config dump` prints.
fn lists_dir(machine: &str) -> PathBuf {
    let setting = |name: &str| -> Option<&str> {
        machine
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" \"")?.strip_suffix("\";"))
    };
    let state = Path::new("/").join(setting("Dir::State").unwrap_or("var/lib/apt"));
    state.join(setting("Dir::State::lists").unwrap_or("lists"))
}

/// The package of `Inst libslirp0 (4.7.0-1 Debian:12.11/stable [amd64])`.
fn planned_package(line: &str) -> Option<Package> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let version = rest.split_whitespace().next()?;
    Some(Package { name: name.to_owned(), version: version.to_owned() })
}

/// The machine's packages of its own kind of processor, by name, with their versions.
fn installed() -> Result<HashMap<String, String>, Error> {
    let native = shell::output(Command::new("dpkg").arg("--print-architecture"))?;
    let format = "${db:Status-Abbrev}|${Package}|${Architecture}|${Version}\n";
    let rows = shell::output(Command::new("dpkg-query").args(["--show", "--showformat", format]))?;
    Ok(rows.lines().filter_map(|row| installed_package(row, &native)).collect())
}

/// Name and version in a row of [`installed`], if that package is installed and for this processor.
fn installed_package(row: &str, native: &str) -> Option<(String, String)> {
    let fields: Vec<_> = row.split('|').collect();
    let [status, name, architecture, version] = fields[..] else { return None };
    let serves = status.trim() == "ii" && (architecture == native || architecture == "all");
    serves.then(|| (name.to_owned(), version.to_owned()))
}

/// Whether one version of a package is another or newer, by dpkg's rules.
fn is_at_least(version: &str, wanted: &str) -> bool {
    version == wanted
        || Command::new("dpkg")
            .args(["--compare-versions", version, "ge", wanted])
            .status()
            .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_and_states_are_read() {
        let package = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        for (line, expected) in [
            (
                "Inst libslirp0 (4.7.0-1 Debian:12.11/stable [amd64])",
                Some(package("libslirp0", "4.7.0-1")),
            ),
            (
                "Inst gcc (4:12.2.0-3 Debian:12.11/stable [amd64]) []",
                Some(package("gcc", "4:12.2.0-3")),
            ),
            ("Conf libslirp0 (4.7.0-1 Debian:12.11/stable [amd64])", None),
            ("Remv qemu-utils [1:10.0.2]", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, version)| Package { name, version });
            assert_eq!(planned_package(line), expected, "{line:?}");
        }
        for (row, expected) in [
            ("ii |zlib1g|amd64|1:1.2.13", Some(package("zlib1g", "1:1.2.13"))),
            ("ii |iso-codes|all|4.15.0-1", Some(package("iso-codes", "4.15.0-1"))),
            // Removed but for its configuration; of another processor; half installed.
            ("rc |runit|amd64|2.1.2-54", None),
            ("ii |zlib1g|i386|1:1.2.13", None),
            ("iHR|zlib1g|amd64|1:1.2.13", None),
        ] {
            assert_eq!(installed_package(row, "amd64"), expected, "{row:?}");
        }
    }

    /// Sources and proxies are the machine's; hooks and other files of settings are not read.
    #[test]
    fn our_apt_has_no_hooks() {
        let machine = "Dir::State \"var/lib/apt\";\n\
                       Dir::State::lists \"lists/\";\n\
                       Dir::Etc::parts \"apt.conf.d\";\n\
                       Dir::Etc::sourceparts \"sources.list.d\";\n\
                       Acquire::http::Proxy \"http://proxy:3128\";\n\
                       APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/archives/*.deb\";\n\
                       DPkg::Post-Invoke:: \"false\";\n";
        assert_eq!(lists_dir(machine), Path::new("/var/lib/apt/lists/"));
        let ours = settings(machine, Path::new("/t/apt"));
        assert!(ours.contains("Acquire::http::Proxy \"http://proxy:3128\";\n"));
        assert!(ours.contains("Dir::Etc::sourceparts \"sources.list.d\";\n"));
        assert!(ours.contains("Dir::State::status \"/t/apt/status\";\n"));
        assert!(!ours.contains("Invoke") && !ours.contains("apt.conf.d"), "{ours}");
    }

    #[test]
    fn the_release_says_where_its_packages_are() {
        let debian = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let sources = sources(debian).unwrap();
        assert_eq!(sources.lines().count(), 3, "{sources}");
        assert!(sources.contains("http://deb.debian.org/debian-security bookworm-security main\n"));
        for other in ["ID=ubuntu\nVERSION_CODENAME=noble\n", "ID=debian\n", ""] {
            assert!(super::sources(other).is_err(), "{other:?}");
        }
    }

    /// A program that was unpacked sees its libraries, wherever the folder is; nobody else does.
    #[test]
    fn a_program_is_started_with_its_own_libraries() {
        let root = shell::target_dir().join("tmp").join(format!("starter-{}", std::process::id()));
        let rising = root.join("rising");
        fs::create_dir_all(rising.join("usr/bin")).unwrap();
        fs::create_dir_all(rising.join("usr/lib/x86_64-linux-gnu")).unwrap();
        let program = rising.join("usr/bin/show");
        fs::write(&program, "#!/bin/sh\necho \"$LD_LIBRARY_PATH $*\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // As those that lead to /etc/alternatives.
        std::os::unix::fs::symlink("/nowhere/cc", rising.join("usr/bin/cc")).unwrap();
        let done = root.join("done");
        let packages = [Package { name: "show".to_owned(), version: "1".to_owned() }];
        finish(&packages, &rising, &done).unwrap();
        let unpacked = Unpacked(done.clone());
        let mut command = Command::new(unpacked.program("show"));
        let printed = shell::output(command.env_remove("LD_LIBRARY_PATH").args(["a", "b c"]));
        let lib = done.join("usr/lib");
        assert_eq!(
            printed.unwrap(),
            format!("{}/x86_64-linux-gnu:{} a b c", lib.display(), lib.display())
        );
        assert!(!unpacked.program("cc").exists());
        unpacked.remove().unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
