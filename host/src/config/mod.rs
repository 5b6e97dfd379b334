//! The configuration: read, checked, and handed out as one snapshot.
//!
//! A value comes from the flags, else from the environment, else from the file, else it is a default.
//! [`load`] reads a file and [`single()`] makes a fleet of one daemon from flags; both yield a
//! [`FleetConfig`] in which everything is checked, or [`Diagnostics`] that list what is wrong. Nothing
//! is half accepted: what this version can't do or enforce is refused by name.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `DUENDE_STATE_DIR` | The state of fleet F lies in `$DUENDE_STATE_DIR/F` |
//! | `DUENDE_LOG_DIR` | The logs of fleet F lie in `$DUENDE_LOG_DIR/F` |
//! | `DUENDE_CACHE_DIR` | Compiled components of all fleets lie in `$DUENDE_CACHE_DIR` |
//! | `DUENDE_RUNTIME_DIR` | The control socket of fleet F is `$DUENDE_RUNTIME_DIR/F.sock` |

mod channel;
mod compile;
mod daemon;
mod diagnostic;
pub mod dirs;
mod duration;
mod env_file;
mod environment;
mod fleet;
mod graph;
mod groups;
mod health;
mod limits;
mod look;
mod misplaced;
mod model;
mod names;
mod native;
mod open_files;
mod outline;
mod pid_file;
mod reader;
mod reading;
mod recovery;
mod schema;
pub(crate) mod signals;
mod single;
pub(crate) mod suggest;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
mod unexpanded;
mod word;
mod wos;
mod written;

pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Place, Severity};
#[cfg(feature = "manager")]
pub(crate) use duration::read as read_duration;
pub use environment::{Environment, PRIVATE_VARIABLES, native_env};
pub use fleet::{Checked, Overrides, check, fleet_name, load, parse};
pub use model::*;
#[cfg(feature = "manager")]
pub(crate) use names::{NAME_FORM, is_name, is_name as names_a_fleet};
pub use open_files::{keep_open_files_needed, open_files_needed};
#[cfg(feature = "manager")]
pub(crate) use pid_file::not_a_pid_file;
pub use single::{SingleDaemon, SingleSource, single};
#[cfg(all(test, feature = "manager"))]
pub(crate) use word::words_too_long;
pub use written::{Change, TakesEffect, Written};
