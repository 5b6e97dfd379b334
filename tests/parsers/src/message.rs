//! A message of a channel, as bytes. The input is the message.
//!
//! What is promised:
//! 1. There is one way to write a message: what is read is written as the same bytes, and fits into
//!    exactly as many.
//! 2. What is refused says how long it is and should be, or which fields are not known, and is right.
//! 3. Only its own kind takes it.

use duende_core::ipc::{EncodeError, HEADER_BYTES, Message, MessageError, Schema};

/// Checks one input.
pub fn check(input: &[u8]) {
    let message = match Message::parse(input) {
        Ok(message) => message,
        Err(error) => return check_error(input, &error),
    };
    let mut written = vec![0; input.len()];
    assert_eq!(message.encode(&mut written), Ok(input.len()));
    assert_eq!(written, input);
    if let Some(short) = written.len().checked_sub(1) {
        let error = EncodeError::BufferTooSmall { bytes: short, needed: input.len() };
        assert_eq!(message.encode(&mut written[..short]), Err(error));
    }

    let Message { tag, version, payload } = message;
    let Ok(length_bytes_max) = u32::try_from(payload.len()) else { return };
    let own = Schema { tag, version, length_bytes_max };
    assert_eq!(own.check(&message), Ok(()));
    for other in [
        Schema { tag: !tag, ..own },
        Schema { version: version.wrapping_add(1), ..own },
        Schema { length_bytes_max: length_bytes_max.wrapping_sub(1), ..own },
    ] {
        // No message is shorter than an empty one.
        let takes = other.length_bytes_max > length_bytes_max;
        assert_eq!(other.check(&message).is_ok(), takes);
    }
}

fn check_error(input: &[u8], error: &MessageError) {
    let announced = input.get(4..HEADER_BYTES).and_then(|length| length.try_into().ok());
    let whole = announced.map_or(HEADER_BYTES as u64, |length| {
        u64::from(u32::from_le_bytes(length)) + HEADER_BYTES as u64
    });
    match *error {
        MessageError::Truncated { bytes, expected } => {
            assert_eq!((bytes, expected), (input.len(), whole));
            assert!((bytes as u64) < expected);
        }
        MessageError::Trailing { bytes, expected } => {
            assert_eq!((bytes, expected), (input.len(), whole));
            assert!(bytes as u64 > expected);
        }
        MessageError::UnknownFlags { flags } => {
            assert_eq!(input.get(3), Some(&flags));
            assert_ne!(flags, 0);
        }
        ref other => panic!("nobody asked for a kind: {other}"),
    }
}
