//! Messages of the control socket as bytes: one JSON object in each frame.
//!
//! Rules:
//! 1. What a peer of a later version adds is never an error: unknown fields are skipped, absent ones take their
//!    defaults, unknown words are kept, unknown responses are [`Response::Other`]
//!    (`message::tests::what_a_later_version_adds_is_no_error`).
//! 2. A request that is not understood never ends the stream: its frame was sound, and the next one may be read
//!    (`message::tests::the_next_request_is_read_after_one_that_is_not_understood`).
//! 3. A request that changes something says what: no default ever stands for whom it is about
//!    (`message::tests::whom_it_is_about_has_no_default`).

use duende_core::wire::{Decoder, EncodeError, FrameError, Message, encode_payload};
use serde::{Deserialize, Serialize};

use super::protocol::{NAMES_MAX, Request, RequestName, Response};

/// Why a sound frame holds no request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotUnderstood {
    /// This version knows no such request.
    Unknown {
        /// Its name.
        name: RequestName,
    },
    /// It is no JSON object, lacks a field, or is over a limit; in words.
    Malformed(String),
}

/// Writes a message as one frame to the start of `out`, and returns the frame's length in bytes.
///
/// # Errors
/// It has no place in a frame, or in `out`.
pub fn encode<T: Message + Serialize>(message: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    // Of these types none fails to be written: their keys are texts. If one did, its reader is told so.
    let payload = serde_json::to_vec(message).unwrap_or_default();
    encode_payload(T::KIND, &payload, out)
}

/// Takes the next request out of a stream; none when more bytes are needed for it.
///
/// # Errors
/// The stream can't be read any more.
pub fn next_request<S: AsRef<[u8]> + AsMut<[u8]>>(
    decoder: &mut Decoder<S>,
) -> Result<Option<Result<Request, NotUnderstood>>, FrameError> {
    Ok(decoder.next_payload(Request::KIND)?.map(parse_request))
}

/// Takes the next response out of a stream, or says why it can't be read; none when more bytes are needed.
///
/// # Errors
/// The stream can't be read any more.
pub fn next_response<S: AsRef<[u8]> + AsMut<[u8]>>(
    decoder: &mut Decoder<S>,
) -> Result<Option<Result<Response, String>>, FrameError> {
    let payload = decoder.next_payload(Response::KIND)?;
    Ok(payload.map(|payload| serde_json::from_slice(payload).map_err(|error| error.to_string())))
}

/// Reads a request.
///
/// # Errors
/// [`NotUnderstood`].
pub fn parse_request(payload: &[u8]) -> Result<Request, NotUnderstood> {
    #[derive(Deserialize)]
    struct Named {
        request: RequestName,
    }
    // A list of values could be read as an object of its fields in their order.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotUnderstood::Malformed("it is no JSON object".to_owned()));
    }
    let malformed = |error: serde_json::Error| NotUnderstood::Malformed(error.to_string());
    let Named { request: name } = serde_json::from_slice(payload).map_err(malformed)?;
    if let RequestName::Other(_) = name {
        return Err(NotUnderstood::Unknown { name });
    }
    let request: Request = serde_json::from_slice(payload).map_err(malformed)?;
    match request.names() {
        Some(names) if names.len() > NAMES_MAX => Err(NotUnderstood::Malformed(format!(
            "{} names in one request, at most {NAMES_MAX} are taken",
            names.len()
        ))),
        Some(_) | None => Ok(request),
    }
}

#[cfg(test)]
mod tests {
    use duende_core::wire::FRAME_BYTES_MAX;

    use super::*;
    use crate::control::protocol::{DaemonRow, DaemonState, ErrorCode, EventKind};

    fn request(text: &str) -> Result<Request, NotUnderstood> {
        parse_request(text.as_bytes())
    }

    fn response(text: &str) -> Response {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_a_later_version_adds_is_no_error() {
        let asked = request(r#"{"why":{"deep":[1,null]},"request":"ps","only":"failed"}"#);
        assert_eq!(asked, Ok(Request::Ps));
        let asked = request(r#"{"request":"hello","version":9,"tongues":["cbor"]}"#);
        assert_eq!(asked, Ok(Request::Hello { version: 9 }));
        assert_eq!(request(r#"{"request":"events"}"#), Ok(Request::Events { follow: false }));
        assert_eq!(request(r#"{"request":"hello"}"#), Ok(Request::Hello { version: 0 }));

        let text =
            r#"{"response":"daemons","daemons":[{"name":"a","state":"hibernating","mood":1}]}"#;
        let Response::Daemons { daemons } = response(text) else { panic!("rows") };
        let [row] = &daemons[..] else { panic!("{daemons:?}") };
        assert_eq!((row.name.as_str(), row.state.as_str()), ("a", "hibernating"));
        let rest = DaemonRow { name: "a".to_owned(), state: row.state, ..DaemonRow::default() };
        assert_eq!(*row, rest);
        assert_eq!(DaemonRow::default().state, DaemonState::of("unknown"));

        let text = r#"{"response":"event","event":{"kind":"moved","kernel":{"type":"Moved"}}}"#;
        let Response::Event { event } = response(text) else { panic!("an event") };
        assert_eq!((event.kind, event.kernel), (EventKind::of("moved"), None));
        let text = r#"{"response":"error","code":"too_warm","message":"m"}"#;
        let Response::Error { code, .. } = response(text) else { panic!("an error") };
        assert_eq!(code, ErrorCode::of("too_warm"));
        assert_eq!(response(r#"{"response":"mood","of":[{"a":1}]}"#), Response::Other);
        assert!(!Response::Other.ends_answer());
    }

    #[test]
    fn whom_it_is_about_has_no_default() {
        for verb in ["start", "stop", "restart", "pause", "resume", "reload", "status", "history"] {
            // A name that is spelt otherwise must not become all of them.
            let asked = request(&format!(r#"{{"request":"{verb}","daemon":"web"}}"#));
            assert!(matches!(asked, Err(NotUnderstood::Malformed(_))), "{verb}: {asked:?}");
        }
    }

    #[test]
    fn the_next_request_is_read_after_one_that_is_not_understood() {
        let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX]);
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let many = vec!["a"; NAMES_MAX + 1];
        let many = serde_json::json!({ "request": "stop", "names": many }).to_string();
        let nested = "[".repeat(100_000);
        for rubbish in [
            "",
            "7",
            "{",
            "null",
            "\u{fffd}",
            r#"{"request":7}"#,
            r#"{"request":"frob"}"#,
            &many,
            &nested,
        ] {
            let ps = serde_json::to_string(&Request::Ps).unwrap();
            for payload in [rubbish, &ps] {
                let bytes = encode_payload(Request::KIND, payload.as_bytes(), &mut frame).unwrap();
                decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
                decoder.filled(bytes);
                let asked = next_request(&mut decoder).unwrap().unwrap();
                assert_eq!(asked == Ok(Request::Ps), payload == ps, "{payload:.80}: {asked:?}");
            }
        }
        let unknown = request(r#"{"request":"frob","names":7}"#);
        assert_eq!(unknown, Err(NotUnderstood::Unknown { name: RequestName::of("frob") }));
    }

    /// What is no object is no request, although its values could be read as one's.
    #[test]
    fn a_list_is_no_request() {
        for payload in [&b"[\"down\"]"[..], b" [\"ps\"]", b"\"down\"", b"null", b"7", b""] {
            let parsed = parse_request(payload);
            assert!(matches!(parsed, Err(NotUnderstood::Malformed(_))), "{parsed:?}");
        }
        assert_eq!(parse_request(b" {\"request\":\"down\"}").unwrap(), Request::Down);
    }
}
