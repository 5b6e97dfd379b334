//! An access log in JSON: Caddy's, traefik's, Envoy's, and whatever has members with the usual names.
//!
//! Rules:
//! 1. A line is an object with a status. Which names are read is the table in [`Found::take`]; of several
//!    members that say the same, the first that can be read counts.
//! 2. Objects below `response`, `http`, `httpRequest` and the like are looked into, [`DEPTH_MAX`] deep. Requests
//!    are not: what is in them is the client's.
//! 3. A duration says its unit: by the member's name, by letters behind it, by whose log it is, or by a point,
//!    which means seconds. Else the settings say it, or it does not count. Caddy's log is known by `ts` and an
//!    object `request`, Envoy's by `response_code`.

use std::borrow::Cow;

use crate::clf;
use crate::json::{Members, Value, unescape};
use crate::number::{Decimal, Unit, digits, microseconds_with_units};
use crate::record::{Misread, Record};
use crate::time;

/// How deep objects are looked into.
const DEPTH_MAX: usize = 3;

const OBJECT: &str = "a JSON object";
const JSON: &str = "JSON";
const STATUS: &str = "a member that is the status (`status`, `status_code`, …)";
const CADDY: &str = "the members of Caddy's log (`ts`, `request`, `status`, `size`, `duration`)";

/// Whose log it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Anybody's.
    Any,
    /// Caddy's.
    Caddy,
}

/// Reads a line. `unit` is that of a duration that says none.
pub(crate) fn read(line: &[u8], dialect: Dialect, unit: Option<Unit>) -> Result<Record, Misread> {
    let mut members = Members::of(line).ok_or(Misread::new(0, OBJECT))?;
    let mut found = Found::default();
    if found.take(&mut members, 0).is_err() {
        return Err(Misread::new(members.at(), JSON));
    }
    let is_caddys = found.has_request && found.has_ts;
    if dialect == Dialect::Caddy && !is_caddys {
        return Err(Misread::new(members.at(), CADDY));
    }
    let status = found.status.ok_or(Misread::new(members.at(), STATUS))?;
    let unit = if is_caddys { Some(Unit::Seconds) } else { found.unit.or(unit) };
    let Found { second, bytes, latency_us, unitless, .. } = found;
    let latency_us = latency_us.or_else(|| {
        let unitless = unitless?;
        unitless.microseconds(if unitless.is_whole { unit? } else { unit.unwrap_or(Unit::Seconds) })
    });
    Ok(Record { second, status, bytes: bytes.unwrap_or(0), latency_us })
}

#[derive(Default)]
struct Found {
    second: Option<u64>,
    status: Option<Option<u16>>,
    bytes: Option<u64>,
    latency_us: Option<u64>,
    /// A duration that does not say its unit.
    unitless: Option<Decimal>,
    /// The unit that whoever has such members writes.
    unit: Option<Unit>,
    has_request: bool,
    has_ts: bool,
}

impl Found {
    fn take(
        &mut self,
        members: &mut Members<'_>,
        depth: usize,
    ) -> Result<(), crate::json::NotJson> {
        while let Some((key, value)) = members.next()? {
            if let Value::Object(object) = value {
                self.has_request |= depth == 0 && key == b"request";
                let is_looked_into = matches!(
                    key,
                    b"http"
                        | b"httpRequest"
                        | b"response"
                        | b"body"
                        | b"event"
                        | b"res"
                        | b"access"
                        | b"nginx"
                );
                if is_looked_into
                    && depth < DEPTH_MAX
                    && let Some(mut inner) = Members::of(object)
                {
                    self.take(&mut inner, depth + 1)?;
                }
                continue;
            }
            match key {
                b"status" | b"status_code" | b"statusCode" | b"http_status"
                | b"response_status" | b"DownstreamStatus" | b"sc-status" => {
                    self.take_status(value);
                }
                b"response_code" => {
                    self.take_status(value);
                    // Envoy's name, whose durations are in milliseconds.
                    self.unit = Some(Unit::Milliseconds);
                }
                b"size"
                | b"bytes"
                | b"bytes_sent"
                | b"body_bytes_sent"
                | b"bytes_out"
                | b"bytes_written"
                | b"response_size"
                | b"responseSize"
                | b"resp_size"
                | b"response_length"
                | b"content_length"
                | b"contentLength"
                | b"DownstreamContentSize" => {
                    let bytes = plain(value).and_then(|text| digits(&text));
                    self.bytes = self.bytes.or(bytes);
                }
                b"ts" => {
                    self.has_ts |= depth == 0;
                    self.take_time(value);
                }
                b"time" | b"timestamp" | b"@timestamp" | b"time_local" | b"time_iso8601"
                | b"datetime" | b"start_time" | b"StartUTC" | b"msec" => self.take_time(value),
                b"request_time" | b"requestTime" | b"request_duration_s" | b"duration_s" => {
                    self.take_duration(value, Some(Unit::Seconds));
                }
                b"duration_ms" | b"durationMs" | b"latency_ms" | b"request_time_ms"
                | b"response_time_ms" | b"elapsed_ms" | b"time_taken_ms" => {
                    self.take_duration(value, Some(Unit::Milliseconds));
                }
                b"duration_us" | b"latency_us" | b"request_time_us" => {
                    self.take_duration(value, Some(Unit::Microseconds));
                }
                // Traefik's `Duration`.
                b"Duration" | b"duration_ns" | b"latency_ns" => {
                    self.take_duration(value, Some(Unit::Nanoseconds));
                }
                b"duration" | b"latency" | b"elapsed" | b"response_time" | b"responseTime" => {
                    self.take_duration(value, None);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_status(&mut self, value: Value<'_>) {
        let status = plain(value).and_then(|text| clf::status(&text));
        // One that was sent counts more than a word that none was.
        if !matches!(self.status, Some(Some(_))) {
            self.status = status.or(self.status);
        }
    }

    fn take_time(&mut self, value: Value<'_>) {
        let second = plain(value).and_then(|text| time::parse(&text));
        self.second = self.second.or(second);
    }

    fn take_duration(&mut self, value: Value<'_>, unit: Option<Unit>) {
        let Some(text) = plain(value) else { return };
        match Decimal::parse(&text) {
            Some(number) => match unit {
                Some(unit) => self.latency_us = self.latency_us.or(number.microseconds(unit)),
                None => self.unitless = self.unitless.or(Some(number)),
            },
            None => self.latency_us = self.latency_us.or(microseconds_with_units(&text)),
        }
    }
}

/// A text without its escapes, or a number or word.
fn plain(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Plain(text) => Some(Cow::Borrowed(text)),
        Value::Text(text) if !text.contains(&b'\\') => Some(Cow::Borrowed(text)),
        Value::Text(text) => {
            let mut plain = Vec::with_capacity(text.len());
            unescape(text, &mut plain);
            Some(Cow::Owned(plain))
        }
        Value::Object(_) | Value::Array => None,
    }
}
