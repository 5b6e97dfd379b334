//! `duende compile`: images are made before anybody waits for them.

use std::path::PathBuf;

use serde_json::json;

use crate::config::{self, CompileConfig, Overrides, dirs};
use crate::image::Settings;
use crate::platform::Surroundings;

use super::args::CompileArgs;
use super::error::CliError;
use super::exit_code::ExitCode;
use super::images;
use super::output::{self, Progress};

pub(super) fn compile(
    args: &CompileArgs,
    json: bool,
    surroundings: &Surroundings,
) -> Result<ExitCode, CliError> {
    let settings = match &args.config {
        Some(file) => Settings::of(&config::load(file, &Overrides::default(), surroundings)?),
        None => Settings::new(&dirs::cache_dir(surroundings), None, &CompileConfig::default()),
    };
    let files: Vec<PathBuf> = args.files.iter().map(dirs::absolute).collect();
    let mut progress = Progress::new("compiling");
    let made = images::make(settings, files, &mut || progress.tick())?;
    drop(progress);
    let bad = made.iter().any(Result::is_err);
    if json {
        let images: Vec<_> = args
            .files
            .iter()
            .zip(&made)
            .map(|(file, made)| match made {
                Ok(image) => json!({
                    "file": file,
                    "id": image.id,
                    "contract": format!("duende:daemon@{}", image.survey.contract),
                    "image": image.entry,
                    "error": null,
                }),
                Err(error) => json!({ "file": file, "error": error.to_string() }),
            })
            .collect();
        output::json(&json!({ "images": images }))?;
    } else {
        for (file, made) in args.files.iter().zip(&made) {
            match made {
                Ok(image) => output::line(&format!("{}: {}", file.display(), image.id))?,
                // It names the file.
                Err(error) => output::complain(&format!("{error}\n")),
            }
        }
    }
    Ok(if bad { ExitCode::ConfigInvalid } else { ExitCode::Success })
}
