//! sd_notify(3): telling whoever started the process that it is ready, reloads or stops.
//!
//! Datagrams of `KEY=value` lines to the Unix socket that `NOTIFY_SOCKET` names; a leading `@` means
//! Linux's abstract namespace. Without the variable nobody wants to know, and nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{DaemonError, Priority, log};

/// Longest text of `STATUS=`, in bytes: a receiver reads datagrams of at most 4,096.
const STATUS_BYTES_MAX: usize = 1_024;

/// How long a datagram may wait for room in the receiver's queue. Long enough for a busy manager,
/// short enough not to look dead.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the receiver, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// A receiver that is gone is mentioned once, not at each datagram.
    is_failing: AtomicBool,
}

impl Notifier {
    /// Connects to the socket that `NOTIFY_SOCKET` names. `None` is a notifier that sends nothing.
    pub(super) fn connect(name: Option<&OsStr>) -> Result<Self, DaemonError> {
        let Some(name) = name else {
            return Ok(Self::default());
        };
        let socket = address(name)
            .and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.connect_addr(&address)?;
                socket.set_write_timeout(Some(SEND_TIMEOUT))?;
                Ok(socket)
            })
            .map_err(|source| DaemonError::Io {
                what: format!(
                    "cannot reach the socket that NOTIFY_SOCKET names ({}): unset the variable to \
                     run without readiness",
                    name.display()
                ),
                source,
            })?;
        Ok(Self { socket: Some(socket), is_failing: AtomicBool::new(false) })
    }

    /// Start-up, or a reload, is complete.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins; [`ready`](Self::ready) ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for people. Line breaks become spaces; a text over the limit is cut, with an
    /// ellipsis at the cut.
    pub(super) fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", status_line(text)));
    }

    fn send(&self, datagram: &str) {
        let Some(socket) = &self.socket else { return };
        match socket.send(datagram.as_bytes()) {
            Ok(_) => self.is_failing.store(false, Ordering::Relaxed),
            Err(error) if self.is_failing.swap(true, Ordering::Relaxed) => drop(error),
            Err(error) => log(
                Priority::Warning,
                format_args!("cannot notify whoever started this process ({datagram}): {error}"),
            ),
        }
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', abstract_name @ ..] if !abstract_name.is_empty() => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(abstract_name)
        }
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither an absolute path nor @ and an abstract name",
        )),
    }
}

fn status_line(text: &str) -> String {
    let mut line = text.replace(['\n', '\r'], " ");
    if line.len() > STATUS_BYTES_MAX {
        line.truncate(line.floor_char_boundary(STATUS_BYTES_MAX - '…'.len_utf8()));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4_096];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    fn speaks_over(receiver: &UnixDatagram, name: &OsStr) {
        let notifier = Notifier::connect(Some(name)).unwrap();
        notifier.ready();
        assert_eq!(receive(receiver), "READY=1");
        notifier.reloading();
        let reloading = receive(receiver);
        let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(stamp.parse::<u64>().unwrap() > 0);
        notifier.status("two\nlines");
        assert_eq!(receive(receiver), "STATUS=two lines");
        notifier.stopping();
        assert_eq!(receive(receiver), "STOPPING=1");
    }

    #[test]
    fn speaks_over_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        speaks_over(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn speaks_over_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("duende-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        speaks_over(&receiver, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_the_way_out() {
        for name in ["", "@", "relative", "vsock:2:9", "/nowhere/at/all"] {
            let error = Notifier::connect(Some(OsStr::new(name))).unwrap_err();
            assert!(error.to_string().contains("unset the variable"), "{name}: {error}");
        }
    }

    #[test]
    fn long_status_is_cut_at_a_character() {
        let line = status_line(&"ö".repeat(STATUS_BYTES_MAX));
        assert!(line.len() <= STATUS_BYTES_MAX && line.ends_with("ö…"), "{line}");
    }
}
