//! The identity of one instance of a daemon.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

/// Names one instance of a daemon: 128 bits, written like a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DaemonId(u128);

impl DaemonId {
    /// A new random identity (a UUID of version 4).
    ///
    /// # Errors
    /// When the system has no source of random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let random = u128::from_be_bytes(bytes);
        // The version, 4, and the variant, binary 10, of RFC 9562.
        let version = (random & !(0xf << 76)) | (0x4 << 76);
        Ok(Self((version & !(0b11 << 62)) | (0b10 << 62)))
    }

    /// An identity that was made elsewhere.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The identity as a number.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let mut rest = hex.as_str();
        for (index, width) in [8, 4, 4, 4, 12].into_iter().enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            let (group, after) = rest.split_at(width);
            f.write_str(group)?;
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_like_a_uuid() {
        let id = DaemonId::from_bits(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0011-223344556677");
    }

    #[test]
    fn random_ones_differ_and_say_their_version() {
        let (a, b) = (DaemonId::random().unwrap(), DaemonId::random().unwrap());
        assert_ne!(a, b);
        let text = a.to_string();
        assert_eq!(text.as_bytes()[14], b'4', "{text}");
        assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }
}
