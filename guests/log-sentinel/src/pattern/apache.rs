//! The syntax of Apache's `LogFormat`: `%h`, `%>s`, `%{Referer}i`, `%!200,304{User-agent}i`.

use super::{Field, Kind, PatternError, Token};
use crate::number::Unit;

/// Directives that take no argument, whose values are not wanted.
const PLAIN: &str = "aAfhHIklLmpPqRSuUvVX";
/// Those that need one, and those that may have one.
const WITH_ARGUMENT: &str = "Cceinox";
const MAY_HAVE_ARGUMENT: &str = "ahpP";

/// How `%{…}t` may write a time, of those that strftime can: what is read here.
const TIMES: &[&str] = &[
    "%d/%b/%Y:%H:%M:%S %z",
    "%d/%b/%Y:%T %z",
    "%d/%b/%Y:%H:%M:%S",
    "%d/%b/%Y:%T",
    "%d/%b/%Y %H:%M:%S",
    "%d/%b/%Y %T",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%T%z",
    "%Y-%m-%dT%T",
    "%Y-%m-%d %T",
    "%FT%T%z",
    "%FT%TZ",
    "%FT%T",
    "%F %T %z",
    "%F %T",
];

/// The parts of a pattern.
///
/// # Errors
/// A directive that Apache does not have, or one without its argument.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().enumerate().peekable();
    while let Some((at, character)) = rest.next() {
        let column = at + 1;
        let literal = match character {
            '%' if rest.next_if(|(_, next)| *next == '%').is_some() => '%',
            '%' => {
                let directive = Directive::read(&mut rest, column)?;
                tokens.extend(directive.tokens(column)?);
                continue;
            }
            '\\' => match rest.next_if(|(_, next)| matches!(next, '"' | '\'' | '\\' | 't')) {
                Some((_, 't')) => '\t',
                Some((_, escaped)) => escaped,
                None => '\\',
            },
            other => other,
        };
        let mut bytes = [0; 4];
        tokens.extend(literal.encode_utf8(&mut bytes).bytes().map(Token::Literal));
    }
    Ok(tokens)
}

/// `%`, perhaps for which statuses it is written, perhaps `>` or `<`, perhaps an argument, a letter.
struct Directive {
    argument: Option<String>,
    letter: char,
    is_final: bool,
}

impl Directive {
    fn read(
        rest: &mut core::iter::Peekable<impl Iterator<Item = (usize, char)>>,
        column: usize,
    ) -> Result<Self, PatternError> {
        let mut argument = None;
        let mut is_final = false;
        while let Some((_, character)) = rest.next() {
            match character {
                '0'..='9' | ',' | '!' | '<' => {}
                '>' => is_final = true,
                '{' => {
                    let mut text = String::new();
                    loop {
                        match rest.next() {
                            Some((_, '}')) => break,
                            Some((_, character)) => text.push(character),
                            None => {
                                return Err(PatternError::new(column, "this brace is not closed"));
                            }
                        }
                    }
                    argument = Some(text);
                }
                // `%^FB`, `%^ti`, `%^to`: two letters.
                '^' => {
                    let pair =
                        [rest.next(), rest.next()].map(|next| next.map(|(_, letter)| letter));
                    return match pair {
                        [Some('F'), Some('B' | 'U')] => {
                            Ok(Self { argument: None, letter: 'h', is_final })
                        }
                        [Some('t'), Some('i' | 'o')] => {
                            Ok(Self { argument, letter: 'i', is_final })
                        }
                        _ => Err(PatternError::new(column, "Apache has no such directive")),
                    };
                }
                letter => return Ok(Self { argument, letter, is_final }),
            }
        }
        Err(PatternError::new(column, "a `%` with no letter behind it; a percent sign is `%%`"))
    }

    fn tokens(self, column: usize) -> Result<Vec<Token>, PatternError> {
        let Self { argument, letter, is_final } = self;
        let name = match &argument {
            None => format!("%{letter}"),
            Some(argument) => format!("%{{{argument}}}{letter}"),
        };
        let field = |kind, rank| Token::Field(Field { kind, rank, name: name.clone(), column });
        let refuse = |problem: String| Err(PatternError::new(column, problem));
        let argument = argument.as_deref();
        Ok(vec![match (letter, argument) {
            ('s', None) => field(Kind::Status, is_final.into()),
            ('b' | 'B', None) => field(Kind::Bytes, 1),
            ('O', None) => field(Kind::Bytes, 0),
            ('t', None) => {
                let bracket = |byte| Token::Literal(byte);
                return Ok(vec![bracket(b'['), field(Kind::Time, 1), bracket(b']')]);
            }
            ('t', Some(text)) => {
                let text =
                    text.strip_prefix("begin:").or(text.strip_prefix("end:")).unwrap_or(text);
                match text {
                    "sec" | "end" | "begin" => field(Kind::Epoch(Unit::Seconds), 0),
                    "msec" => field(Kind::Epoch(Unit::Milliseconds), 0),
                    "usec" => field(Kind::Epoch(Unit::Microseconds), 0),
                    "msec_frac" | "usec_frac" => field(Kind::Other, 0),
                    text if TIMES.contains(&text) => field(Kind::Time, 1),
                    // The zone, and what else stands beside a time that is read.
                    text if !text.contains(['Y', 'F', 'T', 'S', 'c', 's', 'D']) => {
                        field(Kind::Other, 0)
                    }
                    _ => {
                        return refuse(format!(
                            "the time of `{name}` can't be read here; `%t` can, and for instance \
                             `%{{%Y-%m-%dT%H:%M:%S%z}}t` or `%{{sec}}t`"
                        ));
                    }
                }
            }
            ('D', None) => field(Kind::Latency(Unit::Microseconds), 2),
            ('T', None | Some("s")) => field(Kind::Latency(Unit::Seconds), 0),
            ('T', Some("ms")) => field(Kind::Latency(Unit::Milliseconds), 1),
            ('T', Some("us")) => field(Kind::Latency(Unit::Microseconds), 2),
            ('T', Some(_)) => {
                return refuse(format!("`{name}`: the unit of a time is `s`, `ms` or `us`"));
            }
            ('r', None) => field(Kind::Other, 0),
            (letter, None) if PLAIN.contains(letter) => field(Kind::Other, 0),
            (letter, Some(_))
                if WITH_ARGUMENT.contains(letter) || MAY_HAVE_ARGUMENT.contains(letter) =>
            {
                field(Kind::Other, 0)
            }
            (letter, None) if WITH_ARGUMENT.contains(letter) => {
                return refuse(format!(
                    "`{name}` lacks its argument, as in `%{{Referer}}{letter}`"
                ));
            }
            _ => {
                return refuse(format!("Apache has no directive `{name}`; a percent sign is `%%`"));
            }
        }])
    }
}
