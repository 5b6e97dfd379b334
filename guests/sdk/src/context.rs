//! What a daemon may ask of its kernel: the contract's imports as one value with one Rust API.
//!
//! A [`Context`] exists only during a slice, so a daemon cannot keep one and reach out between
//! slices. Behind it is a [`Host`]: the component's imports, the native runtime or the test host.

use core::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::{
    failure::Failure,
    types::{Datetime, Error, Instant, Level, Message, Scarcity, Value},
};

/// What one line of the log may have, in bytes, on every kernel.
const LINE_BYTES_MAX: usize = 8_192;

/// The imports of the contract, as whoever runs the daemon implements them.
pub(crate) trait Host {
    fn log_enabled(&mut self, level: Level) -> bool;
    fn log(&mut self, level: Level, text: &str) -> Result<(), Error>;
    fn log_event(
        &mut self,
        level: Level,
        text: &str,
        fields: &[(&str, Value)],
    ) -> Result<(), Error>;
    fn monotonic(&mut self) -> Instant;
    fn wall(&mut self) -> Datetime;
    fn entropy(&mut self, length: u32) -> Result<Vec<u8>, Error>;
    fn entropy_number(&mut self) -> u64;
    fn config_get(&mut self, key: &str) -> Option<Value>;
    fn config_text(&mut self, key: &str) -> Option<String>;
    fn config_keys(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String>;
    fn config_refuse(&mut self, reason: &str);
    fn state_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error>;
    fn state_set(&mut self, key: &str, value: &[u8]) -> Result<(), Error>;
    fn state_delete(&mut self, key: &str) -> Result<(), Error>;
    fn state_delete_all(&mut self, prefix: &str) -> Result<u64, Error>;
    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error>;
    fn state_entries(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, Error>;
    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error>;
    fn reject(&mut self, channel: &str, sequence: u64, reason: &str) -> Result<(), Error>;
    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error>;
    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error>;
    fn slice_number(&mut self) -> u64;
    fn slice_deadline(&mut self) -> Instant;
    fn stop_deadline(&mut self) -> Option<Instant>;
    fn ready(&mut self) -> Vec<String>;
    fn name(&mut self) -> String;
    fn incarnation(&mut self) -> u64;
    fn instance(&mut self) -> (u64, u64);
    fn granted(&mut self, capability: &str) -> bool;
    fn limit(&mut self, name: &str) -> Option<u64>;
    fn used(&mut self, name: &str) -> Option<u64>;
    fn pressure(&mut self, name: &str) -> Scarcity;
}

/// The kernel's side of the contract, during one slice.
pub struct Context<'a> {
    host: &'a mut dyn Host,
}

impl<'a> Context<'a> {
    pub(crate) fn new(host: &'a mut dyn Host) -> Self {
        Self { host }
    }

    /// Appends a line to the daemon's log. It stays logged even if the slice is discarded. Logging fails
    /// no slice: without the grant `log` nothing happens, and a text over 8,192 bytes becomes several
    /// lines. Who wants to know uses [`try_log`](Self::try_log).
    pub fn log(&mut self, level: Level, text: impl fmt::Display) {
        let text = text.to_string();
        let mut rest = text.as_str();
        loop {
            let (line, more) = rest.split_at(rest.floor_char_boundary(LINE_BYTES_MAX));
            if self.host.log(level, line).is_err() || more.is_empty() {
                return;
            }
            rest = more;
        }
    }

    /// Appends a line with named values. Like [`log`](Self::log) it fails no slice: what does not fit one
    /// line with its values is logged without them.
    pub fn event(&mut self, level: Level, text: &str, fields: &[(&str, Value)]) {
        if self.host.log_event(level, text, fields).is_err() {
            self.log(level, text);
        }
    }

    /// Appends one line of at most 8,192 bytes.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::TooLarge`].
    pub fn try_log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        self.host.log(level, text)
    }

    /// Whether lines of this level are kept.
    pub fn log_enabled(&mut self, level: Level) -> bool {
        self.host.log_enabled(level)
    }

    /// The monotonic clock.
    pub fn monotonic(&mut self) -> Instant {
        self.host.monotonic()
    }

    /// The time of day. May jump, in both directions.
    pub fn wall(&mut self) -> Datetime {
        self.host.wall()
    }

    /// `length` random bytes, fit for cryptographic keys.
    ///
    /// # Errors
    /// [`Error::TooLarge`], over the limit `entropy`.
    pub fn entropy(&mut self, length: u32) -> Result<Vec<u8>, Error> {
        self.host.entropy(length)
    }

    /// 64 random bits.
    pub fn random(&mut self) -> u64 {
        self.host.entropy_number()
    }

    /// The table `[daemon.config]`.
    pub fn config(&mut self) -> Config<'_> {
        Config { host: self.host }
    }

    /// The daemon's durable keys and values. Grant: `state`.
    pub fn state(&mut self) -> State<'_> {
        State { host: self.host }
    }

    /// At most `max` messages of a channel (and at most 1,048,576 bytes of payload), the oldest
    /// first; empty when there are none. They count as consumed when the slice commits.
    /// Grant: `channel:NAME`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`].
    pub fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        self.host.receive(channel, max)
    }

    /// Gives up a message that this slice received, instead of failing on it for ever: it counts as
    /// consumed, and people are told.
    ///
    /// # Errors
    /// [`Error::NotFound`] if this slice did not receive it, or gave it up already; [`Error::Denied`];
    /// [`Error::TooLarge`] of the reason.
    pub fn reject(
        &mut self,
        channel: &str,
        sequence: u64,
        reason: impl fmt::Display,
    ) -> Result<(), Error> {
        self.host.reject(channel, sequence, &reason.to_string())
    }

    /// Figures that the kernel keeps for the daemon, across its restarts. Grant: `metric`.
    pub fn metric(&mut self) -> Metric<'_> {
        Metric { host: self.host }
    }

    /// The number of this slice within the incarnation, from 1, which is `init`.
    pub fn slice_number(&mut self) -> u64 {
        self.host.slice_number()
    }

    /// When this slice's budget is over, if nothing interrupts it.
    pub fn slice_deadline(&mut self) -> Instant {
        self.host.slice_deadline()
    }

    /// When the daemon is killed, if it was asked to stop.
    pub fn stop_deadline(&mut self) -> Option<Instant> {
        self.host.stop_deadline()
    }

    /// The channels that hold messages, in the order of their names.
    pub fn ready(&mut self) -> Vec<String> {
        self.host.ready()
    }

    /// The daemon's name in the configuration.
    pub fn name(&mut self) -> String {
        self.host.name()
    }

    /// Counts the starts of this daemon, from 1.
    pub fn incarnation(&mut self) -> u64 {
        self.host.incarnation()
    }

    /// 128 random bits that differ after every start.
    pub fn instance(&mut self) -> u128 {
        let (high, low) = self.host.instance();
        (u128::from(high) << 64) | u128::from(low)
    }

    /// Whether a capability is granted, in the words of the configuration: `state`, `channel:lines`.
    pub fn granted(&mut self, capability: &str) -> bool {
        self.host.granted(capability)
    }

    /// A limit of this daemon, by its name in `wit/daemon.wit`; none if there is no such limit here.
    pub fn limit(&mut self, name: &str) -> Option<u64> {
        self.host.limit(name)
    }

    /// How much of a limit is used, where that is measured.
    pub fn used(&mut self, name: &str) -> Option<u64> {
        self.host.used(name)
    }

    /// How scarce something is, by the name of its limit.
    pub fn pressure(&mut self, name: &str) -> Scarcity {
        self.host.pressure(name)
    }
}

/// The table `[daemon.config]`; see [`Context::config`].
pub struct Config<'a> {
    host: &'a mut dyn Host,
}

impl Config<'_> {
    /// The value of a key; nested tables are joined with dots (`alert.ratio`), elements of arrays have
    /// their index (`servers.0.address`). None of a table or an array as a whole.
    pub fn get(&mut self, key: &str) -> Option<Value> {
        self.host.config_get(key)
    }

    /// The same as a text: strings as they are, other values and whole arrays in TOML's notation.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.host.config_text(key)
    }

    /// At most `limit` keys that have a value, that start with `prefix` and are greater than `after`.
    pub fn keys(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        self.host.config_keys(prefix, after, limit)
    }

    /// The value of a key as a `T`, or `default` if the key is absent.
    ///
    /// # Errors
    /// A value that is not a `T`: [`Failure::config`], which names the key and the value.
    pub fn parse<T: FromStr>(&mut self, key: &str, default: T) -> Result<T, Failure> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        text.parse()
            .map_err(|_| Failure::config(format!("config: `{key} = {text}` is not a valid value")))
    }

    /// The whole table as a type of the daemon's own.
    ///
    /// # Errors
    /// It does not fit: [`Failure::config`], which names the key.
    pub fn read<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        crate::settings::read(self.host)
    }

    /// Says that the table that is new since the last reload can't work: the one before it is in force
    /// again from the next slice on, and whoever asked for the reload is told.
    pub fn refuse(&mut self, reason: impl fmt::Display) {
        self.host.config_refuse(&reason.to_string());
    }
}

/// Durable keys and values; see [`Context::state`].
///
/// Reads see the committed slices and this slice's own writes.
pub struct State<'a> {
    host: &'a mut dyn Host,
}

impl State<'_> {
    /// The value of a key, or none.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.host.state_get(key)
    }

    /// Sets a key (1 to 256 bytes) to a value of at most 65,536 bytes.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Invalid`], [`Error::TooLarge`], [`Error::QuotaExceeded`].
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.host.state_set(key, value)
    }

    /// Removes a key; removing one that is not there is no error.
    ///
    /// # Errors
    /// As [`State::set`].
    pub fn delete(&mut self, key: &str) -> Result<(), Error> {
        self.host.state_delete(key)
    }

    /// Removes all keys that start with `prefix`, and says how many: all of them or none.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::QuotaExceeded`] if they are more than one slice may write.
    pub fn delete_all(&mut self, prefix: &str) -> Result<u64, Error> {
        self.host.state_delete_all(prefix)
    }

    /// At most `limit` keys that start with `prefix` and are greater than `after`, in byte order.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        self.host.state_keys(prefix, after, limit)
    }

    /// The same with values; at most 1,048,576 bytes, but one entry if there is one.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn entries(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.host.state_entries(prefix, after, limit)
    }
}

/// Figures that the kernel keeps; see [`Context::metric`].
pub struct Metric<'a> {
    host: &'a mut dyn Host,
}

impl Metric<'_> {
    /// Adds to a counter, which starts at 0. It saturates.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Invalid`], [`Error::TooLarge`], [`Error::QuotaExceeded`].
    pub fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error> {
        self.host.counter_add(name, delta)
    }

    /// Sets a gauge.
    ///
    /// # Errors
    /// As [`Metric::counter_add`].
    pub fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error> {
        self.host.gauge_set(name, value)
    }
}
