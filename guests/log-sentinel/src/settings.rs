//! What `[daemon.config]` says.

use duende_sdk::{Context, Failure, Level};
use serde::Deserialize;

use crate::format::Format;
use crate::number::Unit;
use crate::window::Window;

/// A configuration that makes sense.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) window: usize,
    pub(crate) error_ratio_alert: f64,
    pub(crate) format: Format,
    pub(crate) request_time: Option<Unit>,
}

/// What may be written.
const KEYS: [&str; 4] = ["error_ratio_alert", "format", "request_time", "window"];
/// Keys that are looked at for unknown ones.
const KEYS_MAX: u32 = 64;

/// As it is written.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    window: usize,
    error_ratio_alert: f64,
    format: String,
    request_time: Option<Unit>,
}

impl Default for Written {
    fn default() -> Self {
        let format = "auto".to_owned();
        Self { window: 100, error_ratio_alert: 0.05, format, request_time: None }
    }
}

impl Settings {
    /// Reads them. A key that is none is logged: it harms nothing, but somebody meant something by it.
    ///
    /// # Errors
    /// What does not make sense, with its key.
    pub(crate) fn read(context: &mut Context<'_>) -> Result<Self, Failure> {
        let Written { window, error_ratio_alert, format, request_time } =
            context.config().read()?;
        let refused = |problem: String| Err(Failure::config(format!("config: {problem}")));
        let most = Window::REQUESTS_MAX;
        if !(1..=most).contains(&window) {
            return refused(format!("`window = {window}` must be from 1 to {most}"));
        }
        if !(0.0..=1.0).contains(&error_ratio_alert) {
            return refused(format!(
                "`error_ratio_alert = {error_ratio_alert}` must be from 0.0 to 1.0"
            ));
        }
        let format = match format.parse() {
            Ok(format) => format,
            Err(error) => return refused(format!("`format`: {error}")),
        };
        if matches!(format, Format::Pattern(_)) && request_time.is_some() {
            return refused(
                "`request_time` is for formats with a name: a pattern says the unit itself \
                 (`$request_time`, `%D`, `%T`, `%{ms}T`)"
                    .to_owned(),
            );
        }
        for key in context.config().keys("", None, KEYS_MAX) {
            if !KEYS.contains(&key.as_str()) {
                let (key, keys) = (key.as_bytes().escape_ascii(), KEYS.join("`, `"));
                context.log(Level::Warn, format!("config: no key `{key}`; there are `{keys}`"));
            }
        }
        Ok(Self { window, error_ratio_alert, format, request_time })
    }
}
