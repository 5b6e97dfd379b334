//! The hash that tells whether two runs did the same, on any two targets.
//!
//! FNV-1a's two operations, a word of 64 bits at a time, and a shift that brings high bits down. Each
//! step can be undone, so two runs that differ in one word never have the same hash after it.
//!
//! `core::hash::Hash` writes a discriminant as an `isize` and a length as a `usize`. They are widened
//! here to 64 bits, and nothing is written in the order of the machine's bytes; so a value has the same
//! hash on 32 and on 64 bits. A slice of integers wider than a byte would be an exception, as it is
//! written as it lies in memory: none takes part.

use core::hash::{Hash, Hasher};

/// FNV's offset basis and prime, of 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of a run so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Of nothing.
    pub const EMPTY: Self = Self(BASIS);

    /// Takes a value in.
    pub fn take(&mut self, value: &impl Hash) {
        value.hash(self);
    }

    /// The hash.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    #[inline]
    const fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(PRIME);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut little_endian = [0; 8];
            little_endian.copy_from_slice(word);
            self.word(u64::from_le_bytes(little_endian));
        }
        let mut rest = [0; 8];
        for (place, byte) in rest.iter_mut().zip(words.remainder()) {
            *place = *byte;
        }
        // The length keeps a rest that ends in zeros apart from a shorter one.
        self.word(u64::from_le_bytes(rest));
        self.write_usize(bytes.len());
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    #[inline]
    fn write_u128(&mut self, value: u128) {
        let [low, high] = [value, value >> 64].map(|half| {
            // The lower half of what was shifted; the rest is the other word's.
            u64::try_from(half & u128::from(u64::MAX)).unwrap_or(u64::MAX)
        });
        self.word(low);
        self.word(high);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        // Lossless: no target has a `usize` of more than 64 bits.
        self.word(u64::try_from(value).unwrap_or(u64::MAX));
    }

    #[inline]
    fn write_i8(&mut self, value: i8) {
        self.write_i64(i64::from(value));
    }

    #[inline]
    fn write_i16(&mut self, value: i16) {
        self.write_i64(i64::from(value));
    }

    #[inline]
    fn write_i32(&mut self, value: i32) {
        self.write_i64(i64::from(value));
    }

    #[inline]
    fn write_i64(&mut self, value: i64) {
        self.word(value.cast_unsigned());
    }

    #[inline]
    fn write_i128(&mut self, value: i128) {
        self.write_u128(value.cast_unsigned());
    }

    #[inline]
    fn write_isize(&mut self, value: isize) {
        // Lossless, as above; sign and all.
        self.write_i64(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(value: impl Hash) -> u64 {
        let mut digest = Digest::EMPTY;
        digest.take(&value);
        digest.get()
    }

    /// What 32-bit targets have to arrive at too: `duende-replay` compares with whole runs.
    #[test]
    fn values_have_the_hashes_that_were_written_down() {
        assert_eq!(digest(-1_isize), digest(u64::MAX));
        assert_eq!(digest(7_usize), digest(7_u64));
        assert_eq!(digest(7_u8), digest(7_i64));
        assert_eq!(digest(1_u128 << 64), digest((0_u64, 1_u64)));
        assert_eq!(digest(Some(3_u16)), digest((1_u64, 3_u64)), "a discriminant is a word");
        assert_eq!(digest("ab"), 0x0453_fc6f_b2fb_6ac6);
    }

    #[test]
    fn nothing_is_taken_for_something_else() {
        assert_ne!(digest([1_u8, 0].as_slice()), digest([1_u8].as_slice()));
        assert_ne!(digest(("a", "bc")), digest(("ab", "c")));
        assert_ne!(digest((1_u64, 2_u64)), digest((2_u64, 1_u64)));
    }
}
