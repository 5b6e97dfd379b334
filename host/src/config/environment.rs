//! The environment of a native daemon.
//!
//! From the weakest to the strongest: the manager's own variables, but for what was said to the
//! manager itself; who the daemon's user is, if it has one; the lines of `env_file`; `env`. A value is
//! any bytes: what is inherited need not be UTF-8.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use duende_core::wire::link::LINK_FD_VARIABLE;

use super::env_file;
use super::model::NativeConfig;

/// Names and values, in any bytes but zero.
pub type Environment = Vec<(Vec<u8>, Vec<u8>)>;

/// What is said to the manager, or by `keep` to one daemon: nobody else's business.
pub const PRIVATE_VARIABLES: [&str; 8] = [
    LINK_FD_VARIABLE,
    "DUENDE_DAEMON",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// The environment of a daemon's next start, each name once; `inherited` is the manager's own.
/// `env_file` is read now.
///
/// # Errors
/// `env_file` can't be read, or a line of it is none: which, why, and the way out.
pub fn native_env(
    native: &NativeConfig,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Environment, String> {
    let mut env: BTreeMap<Vec<u8>, Vec<u8>> = inherited
        .into_iter()
        .filter(|(name, _)| !PRIVATE_VARIABLES.iter().any(|private| name == private))
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect();
    if let Some(user) = &native.user {
        set(&mut env, "HOME", &user.home);
        set(&mut env, "SHELL", &user.shell);
        for name in ["USER", "LOGNAME"] {
            match &user.name {
                Some(user) => set(&mut env, name, user),
                // Whoever it is, it is not whom the manager runs as.
                None => drop(env.remove(name.as_bytes())),
            }
        }
    }
    if let Some(path) = &native.env_file {
        for (name, value) in env_file::read(path).map_err(|error| error.to_string())? {
            set(&mut env, &name, &value);
        }
    }
    for (name, value) in &native.env {
        set(&mut env, name, value);
    }
    Ok(env.into_iter().collect())
}

fn set(env: &mut BTreeMap<Vec<u8>, Vec<u8>>, name: &str, value: &str) {
    env.insert(name.into(), value.into());
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    use super::super::{Ready, StopScope, UserConfig};
    use super::*;

    #[test]
    fn the_stronger_wins_and_what_is_private_stays_so() {
        let directory = tempfile::tempdir().unwrap();
        let env_file = directory.path().join("e.env");
        std::fs::write(&env_file, "A=file\nB=file\nHOME=/file\n").unwrap();
        let native = |user: Option<&str>| NativeConfig {
            program: PathBuf::from("/bin/true"),
            args: Vec::new(),
            env: [("A".to_owned(), "env".to_owned())].into(),
            env_file: Some(env_file.clone()),
            working_dir: PathBuf::from("/"),
            user: Some(Box::new(UserConfig {
                uid: 7,
                gid: 7,
                groups: Vec::new(),
                name: user.map(str::to_owned),
                home: "/home/web".to_owned(),
                shell: "/bin/zsh".to_owned(),
            })),
            ready: Ready::Started,
            link: None,
            open_files_max: None,
            stop_signal: 15,
            stop_scope: StopScope::Group,
            notify_access: None,
            pid_file: None,
        };
        let inherited = || {
            let bytes = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
            let private = PRIVATE_VARIABLES.map(|name| (OsString::from(name), OsString::from("x")));
            [("A", &b"own"[..]), ("C", b"\xff"), ("USER", b"root"), ("SHELL", b"/bin/sh")]
                .map(|(name, value)| (OsString::from(name), bytes(value)))
                .into_iter()
                .chain(private)
        };
        let shown = |native: &NativeConfig| {
            let env = native_env(native, inherited()).unwrap();
            let shown = |(name, value): &(Vec<u8>, Vec<u8>)| {
                format!("{}={}", name.escape_ascii(), value.escape_ascii())
            };
            env.iter().map(shown).collect::<Vec<_>>().join(" ")
        };
        let own = r"C=\xff HOME=/file";
        assert_eq!(
            shown(&native(Some("web"))),
            format!("A=env B=file {own} LOGNAME=web SHELL=/bin/zsh USER=web")
        );
        assert_eq!(shown(&native(None)), format!("A=env B=file {own} SHELL=/bin/zsh"));
        // Read anew each time: what stands there now counts, and what is wrong there is said.
        std::fs::write(&env_file, "B=again").unwrap();
        assert!(shown(&native(None)).contains("B=again"));
        std::fs::write(&env_file, "B=again\nnonsense").unwrap();
        let error = native_env(&native(None), inherited()).unwrap_err();
        assert!(
            error.ends_with("e.env:2: not a variable; write NAME=value, or start a comment with #")
        );
    }
}
