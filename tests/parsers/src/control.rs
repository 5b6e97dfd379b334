//! What the command line and the manager say to each other: requests and responses. The input is that of a
//! stream: four bytes of choices, then frames or payloads, which are JSON.
//!
//! A payload that is no message does not end the stream; of one that is, what is written of it is read again
//! as the same.

use std::fmt::Debug;

use duende::control::message::{NotUnderstood, encode, next_request, next_response, parse_request};
use duende::control::protocol::{Request, RequestName, Response};
use duende_core::wire::{Decoder, FRAME_BYTES_MAX, Message, encode_payload};
use serde::Serialize;

use crate::stream::{self, Family, Next};

const FAMILIES: [Family; 2] = [
    Family { frame: frame::<Request>, next: request, is_shortest: false },
    Family { frame: frame::<Response>, next: response, is_shortest: false },
];

/// Checks one input.
pub fn check(input: &[u8]) {
    stream::check(input, &FAMILIES);
}

fn frame<M: Message>(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let bytes = encode_payload(M::KIND, payload, &mut frame);
    frame.truncate(bytes.unwrap_or_else(|error| panic!("a payload of a list fits: {error}")));
    frame
}

fn request(decoder: &mut Decoder<Vec<u8>>) -> Next {
    let Some(asked) = next_request(decoder)? else { return Ok(None) };
    Ok(Some(match asked {
        Ok(request) => {
            assert!(!matches!(request.name(), RequestName::Other(_)));
            again(&request, |payload| parse_request(payload).ok())
        }
        Err(NotUnderstood::Unknown { name }) => {
            assert!(matches!(name, RequestName::Other(_)));
            frame::<Request>(name.as_str().as_bytes())
        }
        Err(NotUnderstood::Malformed(text)) => {
            assert!(!text.is_empty());
            frame::<Request>(text.as_bytes())
        }
    }))
}

fn response(decoder: &mut Decoder<Vec<u8>>) -> Next {
    let Some(heard) = next_response(decoder)? else { return Ok(None) };
    Ok(Some(match heard {
        Ok(response) => {
            let read = |payload: &[u8]| {
                let mut decoder = stream::decoder_of(&frame::<Response>(payload));
                next_response(&mut decoder).ok().flatten().and_then(Result::ok)
            };
            again(&response, read)
        }
        Err(text) => {
            assert!(!text.is_empty());
            frame::<Response>(text.as_bytes())
        }
    }))
}

/// A message as a frame, having read that again. One that grew beyond a frame by the fields that it lacked is
/// refused when it is written.
fn again<M>(message: &M, read: impl FnOnce(&[u8]) -> Option<M>) -> Vec<u8>
where
    M: Message + Serialize + Debug,
{
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let Ok(bytes) = encode(message, &mut frame) else { return Vec::new() };
    frame.truncate(bytes);
    let mut decoder = stream::decoder_of(&frame);
    let payload = decoder.next_payload(M::KIND).ok().flatten().unwrap_or_default();
    // By their texts, in which a NaN equals itself.
    assert_eq!(format!("{:?}", read(payload)), format!("{:?}", Some(message)));
    frame
}
