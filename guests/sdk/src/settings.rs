//! `[daemon.config]` as a type of the daemon's own, by serde; see [`Config::read`](crate::Config::read).
//!
//! The contract hands out leaves by dotted keys; here they are a tree again. Whether a branch is an array or a
//! table is for the type to say: where it does not, a branch whose keys are 0, 1, 2, … is an array. An array
//! without elements has no leaf, so a field that has none is looked up as a whole.

use core::cell::RefCell;
use core::fmt;
use std::collections::BTreeMap;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor, value::MapAccessDeserializer,
};

use crate::context::Host;
use crate::failure::Failure;
use crate::types::Value;

/// Keys that are asked for at once.
const PAGE: u32 = 256;

/// Why a configuration does not fit: which key, and what is wrong with it.
#[derive(Debug)]
struct Misfit {
    key: String,
    text: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.key {
            "" => write!(f, "config: {}", self.text),
            key => write!(f, "config: `{key}`: {}", self.text),
        }
    }
}

impl core::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { key: String::new(), text: message.to_string() }
    }
}

#[derive(Debug, PartialEq)]
enum Node {
    Leaf(Value),
    Branch(BTreeMap<String, Node>),
}

impl Node {
    fn insert(&mut self, key: &str, value: Value) {
        let Self::Branch(entries) = self else { return };
        match key.split_once('.') {
            None => {
                entries.insert(key.to_owned(), Self::Leaf(value));
            }
            Some((first, rest)) => {
                let below =
                    entries.entry(first.to_owned()).or_insert(Self::Branch(BTreeMap::new()));
                below.insert(rest, value);
            }
        }
    }
}

/// Whether a branch is an array, if nobody says: 0, 1, 2, …
fn is_array(entries: &BTreeMap<String, Node>) -> bool {
    !entries.is_empty() && (0..entries.len()).all(|index| entries.contains_key(&index.to_string()))
}

/// Reads the whole table.
pub(crate) fn read<T: DeserializeOwned>(host: &mut dyn Host) -> Result<T, Failure> {
    let mut root = Node::Branch(BTreeMap::new());
    let mut after: Option<String> = None;
    loop {
        let keys = host.config_keys("", after.as_deref(), PAGE);
        for key in &keys {
            if let Some(value) = host.config_get(key) {
                root.insert(key, value);
            }
        }
        match keys.into_iter().last() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let host = RefCell::new(host);
    let is_empty_array = |key: &str| host.borrow_mut().config_text(key).as_deref() == Some("[]");
    T::deserialize(Reader { is_empty_array: &is_empty_array, key: String::new(), node: root })
        .map_err(Failure::config)
}

struct Reader<'h> {
    /// Whether there is an array without elements under this key.
    is_empty_array: &'h dyn Fn(&str) -> bool,
    /// Dotted; empty at the root.
    key: String,
    node: Node,
}

impl<'h> Reader<'h> {
    fn below(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    fn entries(self) -> Entries<'h> {
        let (is_empty_array, key) = (self.is_empty_array, self.key.clone());
        let entries = match self.node {
            Node::Branch(entries) => entries,
            Node::Leaf(_) => BTreeMap::new(),
        };
        Entries { is_empty_array, key, entries: entries.into_iter(), next: None }
    }

    fn elements(self) -> Elements<'h> {
        let (is_empty_array, key) = (self.is_empty_array, self.key.clone());
        let entries = match self.node {
            Node::Branch(entries) => entries,
            Node::Leaf(_) => BTreeMap::new(),
        };
        Elements { is_empty_array, key, entries, index: 0 }
    }

    /// An error of this key, unless it is one of a key below already.
    fn blame<T>(key: String, result: Result<T, Misfit>) -> Result<T, Misfit> {
        result
            .map_err(|misfit| if misfit.key.is_empty() { Misfit { key, ..misfit } } else { misfit })
    }
}

struct Entries<'h> {
    is_empty_array: &'h dyn Fn(&str) -> bool,
    key: String,
    entries: std::collections::btree_map::IntoIter<String, Node>,
    next: Option<Reader<'h>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        let Some((name, node)) = self.entries.next() else { return Ok(None) };
        let key = if self.key.is_empty() { name.clone() } else { format!("{}.{name}", self.key) };
        let found = Reader::blame(key.clone(), seed.deserialize(name.into_deserializer()))?;
        self.next = Some(Reader { is_empty_array: self.is_empty_array, key, node });
        Ok(Some(found))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some(reader) = self.next.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        Reader::blame(reader.key.clone(), seed.deserialize(reader))
    }
}

struct Elements<'h> {
    is_empty_array: &'h dyn Fn(&str) -> bool,
    key: String,
    entries: BTreeMap<String, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let name = self.index.to_string();
        let Some(node) = self.entries.remove(&name) else { return Ok(None) };
        self.index += 1;
        let key = format!("{}.{name}", self.key);
        let element = seed.deserialize(Reader {
            is_empty_array: self.is_empty_array,
            key: key.clone(),
            node,
        });
        Reader::blame(key, element).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node {
            Node::Leaf(Value::Text(text)) => visitor.visit_string(text),
            Node::Leaf(Value::Integer(value)) => visitor.visit_i64(value),
            Node::Leaf(Value::Number(value)) => visitor.visit_f64(value),
            Node::Leaf(Value::Boolean(value)) => visitor.visit_bool(value),
            Node::Branch(ref entries) if is_array(entries) => visitor.visit_seq(self.elements()),
            Node::Branch(_) => visitor.visit_map(self.entries()),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node {
            Node::Branch(_) => visitor.visit_seq(self.elements()),
            Node::Leaf(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node {
            Node::Branch(_) => visitor.visit_map(self.entries()),
            Node::Leaf(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        for field in fields {
            let key = self.below(field);
            if let Node::Branch(entries) = &mut self.node
                && !entries.contains_key(*field)
                && (self.is_empty_array)(&key)
            {
                entries.insert((*field).to_owned(), Node::Branch(BTreeMap::new()));
            }
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.node {
            Node::Leaf(Value::Text(text)) => visitor.visit_enum(text.into_deserializer()),
            Node::Branch(_) => {
                MapAccessDeserializer::new(self.entries()).deserialize_enum(name, variants, visitor)
            }
            Node::Leaf(_) => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use crate::testing::Manager;
    use crate::{Context, Daemon, Failure, Next, Value, Wake};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        window: u32,
        #[serde(default)]
        ratio: f64,
        title: Option<String>,
        mode: Mode,
        alert: Alert,
        servers: Vec<Server>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Calm,
        VeryLoud,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Alert {
        levels: Vec<u8>,
        on: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Server {
        address: String,
    }

    /// Fails with its settings, for a test to see.
    struct Reads;

    impl Daemon for Reads {
        fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
            let settings: Settings = context.config().read()?;
            Err(Failure::new(format!("{settings:?}")))
        }
        fn run(&mut self, _: &Wake, _: &mut Context<'_>) -> Result<Next, Failure> {
            Ok(Next::Wait)
        }
    }

    fn read(entries: &[(&str, Value)]) -> (u8, String) {
        let mut manager = Manager::new();
        for (key, value) in entries {
            manager.configure(key, value.clone());
        }
        let Err(failure) = manager.start::<Reads>() else { panic!("it fails") };
        (failure.code(), failure.to_string())
    }

    fn entries() -> Vec<(&'static str, Value)> {
        vec![
            ("window", 10_i64.into()),
            ("mode", "very-loud".into()),
            ("alert.levels.0", 1_i64.into()),
            ("alert.levels.1", 2_i64.into()),
            ("alert.on", true.into()),
            ("servers.0.address", "a:1".into()),
            ("servers.1.address", "b:1".into()),
        ]
    }

    #[test]
    fn a_table_becomes_a_type() {
        let (code, text) = read(&entries());
        let expected = Settings {
            window: 10,
            ratio: 0.0,
            title: None,
            mode: Mode::VeryLoud,
            alert: Alert { levels: vec![1, 2], on: true },
            servers: ["a:1", "b:1"].map(|address| Server { address: address.to_owned() }).into(),
        };
        assert_eq!((code, text), (1, format!("{expected:?}")));
        assert_ne!(expected.mode, Mode::Calm);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let with = |key: &'static str, value: Value| {
            let mut all = entries();
            all.retain(|(known, _)| *known != key);
            all.push((key, value));
            read(&all)
        };
        for (key, value, part) in [
            ("window", Value::from(-1_i64), "config: `window`: "),
            ("window", "ten".into(), "config: `window`: invalid type: string \"ten\""),
            ("mode", "loud".into(), "config: `mode`: unknown variant `loud`"),
            ("alert.levels.1", 300_i64.into(), "config: `alert.levels.1`: "),
            ("servers.1.address", 7_i64.into(), "config: `servers.1.address`: "),
            ("colour", "red".into(), "config: `colour`: unknown field `colour`"),
        ] {
            let (code, text) = with(key, value);
            assert!(code == 78 && text.contains(part), "{part}: {code} {text}");
        }
        let (code, text) = read(&[]);
        assert!(code == 78 && text.contains("missing field `window`"), "{text}");
        // An array without elements is there.
        let mut all = entries();
        all.retain(|(key, _)| !key.starts_with("servers"));
        let (_, text) = read(&all);
        assert!(text.contains("missing field `servers`"), "{text}");
    }
}
