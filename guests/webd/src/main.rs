//! `webd`: a small HTTP/1.1 file server, as an example of a native daemon that is meant to be used.
//!
//! | module | idea |
//! |---|---|
//! | `args` | the command line |
//! | `server` | the daemon: listen, accept, reload, drain |
//! | `connection` | one connection: hyper, and the moment at which a request is logged |
//! | `record` | one request from its head to its line |
//! | `shared` | what all connections share: site, log, counters, drain; health and figures |
//! | `respond` | from a request to a response |
//! | `site` | from a path to a file, inside the root and nowhere else |
//! | `range` | which bytes of a file were asked for |
//! | `body` | a file on its way to the socket, chunk by chunk |
//! | `access_log` | one line per request |
//! | `content_type` | what a file's extension says |

mod access_log;
mod args;
mod body;
mod connection;
mod content_type;
mod range;
mod record;
mod respond;
mod server;
mod shared;
mod site;

use std::process::ExitCode;

use clap::Parser;
use duende_daemon::{DaemonId, Priority, log, run_daemon};

fn main() -> ExitCode {
    let args = args::Args::parse();
    match DaemonId::random() {
        Ok(id) => run_daemon(server::Webd::new(id, args)),
        Err(error) => {
            log(Priority::Error, format_args!("webd: no random bytes: {error}"));
            ExitCode::FAILURE
        }
    }
}
