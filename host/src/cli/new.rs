//! `duende new`: a project of its own for a daemon, in one of several languages.
//!
//! Rules:
//! - Nothing is overwritten: the folder is made, or is empty (`nothing_is_overwritten`).
//! - A project is no part of this repository. It is built with its language's own tools, by the commands that its
//!   README names; `cargo xtask nightly` does that, in `tests/tests/languages.rs`.
//! - The daemon is that of `guests/tally`, from the same file where the language leaves it no choice.
//! - The contract, and what C needs of it, are those that this program was built with
//!   (`the_bindings_of_c_are_those_of_the_contract`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{NAME_FORM, is_name};

use super::args::{Language, NewArgs};
use super::error::CliError;
use super::exit_code::ExitCode;
use super::output;

/// Where the SDK is, if the tree that this program was built from has gone.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
/// The SDK in the tree that this program was built from.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/sdk");

/// A file of a project: its path in it, and its content, in which [`Words::fill`] puts words.
type Template = (&'static str, &'static [u8]);

macro_rules! files {
    ($($path:literal: $file:literal,)*) => {
        &[
            ("duende.toml", include_bytes!("new/duende.toml")),
            $(($path, include_bytes!($file)),)*
        ]
    };
}

const RUST: &[Template] = files! {
    ".cargo/config.toml": "new/rust/config.toml",
    ".gitignore": "new/rust/gitignore",
    "Cargo.toml": "new/rust/Cargo.toml",
    "README.md": "new/rust/README.md",
    "src/lib.rs": "new/rust/lib.rs",
};
const C: &[Template] = files! {
    ".gitignore": "new/c/gitignore",
    "Makefile": "new/c/Makefile",
    "README.md": "new/c/README.md",
    "bindings/daemon.c": "new/c/bindings/daemon.c",
    "bindings/daemon.h": "new/c/bindings/daemon.h",
    "bindings/daemon_component_type.o": "new/c/bindings/daemon_component_type.o",
    "daemon.c": "../../../guests/tally/c/tally.c",
    "wit/daemon.wit": "../../../wit/daemon.wit",
};
const JAVASCRIPT: &[Template] = files! {
    ".gitignore": "new/js/gitignore",
    "README.md": "new/js/README.md",
    "build.mjs": "new/js/build.mjs",
    "daemon.js": "../../../guests/tally/js/tally.js",
    "package.json": "new/js/package.json",
    "wit/daemon.wit": "../../../wit/daemon.wit",
};
const PYTHON: &[Template] = files! {
    ".gitignore": "new/python/gitignore",
    "README.md": "new/python/README.md",
    "app.py": "../../../guests/tally/python/tally.py",
    "requirements.txt": "new/python/requirements.txt",
    "wit/daemon.wit": "../../../wit/daemon.wit",
};

impl Language {
    const fn files(self) -> &'static [Template] {
        match self {
            Self::Rust => RUST,
            Self::C => C,
            Self::Js => JAVASCRIPT,
            Self::Python => PYTHON,
        }
    }

    /// What builds a project, after `cd NAME`, as its README says it.
    const fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["cargo build --release --target wasm32-unknown-unknown"],
            Self::C => &["make"],
            Self::Js => &["npm install", "npm run build"],
            Self::Python => &[
                "pip install -r requirements.txt",
                "componentize-py -d wit -w daemon componentize app -o {{wasm}}",
            ],
        }
    }
}

/// What differs between two projects of a language.
struct Words {
    name: String,
    /// The component that is built.
    wasm: String,
    /// The dependency, in the notation of a `Cargo.toml`.
    sdk: String,
}

impl Words {
    fn fill(&self, text: &str) -> String {
        text.replace("{{name}}", &self.name)
            .replace("{{wasm}}", &self.wasm)
            .replace("{{sdk}}", &self.sdk)
    }
}

pub(super) fn new(args: &NewArgs, json: bool) -> Result<ExitCode, CliError> {
    let refused = |message: String| CliError::other(ExitCode::Usage, message);
    let name = &args.name;
    if !is_name(name) {
        return Err(refused(format!("`{name}` is no name of a daemon: {NAME_FORM}")));
    }
    let language = args.lang;
    if language == Language::Rust
        && (name.contains('.') || name.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err(refused(format!(
            "`{name}` is no name of a Cargo package, which starts with a letter and has no dot; the name of the \
             daemon stands in duende.toml, and may be another"
        )));
    }
    if language != Language::Rust && args.sdk.is_some() {
        return Err(refused("--sdk: only projects in Rust use the SDK".to_owned()));
    }
    let (sdk, told) = match language {
        Language::Rust => sdk(args.sdk.as_deref()).map_err(refused)?,
        _ => (String::new(), None),
    };
    let wasm = match language {
        Language::Rust => {
            format!("target/wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_"))
        }
        _ => format!("{name}.wasm"),
    };
    let words = Words { name: name.clone(), wasm, sdk };
    let folder = Path::new(name);
    write(folder, language.files(), &words)
        .map_err(|message| CliError::other(ExitCode::Failure, message))?;

    let commands: Vec<_> = language.commands().iter().map(|command| words.fill(command)).collect();
    let run = format!("duende run --name {name} {} --stdin", words.wasm);
    if json {
        let files: Vec<_> = language.files().iter().map(|(path, _)| folder.join(path)).collect();
        output::json(&json!({
            "folder": folder, "files": files, "sdk": told, "build": commands, "run": run,
        }))?;
    } else {
        output::line(&format!("{name}/ has a daemon that counts the lines of standard input:\n"))?;
        let cd = [format!("cd {name}")];
        for command in cd.iter().chain(&commands).chain([&run]) {
            output::line(&format!("  {command}"))?;
        }
        if let Some(told) = told {
            output::line(&format!("\nThe SDK is {told}: Cargo.toml says so."))?;
        }
        output::line(&format!("{name}/README.md says what is needed for it."))?;
    }
    Ok(ExitCode::Success)
}

/// The dependency on the SDK, and where that is, for people.
fn sdk(asked: Option<&Path>) -> Result<(String, Option<String>), String> {
    let is_sdk = |folder: &Path| {
        fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|manifest| manifest.contains("name = \"duende-sdk\""))
    };
    let folder = match asked {
        Some(asked) => {
            let places = [asked.join("guests/sdk"), asked.to_path_buf()];
            let found = places.into_iter().find(|place| is_sdk(place)).ok_or_else(|| {
                format!(
                    "--sdk {}: that is neither Duende's source tree nor its folder guests/sdk; without --sdk it is \
                     the tree that this program was built from, or {REPOSITORY}",
                    asked.display()
                )
            })?;
            Some(found)
        }
        None => Some(PathBuf::from(SDK)).filter(|place| is_sdk(place)),
    };
    let Some(folder) = folder else {
        let whence = REPOSITORY.to_owned();
        return Ok((format!("git = \"{REPOSITORY}\""), Some(whence)));
    };
    let folder =
        fs::canonicalize(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let Some(path) = folder.to_str() else {
        return Err(format!("{}: a Cargo.toml can only name paths in UTF-8", folder.display()));
    };
    let quoted = toml::Value::String(path.to_owned());
    Ok((format!("path = {quoted}"), Some(path.to_owned())))
}

/// Writes the files into the folder, which must not be there, or must be empty.
fn write(folder: &Path, files: &[Template], words: &Words) -> Result<(), String> {
    let at = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(folder).map_err(|error| at(folder, &error))?;
            if entries.next().is_some() {
                return Err(format!(
                    "{}/ is there and not empty: nothing was written; choose another name, or another folder to be in",
                    folder.display()
                ));
            }
        }
        done => done.map_err(|error| at(folder, &error))?,
    }
    for (path, content) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| at(parent, &error))?;
        }
        let filled = std::str::from_utf8(content).ok().map(|text| words.fill(text).into_bytes());
        File::create_new(&path)
            .and_then(|mut file| file.write_all(filled.as_deref().unwrap_or(content)))
            .map_err(|error| at(&path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGUAGES: [Language; 4] = [Language::Rust, Language::C, Language::Js, Language::Python];

    fn words() -> Words {
        let [name, wasm, sdk] = ["counter", "counter.wasm", "path = \"/sdk\""].map(str::to_owned);
        Words { name, wasm, sdk }
    }

    #[test]
    fn each_language_has_its_files_filled_in() {
        for language in LANGUAGES {
            let place = tempfile::tempdir().unwrap();
            let folder = place.path().join("counter");
            write(&folder, language.files(), &words()).unwrap();
            let readme = fs::read_to_string(folder.join("README.md")).unwrap();
            for command in language.commands() {
                assert!(readme.contains(&words().fill(command)), "{language:?}: {command}");
            }
            assert!(readme.contains("duende run --name counter"), "{language:?}");
            for (path, _) in language.files() {
                let content = fs::read(folder.join(path)).unwrap();
                let text = String::from_utf8_lossy(&content);
                assert!(!text.contains("{{"), "{language:?}: {path}");
            }
            let fleet = folder.join("duende.toml");
            let surroundings = crate::platform::Surroundings::current();
            let image = folder.join("counter.wasm");
            // What would be built; `check` looks for it.
            fs::write(&image, b"\0asm").unwrap();
            let fleet = crate::config::load(&fleet, &Default::default(), &surroundings).unwrap();
            assert_eq!(fleet.daemons[0].name, "counter");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let mine = place.path().join("README.md");
        write(place.path(), C, &words()).unwrap();
        fs::write(&mine, "mine").unwrap();
        let error = write(place.path(), C, &words()).unwrap_err();
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    }

    #[test]
    fn the_sdk_is_named_or_that_of_this_tree() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let (here, _) = sdk(None).unwrap();
        assert_eq!(here, format!("path = \"{}\"", tree.join("guests/sdk").display()));
        for named in [tree.to_path_buf(), tree.join("guests/sdk")] {
            assert_eq!(sdk(Some(&named)).unwrap().0, here);
        }
        let error = sdk(Some(Path::new("/nowhere"))).unwrap_err();
        assert!(error.contains("guests/sdk"), "{error}");
    }

    /// `cargo xtask guests --all` writes both, from `wit/daemon.wit`.
    #[test]
    fn the_bindings_of_c_are_those_of_the_contract() {
        let contract = blake3::hash(include_bytes!("../../../wit/daemon.wit"));
        let bound = include_str!("new/c/bindings/daemon.wit.b3").trim();
        assert_eq!(bound, contract.to_hex().as_str(), "run `cargo xtask guests --all`");
    }
}
