//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Serves the files of a directory over HTTP/1.1.
///
/// SIGHUP opens the access log and the root anew (for log rotation and for a root that is a symbolic
/// link to the current release). SIGTERM and SIGINT stop accepting, finish what is under way within
/// the drain timeout, and exit with code 0.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "webd")]
pub(crate) struct Args {
    /// Address and port to listen on; port 0 takes a free one (see STATUS of sd_notify, or stderr)
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8731")]
    pub(crate) listen: SocketAddr,

    /// Directory to serve; nothing outside it can be reached, not even by symbolic links
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) root: PathBuf,

    /// File to which one line per request is appended; made if missing
    #[arg(long, value_name = "FILE", default_value = "access.log")]
    pub(crate) access_log: PathBuf,

    /// How long open requests may take once the server was asked to stop (10s, 500ms)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,

    /// Also answer /-/slow?ms=N after N milliseconds (at most 10,000): a request whose duration is
    /// known, for testing drains, timeouts and latency figures. Anybody can hold connections open
    /// with it: not for the open Internet
    #[arg(long)]
    pub(crate) diagnostics: bool,
}
