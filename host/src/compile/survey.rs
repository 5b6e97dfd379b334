//! What parsing alone says of a component, and our own limits of it.
//!
//! The parser goes through nested components without recursion and looks at no code, so this takes
//! milliseconds, whatever the component is (`tests::limits_are_held_at_the_limit`).

use serde::{Deserialize, Serialize};
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload};

use super::Refusal;

/// Most components within components, at any depth. Python's linker makes 1, of its 38 modules.
const COMPONENTS_MAX: u64 = 1_000;
/// Deepest nesting of components: the validator and the compiler go through it by recursion.
const DEPTH_MAX: usize = 32;
/// Most core modules.
const MODULES_MAX: u64 = 1_000;
/// Most instances, of core modules and of components. What is made of them takes memory for each daemon.
const INSTANCES_MAX: u64 = 10_000;
/// Most types, imports, exports and aliases of all components together.
const ITEMS_MAX: u64 = 100_000;
/// Most functions of all core modules together. Python's standard library with its interpreter has 24,000.
const FUNCTIONS_MAX: u64 = 500_000;
/// Size of a page of linear memory, in bytes.
const PAGE_BYTES: u64 = 65_536;

/// What a component is, as far as parsing says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The series of the contract that it is built for, as `0.2`; empty until its names were held against
    /// that.
    pub contract: String,
    /// The interfaces that it imports, with their packages and versions.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// Core modules.
    pub modules: u64,
    /// Functions of all core modules together.
    pub functions: u64,
    /// What its linear memories have at first, all together, in bytes.
    pub memory_bytes: u64,
}

/// Parses a component.
///
/// # Errors
/// It is malformed, or over a limit of ours.
pub(super) fn survey(component: &[u8]) -> Result<Survey, Refusal> {
    let mut found = Survey::default();
    let mut counts = Counts::default();
    // Whether each of the things that are open is a component.
    let mut open: Vec<bool> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let is_outermost = open.len() == 1;
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { encoding, .. } => {
                let is_component = encoding == Encoding::Component;
                if !is_component {
                    counts.modules.add(1)?;
                } else if !open.is_empty() {
                    counts.components.add(1)?;
                }
                open.push(is_component);
                if open.iter().filter(|is_component| **is_component).count() > DEPTH_MAX {
                    return Err(too_much(
                        "components within each other",
                        DEPTH_MAX as u64 + 1,
                        DEPTH_MAX as u64,
                    ));
                }
            }
            Payload::End(_) => {
                open.pop();
            }
            Payload::FunctionSection(functions) => counts.functions.add(functions.count())?,
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.map_err(|error| malformed(&error))?;
                    let page_bytes =
                        memory.page_size_log2.map_or(PAGE_BYTES, |log| 1 << log.min(16));
                    found.memory_bytes = found
                        .memory_bytes
                        .saturating_add(memory.initial.saturating_mul(page_bytes));
                }
            }
            Payload::InstanceSection(instances) => counts.instances.add(instances.count())?,
            Payload::ComponentInstanceSection(instances) => {
                counts.instances.add(instances.count())?;
            }
            Payload::CoreTypeSection(types) => counts.items.add(types.count())?,
            Payload::ComponentTypeSection(types) => counts.items.add(types.count())?,
            Payload::ComponentAliasSection(aliases) => counts.items.add(aliases.count())?,
            Payload::ComponentCanonicalSection(functions) => counts.items.add(functions.count())?,
            Payload::ComponentImportSection(imports) => {
                counts.items.add(imports.count())?;
                for import in imports.into_iter().filter(|_| is_outermost) {
                    found
                        .imports
                        .push(import.map_err(|error| malformed(&error))?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) => {
                counts.items.add(exports.count())?;
                for export in exports.into_iter().filter(|_| is_outermost) {
                    found
                        .exports
                        .push(export.map_err(|error| malformed(&error))?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    found.modules = counts.modules.count;
    found.functions = counts.functions.count;
    Ok(found)
}

/// What is counted, against its limit.
struct Count {
    what: &'static str,
    count: u64,
    max: u64,
}

impl Count {
    const fn of(what: &'static str, max: u64) -> Self {
        Self { what, count: 0, max }
    }

    fn add(&mut self, more: u32) -> Result<(), Refusal> {
        self.count += u64::from(more);
        if self.count > self.max { Err(too_much(self.what, self.count, self.max)) } else { Ok(()) }
    }
}

struct Counts {
    components: Count,
    modules: Count,
    instances: Count,
    items: Count,
    functions: Count,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            components: Count::of("components within components", COMPONENTS_MAX),
            modules: Count::of("core modules", MODULES_MAX),
            instances: Count::of("instances", INSTANCES_MAX),
            items: Count::of("types, imports, exports and aliases", ITEMS_MAX),
            functions: Count::of("functions", FUNCTIONS_MAX),
        }
    }
}

fn too_much(what: &str, count: u64, max: u64) -> Refusal {
    Refusal::TooMuch(format!(
        "it has {count} {what} or more, and an image has at most {max}: make it of fewer parts"
    ))
}

fn malformed(error: &BinaryReaderError) -> Refusal {
    Refusal::Invalid(format!("{} (at byte {})", error.message(), error.offset()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section: its number and its content, of fewer than 128 bytes.
    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id, u8::try_from(content.len()).unwrap()], content].concat()
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn with(sections: &[u8]) -> Vec<u8> {
        [COMPONENT, sections].concat()
    }

    fn refused(component: &[u8]) -> String {
        survey(component).unwrap_err().to_string()
    }

    #[test]
    fn limits_are_held_at_the_limit() {
        let of = |part: &[u8], count: u64| with(&part.repeat(usize::try_from(count).unwrap()));
        let module = section(1, MODULE);
        // A core module with one function: its type and its section.
        let code = b"\x0a\x04\x01\x02\0\x0b";
        let function = section(1, &[MODULE, b"\x01\x04\x01\x60\0\0\x03\x02\x01\0", code].concat());
        // An instance of nothing but exports: none.
        let instance = section(5, b"\x01\x01\0");
        let alias = section(6, b"\x01\x03\x02\0\0");
        for (part, max, words) in [
            (section(4, COMPONENT), COMPONENTS_MAX, "components within components"),
            (module, MODULES_MAX, "core modules"),
            (instance, INSTANCES_MAX, "instances"),
            (alias, ITEMS_MAX, "types, imports, exports and aliases"),
        ] {
            assert!(survey(&of(&part, max)).is_ok(), "{words}: {:?}", survey(&of(&part, max)));
            let text = refused(&of(&part, max + 1));
            assert_eq!(
                text,
                format!(
                    "it has {} {words} or more, and an image has at most {max}: make it of fewer parts",
                    max + 1
                )
            );
        }
        let found = survey(&of(&function, 7)).unwrap();
        assert_eq!((found.modules, found.functions), (7, 7));
    }

    #[test]
    fn memories_are_added_up() {
        // Of 2 pages each.
        let small = section(1, &[MODULE, b"\x05\x03\x01\0\x02"].concat());
        assert_eq!(survey(&with(&small.repeat(3))).unwrap().memory_bytes, 6 * 65_536);
    }

    #[test]
    fn what_is_malformed_is_told_with_its_place() {
        for (component, words) in
            [(with(b"\x04\x20\0"), "at byte"), (COMPONENT[..6].to_vec(), "at byte")]
        {
            let text = refused(&component);
            assert!(text.starts_with("not a valid component: ") && text.contains(words), "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever the bytes are, there is an answer.
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = survey(&with(&bytes));
            let _ = survey(&bytes);
        }
    }
}
