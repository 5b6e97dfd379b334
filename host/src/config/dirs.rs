//! Where a fleet keeps its things.
//!
//! | | root | others |
//! |---|---|---|
//! | state | `/var/lib/duende/F` | `$XDG_STATE_HOME/duende/F`, `~/.local/state/duende/F` |
//! | logs | `/var/log/duende/F` | `<state>/log` |
//! | compiled components | `/var/cache/duende` | `$XDG_CACHE_HOME/duende`, `~/.cache/duende` |
//! | sockets | `$XDG_RUNTIME_DIR/duende`, `/run/duende` | `$XDG_RUNTIME_DIR/duende`, `/tmp/duende-<uid>` |
//!
//! Nobody but its owner can put something into the directory of sockets: [`prepare_runtime_dir`] makes
//! it so, and [`check_runtime_dir`] refuses another one. Root's can be passed by everybody, because
//! daemons that run as other users notify the manager through it; who may use a control socket is said
//! by the socket's own mode.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::platform::Surroundings;
use crate::reach;

/// Where control sockets lie, without regard to flags.
#[must_use]
pub fn runtime_dir(surroundings: &Surroundings) -> PathBuf {
    if let Some(directory) = surroundings.var("DUENDE_RUNTIME_DIR") {
        return absolute(directory);
    }
    if let Some(directory) = surroundings.var("XDG_RUNTIME_DIR") {
        return absolute(directory).join("duende");
    }
    if surroundings.uid == 0 {
        return PathBuf::from("/run/duende");
    }
    PathBuf::from(format!("/tmp/duende-{}", surroundings.uid))
}

/// Where the state of a fleet lies, without regard to the file and flags.
#[must_use]
pub fn state_dir(surroundings: &Surroundings, fleet: &str) -> PathBuf {
    if let Some(directory) = surroundings.var("DUENDE_STATE_DIR") {
        return absolute(directory).join(fleet);
    }
    if surroundings.uid == 0 {
        return Path::new("/var/lib/duende").join(fleet);
    }
    let base = match (surroundings.var("XDG_STATE_HOME"), surroundings.var("HOME")) {
        (Some(state), _) => absolute(state),
        (None, Some(home)) => absolute(home).join(".local/state"),
        (None, None) => PathBuf::from(format!("/var/tmp/duende-{}", surroundings.uid)),
    };
    base.join("duende").join(fleet)
}

/// Where the compiled components of all of a user's fleets lie.
#[must_use]
pub fn cache_dir(surroundings: &Surroundings) -> PathBuf {
    if let Some(directory) = surroundings.var("DUENDE_CACHE_DIR") {
        return absolute(directory);
    }
    if surroundings.uid == 0 {
        return PathBuf::from("/var/cache/duende");
    }
    let base = match (surroundings.var("XDG_CACHE_HOME"), surroundings.var("HOME")) {
        (Some(cache), _) => absolute(cache),
        (None, Some(home)) => absolute(home).join(".cache"),
        (None, None) => PathBuf::from(format!("/var/tmp/duende-{}", surroundings.uid)),
    };
    base.join("duende")
}

/// Where the logs of a fleet lie, without regard to the file and flags, if its state lies in
/// `state_dir`.
#[must_use]
pub fn log_dir(surroundings: &Surroundings, fleet: &str, state_dir: &Path) -> PathBuf {
    if let Some(directory) = surroundings.var("DUENDE_LOG_DIR") {
        return absolute(directory).join(fleet);
    }
    if surroundings.uid == 0 && state_dir == Path::new("/var/lib/duende").join(fleet) {
        return Path::new("/var/log/duende").join(fleet);
    }
    state_dir.join("log")
}

/// The control socket of a fleet.
#[must_use]
pub fn socket_path(runtime_dir: &Path, fleet: &str) -> PathBuf {
    runtime_dir.join(format!("{fleet}.sock"))
}

/// A path from the environment or a flag, against the current directory.
pub(crate) fn absolute(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path from a file, against the directory of the file, without needless `.`.
pub(super) fn join(base: &Path, path: &str) -> PathBuf {
    base.join(path).components().collect()
}

/// Makes a directory for its owner alone, and those above it. Of a link that leads nowhere, or in circles,
/// the system says only that something is there: what it says of where the link leads counts.
///
/// # Errors
/// It is not there and can't be made, which names it; or somebody else could put something in its place.
pub fn make(directory: &Path) -> io::Result<()> {
    check_place(directory)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| {
        let error = match (error.kind(), fs::metadata(directory)) {
            (io::ErrorKind::AlreadyExists, Err(found)) => found,
            _ => error,
        };
        let said = reach::said(directory, &error);
        io::Error::new(error.kind(), format!("cannot make {}: {said}", directory.display()))
    })
}

/// Why what a fleet keeps in a directory is not the fleet's alone; none: it is.
///
/// It is said and not refused: in a container, or on a shared file system, owners are numbers of somewhere else.
#[cfg(feature = "manager")]
#[must_use]
pub(crate) fn doubt(directory: &Path) -> Option<String> {
    const OPEN_TO_ALL: u32 = 0o002;
    let found = fs::metadata(directory).ok()?;
    let (uid, path) = (rustix::process::geteuid().as_raw(), directory.display());
    if found.uid() != uid && found.uid() != 0 {
        let owner = found.uid();
        return Some(format!(
            "{path} belongs to user {owner}, who can put anything in the place of what the fleet keeps there: \
             chown it to user {uid}, or name another directory"
        ));
    }
    (found.mode() & OPEN_TO_ALL != 0).then(|| {
        format!(
            "everybody can put anything in the place of what the fleet keeps in {path}: chmod o-w it"
        )
    })
}

/// Where everybody may make things, as in `/tmp`, whoever comes first owns a name that can be guessed: the
/// directory right below must be this user's or root's, and nobody else's to write into.
fn check_place(directory: &Path) -> io::Result<()> {
    const STICKY_FOR_ALL: u32 = 0o1002;
    let uid = rustix::process::geteuid().as_raw();
    for path in directory.ancestors() {
        let (Some(above), Ok(found)) = (path.parent(), fs::symlink_metadata(path)) else {
            continue;
        };
        let is_open =
            fs::metadata(above).is_ok_and(|above| above.mode() & STICKY_FOR_ALL == STICKY_FOR_ALL);
        if !is_open {
            continue;
        }
        let path = path.display();
        let problem = if found.uid() != uid && found.uid() != 0 {
            format!("{path} belongs to user {}, not to you", found.uid())
        } else if found.is_dir() && found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0 {
            let mode = found.mode() & 0o7777;
            format!("{path} is open to other users (mode {mode:04o}): run `chmod 700 {path}`")
        } else {
            continue;
        };
        let text = format!("{problem}; another place is chosen by --state-dir and --log-dir");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// Why the directory of control sockets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// It can't be created or looked at.
    #[error("{path}: {source}; set DUENDE_RUNTIME_DIR to a directory that you own", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It belongs to another user.
    #[error(
        "{path} belongs to user {owner}, not to you; set DUENDE_RUNTIME_DIR to a directory that you own",
        path = path.display()
    )]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write into it.
    #[error(
        "{path} is open to other users (mode {mode:04o}); run `chmod 700 {path}`, or set DUENDE_RUNTIME_DIR",
        path = path.display()
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is a link or a file.
    #[error("{path} is not a directory; remove it, or set DUENDE_RUNTIME_DIR", path = path.display())]
    NotADirectory {
        /// What is there.
        path: PathBuf,
    },
}

/// The mode of the directory of sockets.
const fn runtime_dir_mode(uid: u32) -> u32 {
    // Only root starts programs of other users.
    if uid == 0 { 0o711 } else { 0o700 }
}

/// Creates the directory of sockets if it is not there, and checks it: with mode 0700, and with mode
/// 0711 for root. One of root's that is there already is opened so far.
///
/// # Errors
/// When it can't be created, or is not its user's alone.
pub fn prepare_runtime_dir(path: &Path, uid: u32) -> Result<(), RuntimeDirError> {
    let io_error = |source| RuntimeDirError::Io { path: path.to_owned(), source };
    let mode = runtime_dir_mode(uid);
    match fs::DirBuilder::new().recursive(true).mode(mode).create(path) {
        Ok(()) => {}
        // Something else of that name: the check says what.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(io_error(source)),
    }
    check_runtime_dir(path, uid)?;
    // The umask may have taken bits away, and an earlier version made it for root alone.
    let found = fs::symlink_metadata(path).map_err(io_error)?.mode() & 0o7777;
    if found & mode != mode {
        let permissions = fs::Permissions::from_mode(found | mode);
        fs::set_permissions(path, permissions).map_err(io_error)?;
    }
    Ok(())
}

/// Checks that nobody but `uid` can put something into the directory of sockets.
///
/// # Errors
/// When it is not there, is no directory, belongs to another user, or others may write into it.
pub fn check_runtime_dir(path: &Path, uid: u32) -> Result<(), RuntimeDirError> {
    let path = path.to_owned();
    // Not through a link: in /tmp anybody could have put one there.
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) => return Err(RuntimeDirError::Io { path, source }),
    };
    if !metadata.is_dir() {
        return Err(RuntimeDirError::NotADirectory { path });
    }
    if metadata.uid() != uid {
        return Err(RuntimeDirError::ForeignOwner { path, owner: metadata.uid() });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(RuntimeDirError::TooOpen { path, mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

/// Checks the directory of sockets for somebody who asks a manager there: root may ask that of any
/// user. Gives whose it is: who serves there must be that user, or root.
///
/// # Errors
/// As [`check_runtime_dir`].
pub fn check_runtime_dir_to_ask(path: &Path, uid: u32) -> Result<u32, RuntimeDirError> {
    let owner = match fs::symlink_metadata(path) {
        Ok(metadata) if uid == 0 => metadata.uid(),
        // The check says what is wrong.
        Ok(_) | Err(_) => uid,
    };
    check_runtime_dir(path, owner)?;
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(uid: u32, vars: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            uid,
            open_files_max: None,
            root: PathBuf::from("/"),
        }
    }

    /// Sockets, state and logs of fleet `f`.
    #[track_caller]
    fn check(uid: u32, vars: &[(&str, &str)], expected: [&str; 3]) {
        let surroundings = surroundings(uid, vars);
        let state = state_dir(&surroundings, "f");
        let log = log_dir(&surroundings, "f", &state);
        assert_eq!([runtime_dir(&surroundings), state, log], expected.map(PathBuf::from));
    }

    /// A name that can be guessed, where everybody may make things.
    #[test]
    fn nothing_is_put_where_others_may_put_something() {
        let open = tempfile::TempDir::new().unwrap();
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let base = open.path().join("duende-7");
        let inner = base.join("duende/f/log");
        make(&inner).unwrap();
        make(&inner).unwrap();
        for mode in [0o777, 0o702] {
            fs::set_permissions(&base, fs::Permissions::from_mode(mode)).unwrap();
            let error = make(&inner).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("open to other users"), "{error}");
        }
        fs::set_permissions(&base, fs::Permissions::from_mode(0o700)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&base, Some(12_345), None).unwrap();
            let error = make(&inner).unwrap_err();
            assert!(error.to_string().contains("belongs to user 12345"), "{error}");
        }
    }

    #[test]
    fn each_user_has_a_place() {
        check(0, &[], ["/run/duende", "/var/lib/duende/f", "/var/log/duende/f"]);
        check(
            7,
            &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")],
            ["/run/user/7/duende", "/h/.local/state/duende/f", "/h/.local/state/duende/f/log"],
        );
        check(
            7,
            &[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("DUENDE_LOG_DIR", "/l")],
            ["/tmp/duende-7", "/s/duende/f", "/l/f"],
        );
        check(
            0,
            &[("DUENDE_RUNTIME_DIR", "/r"), ("DUENDE_STATE_DIR", "/s")],
            ["/r", "/s/f", "/s/f/log"],
        );
    }

    /// The kinds of users differ in one bit, which a umask and an earlier version must not decide.
    #[test]
    fn roots_directory_can_be_passed_and_a_users_cannot() {
        assert_eq!((runtime_dir_mode(0), runtime_dir_mode(7)), (0o711, 0o700));
        let home = tempfile::tempdir().expect("temporary directory");
        let uid = rustix::process::geteuid().as_raw();
        let path = home.path().join("duende");
        let mode = || fs::metadata(&path).expect("there").mode() & 0o7777;
        prepare_runtime_dir(&path, uid).expect("created");
        assert_eq!(mode(), runtime_dir_mode(uid));
        let narrow = fs::Permissions::from_mode(0o500);
        fs::set_permissions(&path, narrow).expect("chmod");
        prepare_runtime_dir(&path, uid).expect("found");
        assert_eq!(mode(), runtime_dir_mode(uid));
    }

    #[test]
    fn a_directory_that_others_could_write_into_is_refused() {
        let home = tempfile::tempdir().expect("temporary directory");
        let uid = rustix::process::geteuid().as_raw();
        let path = home.path().join("a/duende");
        prepare_runtime_dir(&path, uid).expect("created");
        prepare_runtime_dir(&path, uid).expect("found");
        assert!(matches!(
            check_runtime_dir(&path, uid + 1),
            Err(RuntimeDirError::ForeignOwner { .. })
        ));
        assert!(check_runtime_dir_to_ask(&path, uid + 1).is_err());
        assert_eq!(check_runtime_dir_to_ask(&path, 0).expect("root asks everywhere"), uid);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).expect("chmod");
        assert!(check_runtime_dir_to_ask(&path, 0).is_err());
        assert!(matches!(check_runtime_dir(&path, uid), Err(RuntimeDirError::TooOpen { .. })));
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        assert!(matches!(
            prepare_runtime_dir(&link, uid),
            Err(RuntimeDirError::NotADirectory { .. })
        ));
    }
}
