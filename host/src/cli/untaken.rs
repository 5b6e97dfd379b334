//! What a changed configuration file says and the fleet does not do: told by whoever might think that it
//! does, after `reload` and `restart`, and by `status`.

use serde::Serialize;

use crate::control::client::{Client, ClientError, unexpected};
use crate::control::protocol::{ConfigChange, ErrorCode, Request, Response};

use super::output;

/// Most changes that are shown to people.
const SHOWN_MAX: usize = 10;

/// The changes, or why they can't be told.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Untaken {
    changes: Vec<ConfigChange>,
    #[serde(skip)]
    file: String,
    /// The file can't be used as it is now.
    #[serde(skip)]
    trouble: Option<String>,
}

impl Untaken {
    /// Those of these daemons; of all, and of the fleet, if none is named. A manager that can't tell, as one of
    /// an earlier version, has said what was asked for all the same.
    pub(super) fn ask(client: &mut Client, names: &[String]) -> Self {
        let Some(file) = client.info().config_file.clone() else { return Self::default() };
        let mut changes = Vec::new();
        let asked = client.ask_quickly(&Request::Changes, |response| match response {
            Response::Change { change } => {
                if names.is_empty() || names.contains(&change.daemon) {
                    changes.push(change);
                }
                Ok(())
            }
            other => Err(unexpected(&other)),
        });
        let trouble = match asked {
            Err(ClientError::Refused { code: ErrorCode::InvalidState, message }) => Some(message),
            Ok(()) | Err(_) => None,
        };
        Self { changes, file, trouble }
    }

    /// A line for each.
    pub(super) fn print(&self) -> std::io::Result<()> {
        for change in self.changes.iter().take(SHOWN_MAX) {
            output::line(&change.in_words(&self.file))?;
        }
        if let Some(more) = self.changes.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            output::line(&format!("{}: and {more} more changes", self.file))?;
        }
        self.trouble.as_deref().map_or(Ok(()), output::line)
    }
}
