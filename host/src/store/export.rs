//! The export of one daemon: what this project promises to read for ever. The database is not that: its
//! layout and redb's may change.
//!
//! All numbers are little-endian; a text is its length in 4 bytes and UTF-8.
//!
//! ```text
//! magic     16 bytes   "duende-state" 0d 0a 1a 0a: a transfer as text, or one that cuts at 1a, shows here
//! format    2 bytes    1
//! header    store id (16), schema of that store (8), daemon id (16), writer (text), record (text, JSON)
//! entry *   kind (1), flags (1), length of the body (4), body
//! end       an entry of kind 0: number of entries before it (8), blake3 of every byte before the hash (32)
//! ```
//!
//! | kind | body |
//! |---|---|
//! | 1 state | key (text), value (the rest) |
//! | 2 position | channel (text), where its source goes on (the rest) |
//! | 3 counter | name (text), total (8) |
//! | 4 gauge | name (text), the bits of its level as IEEE 754 binary64 (8) |
//!
//! Rules:
//! 1. **Whole or not at all.** A file that is cut anywhere, or of which a byte was altered anywhere, is
//!    refused (`a_cut_export_is_refused`, `an_altered_byte_is_refused`). Nothing in it is used before its hash
//!    is right.
//! 2. **It grows by kinds.** Bit 0 of the flags marks an entry as optional: whoever does not know its kind
//!    skips it. An unknown kind without it, and a flag that is not known, are refused
//!    (`unknown_kinds_are_skipped_only_where_that_is_allowed`). So what may be lost without harm is decided by
//!    whoever wrote it. Fields of the daemon are added to the [record](super::record).
//! 3. **One form.** Entries come by kind, and within a kind by name, none twice: the same daemon is always
//!    the same bytes.
//! 4. **The format number changes only when these rules do.** What lies after it is then another matter, so
//!    it is looked at first.

use std::io::{self, Read, Write};

use super::Loaded;
use super::record::{DaemonId, Record};

const MAGIC: &[u8; 16] = b"duende-state\r\n\x1a\n";
const FORMAT: u16 = 1;

const END: u8 = 0;
pub(super) const STATE: u8 = 1;
pub(super) const POSITION: u8 = 2;
pub(super) const COUNTER: u8 = 3;
pub(super) const GAUGE: u8 = 4;

/// Whoever does not know the kind skips it.
const OPTIONAL: u8 = 1;

const HASH_BYTES: usize = 32;
const END_BYTES: usize = 8 + HASH_BYTES;

/// Longest export that is read, in bytes: it is in memory while it is checked.
pub const EXPORT_BYTES_MAX: u64 = 4 << 30;

/// Why something is not an export that this version can use.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It does not begin as one.
    #[error("it is not an export of `duende state export`")]
    Foreign,
    /// The rules have changed since.
    #[error(
        "its format is {found}, and this version of duende reads format {FORMAT}: use a newer version"
    )]
    Format {
        /// Its format number.
        found: u16,
    },
    /// It is cut or altered.
    #[error("it is cut short or altered ({0}): copy it again, or export it again")]
    Broken(String),
    /// It holds more than this version knows.
    #[error(
        "it holds entries of kind {kind} (flags {flags}), which this version of duende does not know, and which must \
         not be left out: use a newer version, at least that which wrote it ({writer})"
    )]
    Unknown {
        /// The kind.
        kind: u8,
        /// How it is marked.
        flags: u8,
        /// Who wrote the export.
        writer: String,
    },
    /// It is whole, and wrong all the same.
    #[error(
        "it was not written as it should ({detail}), by {writer}: that is a fault of that program"
    )]
    Malformed {
        /// What is wrong.
        detail: String,
        /// Who wrote the export.
        writer: String,
    },
    /// It is longer than can be checked.
    #[error("it is longer than {EXPORT_BYTES_MAX} bytes")]
    TooLong,
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whose state an export holds, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// The state file that it was taken from.
    pub(super) store: u128,
    /// That file's schema; for people.
    pub(super) schema: u64,
    /// The program that wrote that file.
    pub(super) writer: String,
    pub(super) id: DaemonId,
    pub(super) record: Record,
}

/// One daemon, as it is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    pub(super) header: Header,
    pub(super) loaded: Loaded,
    skipped: u64,
}

impl Export {
    pub(super) fn new(header: Header, loaded: Loaded) -> Self {
        Self { header, loaded, skipped: 0 }
    }

    /// The daemon's id.
    #[must_use]
    pub fn id(&self) -> DaemonId {
        self.header.id
    }

    /// What is known of the daemon.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.header.record
    }

    /// What is kept of it.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// How many optional entries this version does not know.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Writes it.
    ///
    /// # Errors
    /// `out` can't be written, or a part is longer than the format can say.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Loaded { state, positions, counters, gauges } = &self.loaded;
        let mut out = ExportWriter::begin(out, &self.header)?;
        for (key, value) in state {
            out.put(STATE, key, value)?;
        }
        for (channel, position) in positions {
            out.put(POSITION, channel, position)?;
        }
        for (name, total) in counters {
            out.put(COUNTER, name, &total.to_le_bytes())?;
        }
        for (name, level) in gauges {
            out.put(GAUGE, name, &level.to_bits().to_le_bytes())?;
        }
        out.finish()
    }

    /// Reads one to its end.
    ///
    /// # Errors
    /// It is none that this version can use, or can't be read.
    pub fn read(from: &mut impl Read) -> Result<Self, ExportError> {
        let mut bytes = Vec::new();
        // What is no export is not read further: it may have no end.
        from.by_ref().take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
        if bytes != MAGIC {
            let cut = !bytes.is_empty() && MAGIC.starts_with(&bytes);
            return Err(if cut { ended(bytes.len()) } else { ExportError::Foreign });
        }
        from.take(EXPORT_BYTES_MAX).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > EXPORT_BYTES_MAX {
            return Err(ExportError::TooLong);
        }
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, ExportError> {
        let mut rest = Rest { bytes, at: MAGIC.len() };
        let format = u16::from_le_bytes(rest.array()?);
        if format != FORMAT {
            return Err(ExportError::Format { found: format });
        }
        // Its form and its hash first.
        let store = u128::from_le_bytes(rest.array()?);
        let schema = u64::from_le_bytes(rest.array()?);
        let id = DaemonId(u128::from_le_bytes(rest.array()?));
        let (writer, record) = (rest.prefixed()?, rest.prefixed()?);
        let mut entries = Vec::new();
        let end = loop {
            let entry = rest.entry()?;
            if entry.kind == END {
                break entry;
            }
            entries.push(entry);
        };
        let broken = |what: &str| ExportError::Broken(what.to_owned());
        let Some((count, hash)) = end.body.split_first_chunk::<8>() else {
            return Err(broken("its end is none"));
        };
        if rest.at != bytes.len() {
            return Err(broken("something follows its end"));
        }
        let hashed = bytes.get(..bytes.len() - hash.len()).unwrap_or_default();
        if end.flags != 0 || blake3::hash(hashed).as_bytes()[..] != *hash {
            return Err(broken("its hash is not that of its content"));
        }
        let writer = String::from_utf8_lossy(writer).into_owned();
        let malformed = |detail: String| ExportError::Malformed { detail, writer: writer.clone() };
        if u64::from_le_bytes(*count) != entries.len() as u64 {
            return Err(malformed("its number of entries is another".to_owned()));
        }
        let record = Record::decode(record).map_err(malformed)?;
        let mut loaded = Loaded::default();
        let mut skipped = 0;
        let mut before: Option<(u8, &str)> = None;
        for Entry { kind, flags, body } in entries {
            let known = (STATE..=GAUGE).contains(&kind);
            if !known && flags == OPTIONAL {
                skipped += 1;
                continue;
            }
            if !known || flags & !OPTIONAL != 0 {
                return Err(ExportError::Unknown { kind, flags, writer: writer.clone() });
            }
            let mut parts = Rest { bytes: body, at: 0 };
            let wrong = || malformed(format!("an entry of kind {kind}"));
            let name = parts.prefixed().map_err(|_| wrong())?;
            let name = std::str::from_utf8(name).map_err(|_| wrong())?;
            let value = parts.rest();
            if before.is_some_and(|before| before >= (kind, name)) {
                return Err(malformed("its entries are not in order".to_owned()));
            }
            before = Some((kind, name));
            let number = || <[u8; 8]>::try_from(value).map(u64::from_le_bytes).map_err(|_| wrong());
            let name = name.to_owned();
            match kind {
                STATE => loaded.state.push((name, value.to_vec())),
                POSITION => loaded.positions.push((name, value.to_vec())),
                COUNTER => loaded.counters.push((name, number()?)),
                _ => loaded.gauges.push((name, f64::from_bits(number()?))),
            }
        }
        let header = Header { store, schema, writer, id, record };
        Ok(Self { header, loaded, skipped })
    }
}

/// Writes an export, entry by entry, in the order in which they stand.
pub(super) struct ExportWriter<'a, W> {
    out: Hashing<'a, W>,
    count: u64,
}

impl<'a, W: Write> ExportWriter<'a, W> {
    pub(super) fn begin(out: &'a mut W, header: &Header) -> io::Result<Self> {
        let mut out = Hashing { out, hasher: blake3::Hasher::new() };
        out.write_all(MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&header.store.to_le_bytes())?;
        out.write_all(&header.schema.to_le_bytes())?;
        out.write_all(&header.id.0.to_le_bytes())?;
        text(&mut out, &header.writer)?;
        text(&mut out, &serde_json::to_string(&header.record)?)?;
        Ok(Self { out, count: 0 })
    }

    pub(super) fn put(&mut self, kind: u8, name: &str, value: &[u8]) -> io::Result<()> {
        self.count += 1;
        entry(&mut self.out, kind, 0, 4 + name.len() + value.len())?;
        text(&mut self.out, name)?;
        self.out.write_all(value)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        finish(self.out, self.count)
    }
}

/// Writes, and hashes what it writes.
struct Hashing<'a, W> {
    out: &'a mut W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes).map_err(|_| {
        io::Error::new(io::ErrorKind::FileTooLarge, "a part of it is longer than 4 GiB")
    })?;
    Ok(length.to_le_bytes())
}

fn text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&length(text.len())?)?;
    out.write_all(text.as_bytes())
}

fn entry(out: &mut impl Write, kind: u8, flags: u8, body_bytes: usize) -> io::Result<()> {
    out.write_all(&[kind, flags])?;
    out.write_all(&length(body_bytes)?)
}

fn finish<W: Write>(mut out: Hashing<'_, W>, count: u64) -> io::Result<()> {
    entry(&mut out, END, 0, END_BYTES)?;
    out.write_all(&count.to_le_bytes())?;
    let Hashing { out, hasher } = out;
    out.write_all(hasher.finalize().as_bytes())?;
    out.flush()
}

/// An entry as it stands there.
struct Entry<'a> {
    kind: u8,
    flags: u8,
    body: &'a [u8],
}

/// What was not read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn ended(at: usize) -> ExportError {
    ExportError::Broken(format!("it ends too early, after {at} bytes"))
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ExportError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| ended(self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ExportError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| ended(self.bytes.len()))
    }

    /// As many bytes as the next four say.
    fn prefixed(&mut self) -> Result<&'a [u8], ExportError> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn entry(&mut self) -> Result<Entry<'a>, ExportError> {
        let [kind, flags] = self.array()?;
        Ok(Entry { kind, flags, body: self.prefixed()? })
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn named<V: std::fmt::Debug>(
        value: impl Strategy<Value = V>,
    ) -> impl Strategy<Value = Vec<(String, V)>> {
        let name = prop_oneof![".{0,8}", "[a-z]{1,3}", Just("\u{10ffff}\0".to_owned())];
        prop::collection::btree_map(name, value, 0..5)
            .prop_map(|map: BTreeMap<_, _>| map.into_iter().collect())
    }

    fn loaded() -> impl Strategy<Value = Loaded> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let level = any::<u64>().prop_map(f64::from_bits);
        (named(bytes()), named(bytes()), named(any::<u64>()), named(level)).prop_map(
            |(state, positions, counters, gauges)| Loaded { state, positions, counters, gauges },
        )
    }

    fn export_of(loaded: Loaded) -> Export {
        let record = Record::decode(br#"{"name":"web","created_s":7,"later":[1]}"#).unwrap();
        let id = DaemonId(u128::MAX / 3);
        let header =
            Header { store: 1 << 100, schema: 2, writer: "duende 9".to_owned(), id, record };
        Export::new(header, loaded)
    }

    fn written(export: &Export) -> Vec<u8> {
        let mut bytes = Vec::new();
        export.write(&mut bytes).unwrap();
        bytes
    }

    fn sample() -> Export {
        export_of(Loaded {
            state: vec![("a".to_owned(), vec![0, 1]), ("b".to_owned(), Vec::new())],
            positions: vec![("lines".to_owned(), vec![3; 9])],
            counters: vec![("total".to_owned(), u64::MAX)],
            gauges: vec![("level".to_owned(), f64::NAN)],
        })
    }

    /// An export with these entries instead of its own.
    fn with_entries(entries: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut empty = written(&export_of(Loaded::default()));
        empty.truncate(empty.len() - END_BYTES - 6);
        for (kind, flags, body) in entries {
            entry(&mut empty, *kind, *flags, body.len()).unwrap();
            empty.extend_from_slice(body);
        }
        let mut bytes = Vec::new();
        let mut out = Hashing { out: &mut bytes, hasher: blake3::Hasher::new() };
        out.write_all(&empty).unwrap();
        finish(out, entries.len() as u64).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What is read is what was written, to the last bit, and is written the same again.
        #[test]
        fn reading_is_the_inverse_of_writing(loaded in loaded()) {
            let export = export_of(loaded);
            let bytes = written(&export);
            let again = Export::read(&mut bytes.as_slice()).unwrap();
            prop_assert_eq!(written(&again), bytes);
            prop_assert_eq!(&again.header, &export.header);
            // Their levels may be no numbers, which are not equal to themselves.
            prop_assert_eq!(format!("{:?}", again.loaded), format!("{:?}", export.loaded));
        }

        #[test]
        fn anything_at_all_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let after_magic = [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &bytes].concat();
            prop_assert!(Export::read(&mut bytes.as_slice()).is_err());
            prop_assert!(Export::read(&mut after_magic.as_slice()).is_err());
        }
    }

    #[test]
    fn an_altered_byte_is_refused() {
        let whole = written(&sample());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut altered = whole.clone();
                altered[at] ^= 1 << bit;
                let read = Export::read(&mut altered.as_slice());
                assert!(read.is_err(), "bit {bit} of byte {at}: {read:?}");
            }
        }
    }

    #[test]
    fn a_cut_export_is_refused() {
        let whole = written(&sample());
        for length in 0..whole.len() {
            let cut = Export::read(&mut &whole[..length]).unwrap_err();
            let text = cut.to_string();
            assert!(length == 0 || text.contains("cut short"), "{length} bytes: {text}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        let refused = Export::read(&mut longer.as_slice()).unwrap_err();
        assert!(refused.to_string().contains("follows its end"), "{refused}");
    }

    #[test]
    fn unknown_kinds_are_skipped_only_where_that_is_allowed() {
        let state = [&1_u32.to_le_bytes()[..], b"k", b"value"].concat();
        let read =
            |entries: &[(u8, u8, &[u8])]| Export::read(&mut with_entries(entries).as_slice());
        let export = read(&[(STATE, 0, &state), (9, OPTIONAL, b"anything")]).unwrap();
        assert_eq!(export.skipped(), 1);
        assert_eq!(export.loaded.state, [("k".to_owned(), b"value".to_vec())]);
        for refused in [(9, 0), (9, OPTIONAL | 2), (STATE, 4)] {
            let refused = read(&[(refused.0, refused.1, &state)]).unwrap_err();
            assert!(matches!(refused, ExportError::Unknown { .. }), "{refused}");
            assert!(refused.to_string().contains("duende 9"), "{refused}");
        }
    }

    #[test]
    fn what_is_whole_and_wrong_is_told_from_what_is_cut() {
        let named = |name: &[u8], value: &[u8]| {
            [&u32::try_from(name.len()).unwrap().to_le_bytes(), name, value].concat()
        };
        let (a, b) = (named(b"a", b"12345678"), named(b"b", b"12345678"));
        let wrong: [&[(u8, u8, &[u8])]; 6] = [
            &[(STATE, 0, &b), (STATE, 0, &a)],
            &[(STATE, 0, &a), (STATE, 0, &a)],
            &[(COUNTER, 0, &a), (STATE, 0, &a)],
            &[(COUNTER, 0, &named(b"a", b"123"))],
            &[(STATE, 0, &named(b"\xff", b""))],
            &[(STATE, 0, b"\x09\0\0\0a")],
        ];
        for entries in wrong {
            let refused = Export::read(&mut with_entries(entries).as_slice()).unwrap_err();
            assert!(matches!(refused, ExportError::Malformed { .. }), "{entries:?}: {refused}");
        }
    }

    #[test]
    fn another_format_is_named() {
        let mut newer = written(&sample());
        newer[MAGIC.len()] = 2;
        let refused = Export::read(&mut newer.as_slice()).unwrap_err();
        assert!(matches!(refused, ExportError::Format { found: 2 }), "{refused}");
        let foreign = Export::read(&mut &b"PK\x03\x04 and so on, and so on"[..]).unwrap_err();
        assert!(matches!(foreign, ExportError::Foreign), "{foreign}");
    }

    /// The promise: these bytes were written by the first version that exported, and are read for ever.
    #[test]
    fn the_first_format_is_read_for_ever() {
        let bytes = include_bytes!("fixtures/web.duende-state");
        let export = Export::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(format!("{export:?}"), format!("{:?}", sample()));
        assert_eq!(written(&export), bytes);
    }
}
