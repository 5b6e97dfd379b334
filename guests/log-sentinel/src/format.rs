//! Formats by name, by pattern, or recognised for each line.

use core::fmt;

use crate::access_json::{self, Dialect};
use crate::clf::{self, Layout};
use crate::number::Unit;
use crate::pattern::{Pattern, PatternError};
use crate::record::{Misread, Record};
use crate::scan::find;

/// How lines are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Each line by its looks: JSON begins with a brace, else it is the common format or what grew out of it.
    /// No more than that is needed to tell them apart, so nothing is remembered of the lines before.
    #[default]
    Auto,
    /// One that has a name.
    Named(Named),
    /// One's own.
    Pattern(Pattern),
}

/// A format that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// As far as the bytes; more may follow.
    Common,
    /// With referer and agent; more may follow.
    Combined,
    /// Combined, with a host in front.
    VhostCombined,
    /// Traefik's: combined with router, server and duration, or its JSON.
    Traefik,
    /// Caddy's JSON.
    Caddy,
    /// JSON with the usual names.
    Json,
}

/// Those that have more to say before those that have less: so the nearest to a line is the first that reads it.
const NAMES: &[(&str, Named)] = &[
    ("traefik", Named::Traefik),
    ("combined", Named::Combined),
    ("vhost_combined", Named::VhostCombined),
    ("common", Named::Common),
    ("caddy", Named::Caddy),
    ("json", Named::Json),
];

/// Why a format was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// There is no format of this name.
    Unknown(String),
    /// The pattern can't work.
    Pattern(PatternError),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(
                    f,
                    "there is no format `{}`; there are `auto`",
                    name.as_bytes().escape_ascii()
                )?;
                for (name, _) in NAMES {
                    write!(f, ", `{name}`")?;
                }
                f.write_str(
                    ", or a pattern like nginx's `$remote_addr … $status …` or Apache's `%h … %>s …`",
                )
            }
            Self::Pattern(error) => error.fmt(f),
        }
    }
}

impl core::str::FromStr for Format {
    type Err = FormatError;

    /// A name, or a pattern in nginx's syntax or in Apache's.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        if Pattern::is_one(text) {
            return Pattern::parse(text).map(Self::Pattern).map_err(FormatError::Pattern);
        }
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let named = NAMES.iter().find(|(name, _)| *name == text);
        named.map(|(_, named)| Self::Named(*named)).ok_or(FormatError::Unknown(text.to_owned()))
    }
}

impl Format {
    /// Reads a line without its end. `unit` is that of a request time that does not say it.
    ///
    /// # Errors
    /// How far it could be read.
    pub fn read(&self, line: &[u8], unit: Option<Unit>) -> Result<Record, Misread> {
        match self {
            Self::Auto => auto(line, unit),
            Self::Named(named) => named.read(line, unit),
            Self::Pattern(pattern) => pattern.read(line),
        }
    }
}

impl Named {
    fn read(self, line: &[u8], unit: Option<Unit>) -> Result<Record, Misread> {
        match self {
            Self::Common => clf::read(line, Layout::Common, unit),
            Self::Combined => clf::read(line, Layout::Combined, unit),
            Self::VhostCombined => clf::read(line, Layout::VhostCombined, unit),
            Self::Traefik if line.first() == Some(&b'{') => {
                access_json::read(line, Dialect::Any, unit)
            }
            Self::Traefik => clf::read(line, Layout::Traefik, unit),
            Self::Caddy => access_json::read(line, Dialect::Caddy, unit),
            Self::Json => access_json::read(line, Dialect::Any, unit),
        }
    }
}

fn auto(line: &[u8], unit: Option<Unit>) -> Result<Record, Misread> {
    if line.first() == Some(&b'{') {
        return access_json::read(line, Dialect::Any, unit);
    }
    clf::read(line, Layout::Common, unit).or_else(|misread| {
        // JSON with something of syslog's in front.
        let Some(open) = find(line, b'{') else { return Err(misread) };
        let json = line.get(open..).unwrap_or_default();
        let behind = |json: Misread| Misread::new(open + json.at, json.expected);
        access_json::read(json, Dialect::Any, unit).map_err(|json| misread.or_further(behind(json)))
    })
}

/// Which of the named formats comes nearest to a line, and how far; no misread if it reads all of it. None if no
/// byte is like any of them.
#[must_use]
pub fn nearest(line: &[u8]) -> Option<(&'static str, Option<Misread>)> {
    let mut nearest: Option<(&str, Misread)> = None;
    for (name, named) in NAMES {
        match named.read(line, None) {
            Ok(_) => return Some((name, None)),
            // Of those that come equally far, the plainest.
            Err(misread) if nearest.is_none_or(|(_, best)| misread.at >= best.at) => {
                nearest = Some((name, misread));
            }
            Err(_) => {}
        }
    }
    nearest.filter(|(_, misread)| misread.at > 0).map(|(name, misread)| (name, Some(misread)))
}
