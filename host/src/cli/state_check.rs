//! `duende state check` and `duende state reset`: what of a state file is damaged, and how a daemon gets rid of
//! it; and the file of a journal that it can't go on in (`a_journal_that_is_lost_is_told_and_can_be_done_without`).
//!
//! `check` writes nothing. `reset` asks nothing, and destroys nothing that is not kept beside the file first: as
//! an export if all of it can be read, as a copy of the whole file otherwise
//! (`a_reset_leaves_what_it_removes_beside_the_file`).

use std::path::PathBuf;

use serde_json::json;

use crate::config;
use crate::store::{Export, StateFile, StoreError};

use super::error::CliError;
use super::exit_code::ExitCode;
use super::output;
use super::state::{Place, write_whole};

/// Exports of one daemon that may lie beside a file.
const EXPORTS_MAX: u32 = 1_000;

/// Says what is damaged; the exit code of a verb that has found it.
pub(super) fn tell(damages: impl Iterator<Item = StoreError>) -> ExitCode {
    let mut code = ExitCode::Success;
    for damage in damages {
        code = ExitCode::Failure;
        // If this can't be written, the exit code remains.
        output::complain(&format!("duende: {damage}"));
    }
    code
}

pub(super) fn check(name: Option<&str>, place: &Place, json: bool) -> Result<ExitCode, CliError> {
    let (_lock, mut file) = place.look()?;
    let checked = file.check(name)?;
    if let Some(name) = name.filter(|_| checked.daemons == 0) {
        return Err(place.unknown(name));
    }
    let (daemons, file) = (checked.daemons, place.file());
    if json {
        let damages: Vec<_> = checked.damages.iter().map(ToString::to_string).collect();
        output::json(&json!({ "file": file, "daemons": daemons, "damages": damages }))?;
    } else if checked.damages.is_empty() {
        output::line(&format!(
            "{}: everything that is kept of {} is as it was written",
            file.display(),
            match name {
                Some(name) => format!("`{name}`"),
                None => format!("{daemons} daemons"),
            }
        ))?;
    }
    Ok(tell(checked.damages.into_iter()))
}

pub(super) fn reset(name: &str, place: &Place, json: bool) -> Result<ExitCode, CliError> {
    let (_lock, mut file) = place.look()?;
    place.check_daemons_ended()?;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        CliError::other(ExitCode::Failure, format!("{what}: {error}; nothing was removed"))
    };
    let kept = match file.export(name) {
        Ok(None) => return Err(place.unknown(name)),
        Ok(Some(export)) => keep_export(name, &export, place)?,
        Err(damage @ StoreError::DamagedDaemon { .. }) => {
            output::complain(&format!("duende: {damage}"));
            file.keep_copy().map_err(|error| failed("cannot keep a copy of the file", &error))?
        }
        Err(error) => return Err(error.into()),
    };
    drop(file);
    StateFile::open(place.file(), place.fleet.as_deref())?.reset(name)?;
    if json {
        output::json(&json!({ "name": name, "file": place.file(), "kept": kept }))?;
    } else {
        output::line(&format!(
            "removed all that was kept of `{name}` from {}; as it was it lies in {}",
            place.file().display(),
            kept.display()
        ))?;
    }
    Ok(ExitCode::Success)
}

/// Goes on with the file and with what can be read of its journal.
pub(super) fn reset_journal(place: &Place, json: bool) -> Result<ExitCode, CliError> {
    let _lock = place.lock_existing()?;
    place.check_daemons_ended()?;
    let kept = StateFile::reset_journal(place.file(), place.fleet.as_deref())?;
    let file = place.file();
    if json {
        output::json(&json!({ "file": file, "kept": kept }))?;
        return Ok(ExitCode::Success);
    }
    let file = file.display();
    output::line(&match kept {
        Some(kept) => format!(
            "{file} goes on with what could be read of its journal; as it was that lies in {}",
            kept.display()
        ),
        None => format!("{file} goes on without a journal; there is none"),
    })?;
    Ok(ExitCode::Success)
}

/// Writes an export beside the state file, under a name that is free.
fn keep_export(name: &str, export: &Export, place: &Place) -> Result<PathBuf, CliError> {
    let stem = if config::names_a_fleet(name) { name.to_owned() } else { export.id().to_string() };
    for number in 0..EXPORTS_MAX {
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        let to = place.file().with_file_name(format!("{stem}{number}.duende-state"));
        if to.symlink_metadata().is_ok() {
            continue;
        }
        let written = write_whole(&to, |mut out| Ok(export.write(&mut out)?));
        return match written {
            Ok(_) => Ok(to),
            Err(error) => {
                let text = format!("{error}; nothing was removed");
                Err(CliError::other(ExitCode::Failure, text))
            }
        };
    }
    let text =
        format!("{EXPORTS_MAX} exports of `{name}` lie beside the file already: move them away");
    Err(CliError::other(ExitCode::Failure, text))
}
