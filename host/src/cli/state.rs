//! `duende state`: what the state file of a fleet holds, and single daemons out of it and into it.
//!
//! What is damaged, and how a daemon gets rid of it, is in `state_check`.
//!
//! One process has the file open, and while a fleet runs that is its manager: then `export` asks it
//! (`a_fleet_that_runs_is_exported_as_of_one_commit`), and the others are refused
//! (`a_fleet_that_runs_keeps_its_state_to_itself`). `ls` and `export` never change the file
//! (`looking_changes_nothing`). A file that exists is never overwritten by `export`
//! (`an_export_goes_in_again_once`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use duende_core::wire::link::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::backend::KEEP_LOCK;
use crate::clock::rfc3339_micros;
use crate::config::{self, Overrides, dirs};
use crate::control::client::{Client, ClientError, unexpected};
use crate::control::hex;
use crate::control::protocol::{Request, Response};
use crate::lock_file::LockFile;
use crate::manager::MANAGER_LOCK;
use crate::platform::Surroundings;
use crate::store::{
    DaemonId, EXPORT_BYTES_MAX, Export, ExportError, ImportError, Kept, Loaded, STATE_FILE,
    StateFile, StoreError,
};

use super::DEFAULT_FILE;
use super::args::{StateOf, StateVerb, Which};
use super::error::CliError;
use super::exit_code::ExitCode;
use super::output::{self, Table, harmless, human_bytes};
use super::state_check;

/// How much of a name is repeated in an error, in characters.
const NAME_SHOWN_CHARS: usize = 64;

/// What stands for standard input and output.
const STANDARD: &str = "-";

pub(super) fn state(verb: StateVerb, json: bool, at: &Surroundings) -> Result<ExitCode, CliError> {
    match verb {
        StateVerb::Ls { name: None, of } => list(&Place::of(of, at)?, json),
        StateVerb::Ls { name: Some(name), of } => show(&name, &Place::of(of, at)?, json),
        StateVerb::Export { name, output, of } => {
            export(&name, output, &Place::of(of, at)?, json, at)
        }
        StateVerb::Import { export, name, replace, of } => {
            import(&export, name, replace, &Place::of(of, at)?, json)
        }
        StateVerb::Check { name, of } => {
            state_check::check(name.as_deref(), &Place::of(of, at)?, json)
        }
        StateVerb::Reset { name: Some(name), of, .. } => {
            state_check::reset(&name, &Place::of(of, at)?, json)
        }
        StateVerb::Reset { name: None, of, .. } => {
            state_check::reset_journal(&Place::of(of, at)?, json)
        }
    }
}

/// Where the state is that is meant.
pub(super) struct Place {
    dir: PathBuf,
    /// None if only the directory was named.
    pub(super) fleet: Option<String>,
    /// The directory is where a fleet of that name keeps its state if its file names no other.
    is_guessed: bool,
}

impl Place {
    fn of(of: StateOf, at: &Surroundings) -> Result<Self, CliError> {
        let StateOf { which: Which { fleet, file }, state_dir } = of;
        let file = match (file, &fleet, &state_dir) {
            (None, None, None) if Path::new(DEFAULT_FILE).exists() => Some(DEFAULT_FILE.into()),
            (file, ..) => file,
        };
        if let Some(file) = file {
            let fleet = config::load(&file, &Overrides { state_dir, log_dir: None }, at)?;
            return Ok(Self { dir: fleet.state_dir, fleet: Some(fleet.name), is_guessed: false });
        }
        if let Some(name) = fleet.as_deref().filter(|name| !config::names_a_fleet(name)) {
            let text = format!("`{}` can't be the name of a fleet", harmless(name));
            return Err(CliError::other(ExitCode::Usage, text));
        }
        let is_guessed = state_dir.is_none();
        let dir = match (state_dir, &fleet) {
            (Some(dir), _) => dirs::absolute(&dir),
            (None, Some(fleet)) => dirs::state_dir(at, fleet),
            (None, None) => {
                let text = "whose state? name the fleet with --fleet NAME or --file FILE, or the directory with \
                            --state-dir DIR";
                return Err(CliError::other(ExitCode::Usage, text));
            }
        };
        Ok(Self { dir, fleet, is_guessed })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(STATE_FILE)
    }

    /// Keeps managers away as long as the value lives.
    pub(super) fn lock(&self) -> Result<LockFile, CliError> {
        let lock = self.take(MANAGER_LOCK)?.map_err(|holder| {
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            let text = format!(
                "{} is in use by {holder}, and one process at a time can open it: `duende down` first",
                self.file().display()
            );
            CliError::other(ExitCode::AlreadyRunning, text)
        });
        let mut lock = lock?;
        // On a full disk the lock holds without a text.
        let _ = lock.write(&format!("`duende state`, process {}\n", std::process::id()));
        Ok(lock)
    }

    fn take(&self, lock: &str) -> Result<Result<LockFile, String>, CliError> {
        let path = self.dir.join(lock);
        LockFile::take(&path).map_err(|error| {
            CliError::other(ExitCode::Failure, cannot_lock(&path, &error, &self.file()))
        })
    }

    /// That no daemon of a manager that was killed runs on.
    pub(super) fn check_daemons_ended(&self) -> Result<(), CliError> {
        if !self.dir.join(KEEP_LOCK).exists() {
            return Ok(());
        }
        let text = match self.take(KEEP_LOCK)? {
            Err(keep) => format!(
                "native daemons of this fleet are still ending, though their manager is gone (keep {keep}): try again \
                 when they have"
            ),
            Ok(lock) if lock.before().is_empty() => return Ok(()),
            Ok(lock) => format!(
                "native daemons of this fleet may still run, as their keeper ({}) was killed: `duende up` ends them; \
                 then `duende down`, and try again",
                lock.before()
            ),
        };
        Err(CliError::other(ExitCode::AlreadyRunning, text))
    }

    /// Opens the file to read it.
    pub(super) fn look(&self) -> Result<(LockFile, StateFile), CliError> {
        let lock = self.lock_existing()?;
        Ok((lock, StateFile::look(self.file())?))
    }

    /// Keeps managers away from a file that is there.
    pub(super) fn lock_existing(&self) -> Result<LockFile, CliError> {
        let file = self.file();
        // What can't be looked at is told as that, below.
        if file.try_exists().is_ok_and(|exists| !exists) {
            StateFile::refuse_lone_journal(&file)?;
            let text = format!(
                "{} does not exist: no state was kept there; if the fleet's configuration names another state_dir, \
                 name that with --file or --state-dir",
                file.display()
            );
            return Err(CliError::other(ExitCode::Failure, text));
        }
        self.lock()
    }

    /// The manager that has the file; none: it can't be asked.
    fn manager(&self, at: &Surroundings) -> Option<Client> {
        let fleet = self.fleet.as_deref()?;
        let client = Client::find(&dirs::runtime_dir(at), at.uid, Some(fleet)).ok()?;
        if self.is_guessed && !self.file().exists() {
            return Some(client);
        }
        // A fleet of that name may have its state elsewhere.
        let holder = self.take(MANAGER_LOCK).ok()?.err()?;
        holder.starts_with(&format!("manager {},", client.info().pid)).then_some(client)
    }

    pub(super) fn unknown(&self, name: &str) -> CliError {
        let text = format!(
            "{} holds nothing of a daemon `{name}`: `duende state ls` lists those that it holds",
            self.file().display()
        );
        CliError::other(ExitCode::UnknownDaemon, text)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Locked { .. } => ExitCode::AlreadyRunning,
            _ => ExitCode::Failure,
        };
        Self::other(code, error.to_string())
    }
}

fn created(created_s: Option<u64>) -> String {
    let at = created_s.and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)));
    let at = at.map(|at| rfc3339_micros(at).to_string());
    // To the second: no more is known.
    at.and_then(|at| at.split_once('.').map(|(second, _)| format!("{second}Z")))
        .unwrap_or_else(|| "-".to_owned())
}

/// None where the file has no ids yet.
fn id_of(id: DaemonId, has_ids: bool) -> Option<String> {
    has_ids.then(|| id.to_string())
}

fn list(place: &Place, json: bool) -> Result<ExitCode, CliError> {
    let (_lock, mut file) = place.look()?;
    let daemons = file.daemons()?;
    let has_ids = file.has_ids();
    if json {
        let row = |(name, kept): &(String, Result<Kept, StoreError>)| match kept {
            Ok(daemon) => json!({
                "name": name,
                "id": id_of(daemon.id(), has_ids),
                "created_unix_s": daemon.record().created_s(),
                "keys": daemon.keys(),
                "bytes": daemon.bytes(),
                "channels": daemon.channels(),
                "counters": daemon.counters(),
                "gauges": daemon.gauges(),
                "damaged": null,
            }),
            Err(damage) => json!({ "name": name, "damaged": damage.to_string() }),
        };
        let daemons: Vec<Value> = daemons.iter().map(row).collect();
        output::json(&json!({ "file": place.file(), "daemons": daemons }))?;
    } else {
        output::painted(table_of(&daemons, has_ids).trim_end())?;
    }
    let damages = daemons.into_iter().filter_map(|(_, kept)| kept.err());
    Ok(state_check::tell(damages))
}

fn table_of(daemons: &[(String, Result<Kept, StoreError>)], has_ids: bool) -> String {
    let heading = ["NAME", "ID", "CREATED", "KEYS", "STATE", "CHANNELS", "COUNTERS", "GAUGES"];
    let mut table = Table::new(&heading);
    for (name, kept) in daemons {
        let Ok(daemon) = kept else {
            table.row(vec![(harmless(name), None), ("damaged".to_owned(), None)]);
            continue;
        };
        table.row(vec![
            (harmless(name), None),
            (id_of(daemon.id(), has_ids).unwrap_or_else(|| "-".to_owned()), None),
            (created(daemon.record().created_s()), None),
            (daemon.keys().to_string(), None),
            (human_bytes(daemon.bytes()), None),
            (daemon.channels().to_string(), None),
            (daemon.counters().to_string(), None),
            (daemon.gauges().to_string(), None),
        ]);
    }
    table.render(false)
}

fn show(name: &str, place: &Place, json: bool) -> Result<ExitCode, CliError> {
    let (_lock, mut file) = place.look()?;
    let export = file.export(name)?.ok_or_else(|| place.unknown(name))?;
    let id = id_of(export.id(), file.has_ids());
    let Loaded { state, positions, counters, gauges } = export.loaded();
    if json {
        let sizes = |rows: &[(String, Vec<u8>)]| {
            let sizes = rows.iter().map(|(key, value)| (key.clone(), json!(value.len())));
            Value::Object(sizes.collect())
        };
        let counters = counters.iter().map(|(name, total)| (name.clone(), json!(total)));
        // What is no number is null in JSON.
        let gauges = gauges.iter().map(|(name, level)| (name.clone(), json!(level)));
        output::json(&json!({
            "file": place.file(),
            "name": name,
            "id": id,
            "created_unix_s": export.record().created_s(),
            "state_bytes": sizes(state),
            "position_bytes": sizes(positions),
            "counters": Value::Object(counters.collect()),
            "gauges": Value::Object(gauges.collect()),
        }))?;
        return Ok(ExitCode::Success);
    }
    output::line(&format!(
        "{name}  id {}  created {}",
        id.as_deref().unwrap_or("-"),
        created(export.record().created_s())
    ))?;
    output::painted(entries_of(export.loaded()).trim_end())?;
    Ok(ExitCode::Success)
}

fn entries_of(loaded: &Loaded) -> String {
    let Loaded { state, positions, counters, gauges } = loaded;
    let mut table = Table::new(&["KIND", "NAME", "VALUE"]);
    let mut row = |kind: &str, name: &str, value: String| {
        table.row(vec![(kind.to_owned(), None), (harmless(name), None), (value, None)]);
    };
    for (key, value) in state {
        row("state", key, human_bytes(value.len() as u64));
    }
    for (channel, position) in positions {
        row("position", channel, human_bytes(position.len() as u64));
    }
    for (name, total) in counters {
        row("counter", name, total.to_string());
    }
    for (name, level) in gauges {
        row("gauge", name, level.to_string());
    }
    table.render(false)
}

/// What writes an export, and where it comes from.
type Origin<'a> = Box<dyn FnMut(&mut dyn Write) -> Result<(), CliError> + 'a>;

fn export(
    name: &str,
    to: Option<PathBuf>,
    place: &Place,
    json: bool,
    at: &Surroundings,
) -> Result<ExitCode, CliError> {
    let to_stdout = to.as_deref() == Some(Path::new(STANDARD));
    if to_stdout && io::stdout().is_terminal() {
        let text = "an export is no text for a terminal: name a file with --output, or send it to a program or file";
        return Err(CliError::other(ExitCode::Usage, text));
    }
    if to_stdout && is_nowhere(io::stdout()) {
        let text =
            "standard output is closed: name a file with --output, or send it to a program or file";
        return Err(CliError::other(ExitCode::Failure, text));
    }
    let to = match to {
        Some(to) => to,
        None if config::names_a_fleet(name) => format!("{name}.duende-state").into(),
        None => {
            let text = format!("`{name}` is no name for a file: name one with --output");
            return Err(CliError::other(ExitCode::Usage, text));
        }
    };
    let mut from: Origin<'_> = match place.look() {
        Ok((lock, mut file)) => {
            let export = file.export(name)?.ok_or_else(|| place.unknown(name))?;
            Box::new(move |mut out| {
                let _lock = &lock;
                Ok(export.write(&mut out)?)
            })
        }
        Err(error) => {
            let mut client = place.manager(at).ok_or(error)?;
            let request = Request::Export { name: name.to_owned() };
            Box::new(move |out| export_of_running(&mut client, &request, out))
        }
    };
    if to_stdout {
        // Nothing else may stand there: no report either.
        // A reader that went away has not seen enough.
        let written = from(&mut BufWriter::new(io::stdout().lock()));
        return written.map(|()| ExitCode::Success).map_err(|error| match error {
            CliError::Output(error) => {
                CliError::other(ExitCode::Failure, format!("standard output: {error}"))
            }
            other => other,
        });
    }
    let export = write_whole(&to, |out| from(out))?;
    report("exported", name, &export, &export.id().to_string(), &to, json)
}

/// Why a lock can't be taken. It takes writing, so what lies on a medium that is only read is looked at as a copy.
fn cannot_lock(lock: &Path, error: &io::Error, file: &Path) -> String {
    let what = format!("cannot lock {}: {error}", lock.display());
    if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) {
        let file = file.display();
        return format!(
            "{what}; copy {file} to a directory of your own, and name that with --state-dir"
        );
    }
    what
}

/// Whether a stream is what Rust's library opens in the place of one that was closed: `/dev/null`, for reading
/// as well. Whoever sends something there on purpose opens it to write.
fn is_nowhere(stream: impl AsFd) -> bool {
    let null = rustix::fs::stat("/dev/null").ok();
    let is_null = rustix::fs::fstat(&stream).is_ok_and(|found| {
        null.is_some_and(|null| null.st_rdev == found.st_rdev && found.st_rdev != 0)
    });
    is_null && rustix::fs::fcntl_getfl(&stream).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// What of an export no daemon could have written: it would not be handed over at its start. None: all can.
fn over_limit(loaded: &Loaded) -> Option<String> {
    let Loaded { state, positions, .. } = loaded;
    let shown = |name: &str| -> String { name.chars().take(NAME_SHOWN_CHARS).collect() };
    for (key, value) in state {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Some(format!(
                "the key `{}` has {} bytes: a key has 1 to {KEY_BYTES_MAX}",
                shown(key),
                key.len()
            ));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Some(format!(
                "the value of `{}` has {} bytes: a value has at most {VALUE_BYTES_MAX}",
                shown(key),
                value.len()
            ));
        }
    }
    let channel = positions.iter().map(|(channel, _)| channel);
    let bad = channel.into_iter().find(|channel| !config::names_a_fleet(channel))?;
    Some(format!("`{}` can't be the name of a channel", shown(bad)))
}

/// What a manager answers, written out. It ends an export that it can't end rightly with an error.
fn export_of_running(
    client: &mut Client,
    request: &Request,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let part = |response: Response| match response {
        Response::Export { hex } => {
            let bytes = hex::decode(&hex)
                .ok_or_else(|| ClientError::Malformed("a part of an export".to_owned()))?;
            Ok(out.write_all(&bytes)?)
        }
        other => Err(unexpected(&other).into()),
    };
    client.ask(request, part, |_| Ok::<_, CliError>(()))?;
    Ok(out.flush()?)
}

/// Writes a file that was not there, whole or not at all: what was written is read again before it gets its name.
pub(super) fn write_whole(
    to: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), CliError>,
) -> Result<Export, CliError> {
    let said = |text: &str| CliError::other(ExitCode::Failure, format!("{}: {text}", to.display()));
    const EXISTS: &str = "it exists already: name another file with --output, or remove it";
    if to.symlink_metadata().is_ok() {
        return Err(said(EXISTS));
    }
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(format!(".{}.new", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let failed = |error: io::Error| {
        if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) {
            said(EXISTS)
        } else {
            said(&format!("cannot write it: {error}"))
        }
    };
    // State may hold secrets: for the owner alone.
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&unfinished);
    let file = file.map_err(failed)?;
    let written = || {
        let mut out = BufWriter::new(file);
        write(&mut out).map_err(|error| match error {
            CliError::Output(error) => failed(error),
            other => other,
        })?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let again = File::open(&unfinished).map_err(failed)?;
        let export = Export::read(&mut BufReader::new(again))
            .map_err(|error| said(&format!("what was written of it is no export: {error}")))?;
        renameat_with(CWD, &unfinished, CWD, to, RenameFlags::NOREPLACE)
            .map_err(|errno| failed(errno.into()))?;
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(failed)?;
        Ok(export)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })
}

fn import(
    from: &Path,
    name: Option<String>,
    replace: bool,
    place: &Place,
    json: bool,
) -> Result<ExitCode, CliError> {
    let read = if from == Path::new(STANDARD) {
        Export::read(&mut io::stdin().lock())
    } else {
        File::open(from).map_err(Into::into).and_then(|file| {
            // What is too long is not read first.
            if file.metadata()?.len() > EXPORT_BYTES_MAX {
                return Err(ExportError::TooLong);
            }
            Export::read(&mut BufReader::new(file))
        })
    };
    let export = read.map_err(|error| {
        CliError::other(ExitCode::Failure, format!("{}: {error}", from.display()))
    })?;
    if let Some(problem) = over_limit(export.loaded()) {
        let text = format!("{}: no daemon could use it: {problem}", from.display());
        return Err(CliError::other(ExitCode::Failure, text));
    }
    let name = name.unwrap_or_else(|| export.record().name().to_owned());
    if !config::names_a_fleet(&name) {
        let text = format!("`{name}` can't be the name of a daemon: name it with --as");
        return Err(CliError::other(ExitCode::Usage, text));
    }
    dirs::make(&place.dir).map_err(|error| {
        CliError::other(ExitCode::Failure, format!("{}: {error}", place.dir.display()))
    })?;
    let _lock = place.lock()?;
    place.check_daemons_ended()?;
    let mut file = StateFile::open(place.file(), place.fleet.as_deref())?;
    let id = file.import(&export, &name, replace).map_err(|error| match error {
        ImportError::Store(error) => error.into(),
        ImportError::Present { .. } => CliError::other(ExitCode::Failure, error.to_string()),
    })?;
    report("imported", &name, &export, &id.to_string(), &place.file(), json)
}

fn report(
    done: &str,
    name: &str,
    export: &Export,
    id: &str,
    file: &Path,
    json: bool,
) -> Result<ExitCode, CliError> {
    let state = &export.loaded().state;
    let (keys, skipped) = (state.len(), export.skipped());
    let bytes: usize = state.iter().map(|(key, value)| key.len() + value.len()).sum();
    if json {
        output::json(&json!({
            "name": name,
            "id": id,
            "file": file,
            "keys": keys,
            "bytes": bytes,
            "skipped": skipped,
        }))?;
        return Ok(ExitCode::Success);
    }
    let size = human_bytes(bytes as u64);
    output::line(&format!("{done} `{name}` ({keys} keys, {size}): {}", file.display()))?;
    if skipped > 0 {
        output::line(&format!(
            "{skipped} entries of a newer version were left out, as that version allows"
        ))?;
    }
    Ok(ExitCode::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in a file may be anything: no terminal obeys them, and each takes one line.
    #[test]
    fn what_stands_in_a_file_drives_no_terminal() {
        let bad = || "a\u{1b}[31m\nb".to_owned();
        let loaded = Loaded {
            state: vec![(bad(), vec![0; 2_048])],
            positions: vec![(bad(), Vec::new())],
            counters: vec![(bad(), 7)],
            gauges: vec![(bad(), 0.5)],
        };
        let text = entries_of(&loaded);
        assert_eq!(text.trim_end().lines().count(), 5, "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");

        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join(STATE_FILE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = crate::store::Store::open(&path).unwrap();
            let commit = crate::store::Commit { daemon: bad(), ..Default::default() };
            store.commit(commit, None).await.unwrap();
            store.close(Duration::from_secs(20)).await.unwrap();
        });
        // What another test starts has our descriptors, and the lock, until it becomes its program.
        let mut file = loop {
            match StateFile::look(&path) {
                Err(StoreError::Locked { .. }) => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        let text = table_of(&file.daemons().unwrap(), true);
        assert_eq!(text.trim_end().lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn what_no_daemon_could_have_written_is_refused_in_words() {
        let of = |state: Vec<(String, Vec<u8>)>, positions: Vec<(String, Vec<u8>)>| {
            over_limit(&Loaded { state, positions, counters: Vec::new(), gauges: Vec::new() })
        };
        let key = |bytes| ("k".repeat(bytes), Vec::new());
        let value = |bytes| ("k".to_owned(), vec![0; bytes]);
        assert_eq!(of(vec![key(KEY_BYTES_MAX), value(VALUE_BYTES_MAX)], Vec::new()), None);
        assert_eq!(of(Vec::new(), vec![("lines".to_owned(), vec![1])]), None);
        for (problem, words) in [
            (of(vec![key(KEY_BYTES_MAX + 1)], Vec::new()), "has 257 bytes"),
            (of(vec![key(0)], Vec::new()), "has 0 bytes"),
            (of(vec![value(VALUE_BYTES_MAX + 1)], Vec::new()), "has 65537 bytes"),
            (of(Vec::new(), vec![("a/b".to_owned(), Vec::new())]), "`a/b` can't be the name"),
        ] {
            let problem = problem.unwrap();
            assert!(problem.contains(words) && problem.len() < 200, "{problem}");
        }
    }

    #[test]
    fn a_medium_that_is_only_read_has_a_way_out() {
        let text = |errno: Errno| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            cannot_lock(Path::new("/cd/manager.lock"), &error, Path::new("/cd/state.redb"))
        };
        assert!(text(Errno::ROFS).contains("copy /cd/state.redb to a directory of your own"));
        assert!(!text(Errno::ACCESS).contains("copy"));
    }

    #[test]
    fn a_stream_that_was_closed_is_told_from_one_that_is_thrown_away() {
        let open = |write_only: bool| {
            let mut options = OpenOptions::new();
            options.write(true).read(!write_only).open("/dev/null").unwrap()
        };
        assert!(is_nowhere(open(false)));
        assert!(!is_nowhere(open(true)));
        assert!(!is_nowhere(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn any_moment_of_creation_can_be_shown() {
        assert_eq!(created(None), "-");
        assert_eq!(created(Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(created(Some(u64::MAX)), "-");
        assert_eq!(created(Some(1 << 40)), "9999-12-31T23:59:59Z");
    }
}
