//! Byte strings as fields. A derived `Serialize` writes a slice as a sequence, with a call for each byte: of a
//! line of a log that was a seventh of the manager's work. What is written is the same.

use serde::Serializer;

/// Writes all of it at once.
pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
