//! What a daemon may ask of its kernel: the contract's imports as one value with one Rust API.
//!
//! A [`Context`] exists only during a slice, so a daemon cannot keep one and reach out between
//! slices. Behind it is a [`Host`]: the component's imports, the native runtime or the test host.

use core::time::Duration;
use std::str::FromStr;

use crate::types::{Error, Instant, Level, Message};

/// The imports of the contract, as whoever runs the daemon implements them.
pub(crate) trait Host {
    fn log(&mut self, level: Level, text: &str) -> Result<(), Error>;
    fn monotonic(&mut self) -> Instant;
    fn wall(&mut self) -> Duration;
    fn entropy(&mut self, length: u32) -> Vec<u8>;
    fn config_get(&mut self, key: &str) -> Option<String>;
    fn state_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error>;
    fn state_set(&mut self, key: &str, value: &[u8]) -> Result<(), Error>;
    fn state_delete(&mut self, key: &str) -> Result<(), Error>;
    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error>;
    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error>;
    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error>;
    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error>;
}

/// The kernel's side of the contract, during one slice.
pub struct Context<'a> {
    host: &'a mut dyn Host,
}

impl<'a> Context<'a> {
    pub(crate) fn new(host: &'a mut dyn Host) -> Self {
        Self { host }
    }

    /// Appends one line, of at most 8,192 bytes, to the daemon's log. It stays logged even if the
    /// slice is discarded. Grant: `log`.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::TooLarge`].
    pub fn log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        self.host.log(level, text)
    }

    /// The monotonic clock.
    pub fn monotonic(&mut self) -> Instant {
        self.host.monotonic()
    }

    /// Time since 1970-01-01T00:00:00Z. May jump, in both directions.
    pub fn wall(&mut self) -> Duration {
        self.host.wall()
    }

    /// `length` random bytes, fit for cryptographic keys; at most 1,024 in one call, a larger
    /// `length` yields 1,024.
    pub fn entropy(&mut self, length: u32) -> Vec<u8> {
        self.host.entropy(length)
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
    /// [`Error::UnknownChannel`], [`Error::Denied`].
    pub fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        self.host.receive(channel, max)
    }

    /// Figures that the kernel keeps for the daemon, across its restarts. Grant: `metric`.
    pub fn metric(&mut self) -> Metric<'_> {
        Metric { host: self.host }
    }
}

/// The table `[daemon.config]`; see [`Context::config`].
pub struct Config<'a> {
    host: &'a mut dyn Host,
}

impl Config<'_> {
    /// The value of a key; nested tables are joined with dots (`alert.ratio`). Strings come as they
    /// are, other values in TOML's notation (`0.05`, `true`).
    pub fn get(&mut self, key: &str) -> Option<String> {
        self.host.config_get(key)
    }

    /// The value of a key as a `T`, or `default` if the key is absent.
    ///
    /// # Errors
    /// A value that is not a `T`; the text names the key and the value.
    pub fn parse<T: FromStr>(&mut self, key: &str, default: T) -> Result<T, String> {
        let Some(text) = self.get(key) else {
            return Ok(default);
        };
        text.parse().map_err(|_| format!("config: `{key} = {text}` is not a valid value"))
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
    /// [`Error::Denied`]; [`Error::InvalidName`] and [`Error::TooLarge`] for the key.
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.host.state_get(key)
    }

    /// Sets a key (1 to 256 bytes) to a value of at most 65,536 bytes.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidName`], [`Error::TooLarge`], [`Error::QuotaExceeded`].
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
}

/// Figures that the kernel keeps; see [`Context::metric`].
pub struct Metric<'a> {
    host: &'a mut dyn Host,
}

impl Metric<'_> {
    /// Adds to a counter, which starts at 0. It saturates.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidName`], [`Error::TooLarge`], [`Error::QuotaExceeded`].
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
