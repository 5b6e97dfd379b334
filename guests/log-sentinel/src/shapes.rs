//! Each line of `shapes.txt`: what is made of it, alone, with any line end, and in a container's log.

use crate::{Format, Misread, Reader, Reading, Record, Unit, nearest};

const SHAPES: &str = include_str!("shapes.txt");
/// 2026-11-21T09:15:15Z.
const AT: u64 = 1_795_252_515;

struct Shape {
    name: &'static str,
    format: Format,
    unit: Option<Unit>,
    line: Vec<u8>,
    /// What it should be, or the column and the nearest format.
    expected: Result<Record, (usize, Option<&'static str>)>,
}

fn shapes() -> Vec<Shape> {
    SHAPES.split("\n# ").skip(1).map(shape).collect()
}

fn shape(entry: &'static str) -> Shape {
    let mut lines = entry.trim_end().split('\n');
    let name = lines.next().expect("a name");
    let (mut format, mut unit) = (Format::Auto, None);
    let line = loop {
        let line = lines.next().expect(name);
        if let Some(text) = line.strip_prefix("format = ") {
            format = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if let Some(text) = line.strip_prefix("request_time = ") {
            unit = Some(match text {
                "s" => Unit::Seconds,
                "ms" => Unit::Milliseconds,
                "us" => Unit::Microseconds,
                other => panic!("{name}: {other}"),
            });
        } else {
            break line.replace("\\0", "\0").into_bytes();
        }
    };
    let expected = lines.next().and_then(|line| line.strip_prefix("= ")).expect(name);
    assert_eq!(lines.next(), None, "{name}");
    let mut words = expected.split(' ');
    let mut word = || words.next().filter(|word| *word != "-");
    let number = |word: Option<&str>| word.map(|word| word.parse::<u64>().expect(name));
    let expected = match word() {
        Some("malformed") => {
            let column = word().expect(name).parse().expect(name);
            Err((column, word()))
        }
        status => Ok(Record {
            status: status.map(|status| status.parse().expect(name)),
            bytes: number(word()).expect(name),
            latency_us: number(word()),
            second: match words.next() {
                None => Some(AT),
                Some("-") => None,
                second => number(second),
            },
        }),
    };
    Shape { name, format, unit, line, expected }
}

/// What a line is, on its own terms.
fn read(shape: &Shape, line: &[u8]) -> Result<Record, (usize, Option<&'static str>)> {
    let mut reader = Reader::new(shape.format.clone(), shape.unit);
    match reader.read(line) {
        Reading::Request(record) => Ok(record),
        Reading::Part => panic!("{}: a part", shape.name),
        Reading::Malformed(line, Misread { at, .. }) => {
            Err((at + 1, nearest(line).map(|(name, _)| name)))
        }
    }
}

#[test]
fn every_shape_is_what_it_should_be() {
    let shapes = shapes();
    assert!(shapes.len() > 70, "{}", shapes.len());
    let mut wrong = Vec::new();
    for shape in &shapes {
        for end in ["", "\n", "\r\n"] {
            let line = [&shape.line, end.as_bytes()].concat();
            let found = read(shape, &line);
            if found != shape.expected {
                wrong.push(format!("{}: {found:?}, not {:?}\n", shape.name, shape.expected));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn a_containers_log_makes_no_difference() {
    for shape in shapes() {
        if shape.line.starts_with(b"{\"log\"") || shape.name.starts_with("CRI") {
            continue;
        }
        let expected =
            shape.expected.map(|record| Record { second: record.second.or(Some(AT)), ..record });
        let cri = |tag: &str, text: &[u8]| {
            [b"2026-11-21T09:15:15.5Z stdout ", tag.as_bytes(), b" ", text].concat()
        };
        assert_eq!(read(&shape, &cri("F", &shape.line)), expected, "CRI: {}", shape.name);

        let text = String::from_utf8(shape.line.clone()).unwrap();
        let escaped: String = text
            .chars()
            .map(|character| match character {
                '"' | '\\' => format!("\\{character}"),
                '\0' => "\\u0000".to_owned(),
                other => other.to_string(),
            })
            .collect();
        let docker =
            format!(r#"{{"log":"{escaped}\n","stream":"stderr","time":"2026-11-21T09:15:15.5Z"}}"#);
        assert_eq!(read(&shape, docker.as_bytes()), expected, "Docker: {}", shape.name);

        // In two parts, cut anywhere, with a line of the other stream between them.
        for cut in 0..=shape.line.len() {
            let mut reader = Reader::new(shape.format.clone(), shape.unit);
            let (first, last) = shape.line.split_at(cut);
            assert_eq!(reader.read(&cri("P", first)), Reading::Part, "{}", shape.name);
            let other = b"2026-11-21T09:15:15.5Z stderr F x";
            assert!(matches!(reader.read(other), Reading::Malformed(b"x", _)), "{}", shape.name);
            let line = cri("F", last);
            let found = match reader.read(&line) {
                Reading::Request(record) => Ok(record),
                Reading::Part => panic!("{}: a part", shape.name),
                Reading::Malformed(line, misread) => {
                    Err((misread.at + 1, nearest(line).map(|(name, _)| name)))
                }
            };
            assert_eq!(found, expected, "cut at {cut}: {}", shape.name);
        }
    }
}
