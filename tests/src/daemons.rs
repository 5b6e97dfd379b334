//! Daemons as they stand in a configuration. `rest` is more TOML: keys first, then tables.

use std::path::{Path, PathBuf};

/// A program of this workspace.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    // target/debug/deps/claims-0123 lies two levels under target/debug/duende
    built(test.ancestors().nth(2).expect("target/debug").join(name), "cargo build")
}

/// Where `cargo xtask setup` unpacks one of Debian's packages. The folder is there only if what the machine
/// has does not serve.
///
/// # Panics
/// This test has no path.
#[must_use]
pub fn unpacked(package: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    test.ancestors().nth(3).expect("target").join("debian").join(package)
}

/// A program of one of Debian's packages: as `cargo xtask setup` unpacked it, or the machine's.
///
/// # Panics
/// There is none.
#[must_use]
pub fn tool(package: &str, name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user has no `sbin` among its folders.
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let of_the_machine = std::env::split_paths(&path).chain(sbin);
    [unpacked(package).join("run")]
        .into_iter()
        .chain(of_the_machine)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("no {name}: `cargo xtask setup` fetches it, or says why not"))
}

/// The library that gives a program another time, `LD_PRELOAD`ed.
///
/// # Panics
/// There is none.
#[must_use]
pub fn libfaketime() -> PathBuf {
    let bases = [unpacked("faketime").join("usr/lib"), "/usr/lib".into()];
    let dirs =
        bases.iter().flat_map(|base| std::fs::read_dir(base).into_iter().flatten().flatten());
    let mut found = dirs.map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    found
        .find(|path| path.is_file())
        .expect("no libfaketime: `cargo xtask setup` fetches it, or says why not")
}

/// A component of this repository.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn artifact(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    built(root.join("artifacts").join(format!("{name}.wasm")), "cargo xtask guests")
}

pub(crate) fn built(file: PathBuf, with: &str) -> PathBuf {
    assert!(
        file.is_file(),
        "{} is not built: run `{with}`, or `cargo xtask test`, which does that first",
        file.display()
    );
    file
}

/// A component of this repository.
#[must_use]
pub fn component(name: &str, image: &str, rest: &str) -> String {
    image_at(name, &artifact(image), rest)
}

/// Whatever lies at a path, as a component.
#[must_use]
pub fn image_at(name: &str, image: &Path, rest: &str) -> String {
    format!("[[daemon]]\nname = \"{name}\"\nimage = \"{}\"\n{rest}\n", image.display())
}

/// A program of this workspace that is built with the SDK, as a native daemon.
#[must_use]
pub fn linked(name: &str, program_name: &str, rest: &str) -> String {
    let program = program(program_name);
    let program = program.display();
    format!("[[daemon]]\nname = \"{name}\"\ncommand = [\"{program}\"]\nlink = true\n{rest}\n")
}

/// A shell script as a native daemon.
#[must_use]
pub fn script(name: &str, text: &str, rest: &str) -> String {
    format!("[[daemon]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{text}''']\n{rest}\n")
}
