use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::wire::link::{
    Address, Command, Event, HealthReport, Held, LogLevel, Outcome, Payloads, Pressure, ValueKind,
};

/// What the fields of any message can be made of.
#[derive(Clone, Debug)]
struct Parts {
    a: u32,
    b: u64,
    c: u64,
    d: u8,
    flag: bool,
    float: f64,
    text: String,
    other: String,
    bytes: Vec<u8>,
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        (any::<u32>(), any::<u64>(), any::<u64>(), any::<u8>()),
        (any::<bool>(), proptest::num::f64::NORMAL),
        (".{0,40}", ".{0,40}", proptest::collection::vec(any::<u8>(), 0..300)),
    )
        .prop_map(|((a, b, c, d), (flag, float), (text, other, bytes))| Parts {
            a,
            b,
            c,
            d,
            flag,
            float,
            text,
            other,
            bytes,
        })
}

fn commands(p: &Parts) -> Vec<Command<'_>> {
    let at = Address::of(p.a, u32::from(p.d));
    let payloads = Payloads::new(&p.bytes);
    vec![
        Command::Create { at, name: &p.text, image: &p.other, level: p.d },
        Command::Setting { at, name: &p.text, value: p.b, required: p.flag },
        Command::Grant { at, capability: &p.other, required: p.flag },
        Command::ConfigEntry { at, key: &p.text, value: &p.other, kind: ValueKind::Number },
        Command::StateEntry { at, key: &p.text, value: &p.bytes },
        Command::ChannelOpen { at, name: &p.text, granted: p.flag, window: p.a },
        Command::Start { at },
        Command::Messages { at, channel: p.d, sequence: p.b, attempt: 1, payloads },
        Command::Pause { at },
        Command::Resume { at },
        Command::Reload { at },
        Command::Shutdown { at, grace_ns: p.c },
        Command::Kill { at },
        Command::HealthCheck { at, token: p.b },
        Command::Metrics { at, token: p.c },
    ]
}

fn events(p: &Parts) -> Vec<Event<'_>> {
    let at = Address::of(p.a, u32::from(p.d));
    let report =
        if p.flag { HealthReport::Degraded(&p.text) } else { HealthReport::Busy { slice_ns: p.c } };
    vec![
        Event::Running { at, pid: p.a },
        Event::Log { at, level: LogLevel::Warn, text: &p.text },
        Event::StateSet { at, key: &p.text, value: &p.bytes },
        Event::StateDelete { at, key: &p.other },
        Event::Consumed { at, channel: p.d, sequence: p.b },
        Event::CounterAdd { at, name: &p.text, delta: p.b },
        Event::GaugeSet { at, name: &p.text, value: p.float },
        Event::SliceEnd { at, slice: p.b, memory_bytes: p.b },
        Event::Health { at, token: p.b, report, memory_bytes: p.c },
        Event::Sample { at, token: p.b, name: &p.text, counter: p.flag, value: p.float },
        Event::SamplesEnd { at, token: p.c },
        Event::Health { at, token: p.c, report: HealthReport::Paused, memory_bytes: p.b },
        Event::Pressure { at, held: Held::State, pressure: Pressure::Critical },
        Event::Reloaded { at },
        Event::Exited { at, outcome: Outcome::Trap, code: p.d, reason: &p.other },
        Event::ReloadRefused { at, reason: &p.text },
        Event::Rejected { at, channel: p.d, sequence: p.c, reason: &p.text },
    ]
}

fn frame_of<T: Message + Serialize>(message: &T) -> Vec<u8> {
    let mut out = vec![0; FRAME_BYTES_MAX];
    let bytes = encode(message, &mut out).unwrap();
    out.truncate(bytes);
    out
}

/// Hands `bytes` to the decoder; all of it must fit.
fn feed<S: AsRef<[u8]> + AsMut<[u8]>>(decoder: &mut Decoder<S>, bytes: &[u8]) {
    decoder.spare()[..bytes.len()].copy_from_slice(bytes);
    decoder.filled(bytes.len());
}

fn sample() -> Parts {
    Parts {
        a: 70_000,
        b: u64::MAX,
        c: 12,
        d: 200,
        flag: true,
        float: -0.5,
        text: "sentinel".into(),
        other: "größer".into(),
        bytes: vec![0, 255, 7],
    }
}

proptest! {
    /// Any messages, written back to back and delivered in pieces of any size through storage that
    /// holds little more than one frame, come out as they went in.
    #[test]
    fn messages_survive_the_stream(parts in parts(), piece in 1_usize..700) {
        let mut stream = Vec::new();
        for event in events(&parts) {
            stream.extend(frame_of(&event));
        }
        let mut decoder = Decoder::new(vec![0; 900]);
        let mut rest = stream.as_slice();
        let mut expected = events(&parts).into_iter();
        loop {
            match decoder.next::<Event<'_>>() {
                Ok(Some(event)) => prop_assert_eq!(Some(event), expected.next()),
                Ok(None) => {
                    if rest.is_empty() {
                        break;
                    }
                    let room = decoder.spare();
                    prop_assert!(!room.is_empty(), "no room although no frame waits");
                    let bytes = piece.min(rest.len()).min(room.len());
                    room[..bytes].copy_from_slice(&rest[..bytes]);
                    decoder.filled(bytes);
                    rest = &rest[bytes..];
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert_eq!(expected.next(), None);
        for command in commands(&parts) {
            let mut decoder = Decoder::new(vec![0; 2048]);
            feed(&mut decoder, &frame_of(&command));
            prop_assert_eq!(decoder.next::<Command<'_>>(), Ok(Some(command)));
        }
    }

    /// Bytes of any content are refused or wait for more: never a panic, never a message too many.
    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200), framed in any::<bool>()) {
        let mut decoder = Decoder::new([0; 256]);
        let mut bytes = noise.clone();
        if framed {
            // Well framed noise reaches the payload's parser.
            let header = Header {
                kind: 2,
                payload_bytes: u32::try_from(noise.len()).unwrap(),
                checksum: checksum(2, &noise),
            };
            bytes = header.to_bytes().to_vec();
            bytes.extend(&noise);
        }
        feed(&mut decoder, &bytes);
        let first = decoder.next::<Event<'_>>().map(|event| event.is_some());
        if let Err(error) = first {
            prop_assert_eq!(decoder.next::<Event<'_>>(), Err(error));
        }
    }
}

#[test]
fn every_cut_of_every_frame_resumes() {
    let parts = sample();
    for event in events(&parts) {
        let frame = frame_of(&event);
        for cut in 0..frame.len() {
            let mut decoder = Decoder::new(vec![0; frame.len().max(HEADER_BYTES)]);
            feed(&mut decoder, &frame[..cut]);
            assert_eq!(decoder.next::<Event<'_>>(), Ok(None), "cut at {cut}");
            feed(&mut decoder, &frame[cut..]);
            assert_eq!(decoder.next::<Event<'_>>(), Ok(Some(event)), "cut at {cut}");
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let parts = sample();
    for event in events(&parts) {
        let frame = frame_of(&event);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A length that grew makes the decoder wait for the frames that follow.
            damaged.resize(FRAME_BYTES_MAX, 0x55);
            let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX]);
            feed(&mut decoder, &damaged);
            let refused = decoder.next::<Event<'_>>();
            assert!(refused.is_err(), "bit {bit}: {refused:?}");
        }
    }
}

#[test]
fn each_fault_has_its_error() {
    let at = Address::of(1, 1);
    let good = frame_of(&Event::Running { at, pid: 9 });
    let reframed = |payload: &[u8]| {
        let header = Header {
            kind: 2,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            checksum: checksum(2, payload),
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(payload);
        bytes
    };
    let changed = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        bytes
    };
    let mut long = good[HEADER_BYTES..].to_vec();
    long.extend([0, 0]);
    let check = |storage: usize, bytes: &[u8], expected: FrameError| {
        let mut decoder = Decoder::new(vec![0; storage]);
        let bytes = &bytes[..bytes.len().min(storage)];
        feed(&mut decoder, bytes);
        assert_eq!(decoder.next::<Event<'_>>(), Err(expected.clone()));
        // More bytes, even a good frame, do not heal it.
        let room = decoder.spare().len();
        decoder.filled(room);
        assert_eq!(decoder.next::<Event<'_>>(), Err(expected));
    };
    let command = frame_of(&Command::Start { at });
    let reason = postcard::Error::DeserializeUnexpectedEnd;
    check(11, &good, FrameError::StorageTooSmall { bytes: 11 });
    check(0, &[], FrameError::StorageTooSmall { bytes: 0 });
    check(64, &changed(0, b'X'), FrameError::Magic { found: u16::from_le_bytes(*b"Xu") });
    check(64, &changed(2, 2), FrameError::Version { found: 2 });
    check(64, &command, FrameError::Kind { found: 1, expected: 2 });
    check(13, &good, FrameError::TooLarge { payload_bytes: 5, payload_bytes_max: 1 });
    check(64, &reframed(&long), FrameError::Trailing { kind: 2, bytes: 2 });
    check(64, &reframed(&[]), FrameError::Payload { kind: 2, reason });
    // The kind is under the checksum: a frame can't be relabelled.
    let mut relabelled = command.clone();
    relabelled[3] = 2;
    let damage = FrameError::Checksum {
        found: checksum(1, &command[HEADER_BYTES..]),
        computed: checksum(2, &command[HEADER_BYTES..]),
    };
    check(64, &relabelled, damage);
    let oversize = FrameError::TooLarge {
        payload_bytes: 0x00ff_0005,
        payload_bytes_max: FRAME_BYTES_MAX - HEADER_BYTES,
    };
    check(2 * FRAME_BYTES_MAX, &changed(6, 0xff), oversize);
}

#[test]
fn a_frame_is_never_longer_than_the_limit() {
    let at = Address::of(0, 0);
    let bytes = vec![7; FRAME_BYTES_MAX];
    let message = |length: usize| Command::Messages {
        at,
        channel: 0,
        sequence: 0,
        attempt: 1,
        payloads: Payloads::new(&bytes[..length]),
    };
    // Variant, address, channel, sequence, attempt and a length of three bytes.
    let overhead = HEADER_BYTES + 7 + 3;
    let largest = message(FRAME_BYTES_MAX - overhead);
    let mut out = vec![0; 2 * FRAME_BYTES_MAX];
    assert_eq!(encode(&largest, &mut out), Ok(FRAME_BYTES_MAX));
    let over = message(FRAME_BYTES_MAX - overhead + 1);
    assert_eq!(encode(&over, &mut out), Err(EncodeError::TooLarge));
    // Nor does a buffer of exactly the limit make the buffer's length the reason.
    assert_eq!(encode(&over, &mut out[..FRAME_BYTES_MAX]), Err(EncodeError::TooLarge));
    for short in [0, HEADER_BYTES, 100] {
        let error = EncodeError::BufferTooSmall { bytes: short };
        assert_eq!(encode(&largest, &mut out[..short]), Err(error));
    }
    let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX]);
    feed(&mut decoder, &frame_of(&largest));
    assert_eq!(decoder.next::<Command<'_>>(), Ok(Some(largest)));
}

/// A payload that another encoding made arrives as it is, and what its reader makes of it does not end the
/// stream; a frame of another kind does.
#[test]
fn payloads_of_another_encoding_are_left_as_they_are() {
    const KIND: u8 = 50;
    let mut decoder = Decoder::new([0; 256]);
    for payload in [&b"{}"[..], b"", b"not JSON"] {
        let mut frame = [0; 64];
        let bytes = encode_payload(KIND, payload, &mut frame).unwrap();
        assert_eq!(bytes, HEADER_BYTES + payload.len());
        decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
        decoder.filled(bytes);
        assert_eq!(decoder.next_payload(KIND), Ok(Some(payload)));
        assert_eq!(decoder.next_payload(KIND), Ok(None));
    }
    let mut frame = [0; 64];
    let bytes = encode_payload(KIND + 1, b"{}", &mut frame).unwrap();
    decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
    decoder.filled(bytes);
    let error = Err(FrameError::Kind { found: KIND + 1, expected: KIND });
    assert_eq!(decoder.next_payload(KIND), error);
    assert_eq!(decoder.next_payload(KIND), error);
}

#[test]
fn a_payload_that_fits_no_frame_or_buffer_is_refused() {
    let largest = vec![b'x'; FRAME_BYTES_MAX - HEADER_BYTES];
    let mut out = vec![0; FRAME_BYTES_MAX + 1];
    assert_eq!(encode_payload(1, &largest, &mut out), Ok(FRAME_BYTES_MAX));
    let larger = vec![b'x'; FRAME_BYTES_MAX - HEADER_BYTES + 1];
    assert_eq!(encode_payload(1, &larger, &mut out), Err(EncodeError::TooLarge));
    let too_small = Err(EncodeError::BufferTooSmall { bytes: 20 });
    assert_eq!(encode_payload(1, b"123456789", &mut [0; 20]), too_small);
}

/// What may be skipped is, whole and counted; what may not, and what is damaged, is an error.
#[test]
fn kinds_from_64_on_are_skipped_and_none_below() {
    struct Strange<const KIND: u8>;
    impl<const KIND: u8> Message for Strange<KIND> {
        const KIND: u8 = KIND;
    }
    impl<const KIND: u8> Serialize for Strange<KIND> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&[KIND; 40])
        }
    }
    let at = Address::of(1, 1);
    let known = Command::Start { at };
    let mut decoder = Decoder::new(vec![0; 4_096]);
    for frame in [frame_of(&Strange::<64>), frame_of(&Strange::<255>), frame_of(&known)] {
        // In pieces: a frame that is skipped is waited for, too.
        let (half, rest) = frame.split_at(14);
        feed(&mut decoder, half);
        assert_eq!(decoder.next::<Command<'_>>(), Ok(None));
        feed(&mut decoder, rest);
    }
    assert_eq!(decoder.next::<Command<'_>>(), Ok(Some(known)));
    assert_eq!(decoder.next::<Command<'_>>(), Ok(None));
    assert_eq!(decoder.skipped(), 2);

    let mut decoder = Decoder::new(vec![0; 4_096]);
    feed(&mut decoder, &frame_of(&Strange::<63>));
    let error = FrameError::Kind { found: 63, expected: 1 };
    assert_eq!(decoder.next::<Command<'_>>(), Err(error));
    let mut damaged = frame_of(&Strange::<64>);
    *damaged.last_mut().unwrap() ^= 1;
    let mut decoder = Decoder::new(vec![0; 4_096]);
    feed(&mut decoder, &damaged);
    assert!(matches!(decoder.next::<Command<'_>>(), Err(FrameError::Checksum { .. })));
}
