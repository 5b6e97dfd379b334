//! Whether a component is a daemon: what it imports and exports, held against the contract.
//!
//! The linker would find the same mismatches; this finds them first, so that people read which
//! interface is wrong and what to do, and not how a type check failed.

use alloc::{format, string::String, string::ToString, vec::Vec};
use core::fmt;
use wasmtime::component::{
    Component, ComponentNamedList, Lift, Lower,
    types::{self, ComponentItem},
};

/// The newest version of the contract that this kernel runs. Components of an earlier patch of it run
/// too, and those of the series before it.
pub const CONTRACT_VERSION: &str = "0.2.0";

const PACKAGE: &str = "duende:daemon/";
const EXPORT: &str = "lifecycle";

/// A series of the contract: below 1.0 the minor version names it, as in semantic versioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// As people write it: `0.2`.
    name: &'static str,
    /// The interfaces that a daemon of it may import; `types` first, which grants nothing.
    imports: &'static [&'static str],
}

impl Series {
    pub(super) const fn new(name: &'static str, imports: &'static [&'static str]) -> Self {
        Self { name, imports }
    }

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether a version such as `0.2.1` is of it. A version before a release is of none: what it was
    /// built for has never been settled.
    fn has_version(self, version: &str) -> bool {
        let mut parts = version.split('.');
        let (Some(major), Some(minor), Some(patch), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        patch.bytes().all(|byte| byte.is_ascii_digit())
            && self.name.split_once('.') == Some((major, minor))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Why a component is no daemon of this contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// It is built for another version of the contract.
    Version {
        /// The interface that says so, with its version.
        interface: String,
        /// The series that this kernel runs.
        runs: Vec<Series>,
    },
    /// It is of two series.
    Mixed {
        /// What it exports.
        export: String,
        /// What it imports of another series.
        import: String,
    },
    /// It does not export the lifecycle: it is a component of another world.
    NotADaemon {
        /// What it exports.
        exports: Vec<String>,
    },
    /// It imports interfaces that no daemon can be granted.
    Imports {
        /// The contract that it is built for.
        series: Series,
        /// Their names.
        interfaces: Vec<String>,
    },
    /// The names fit, the types do not.
    Mismatch {
        /// The contract that it is built for.
        series: Series,
        /// What differs.
        text: String,
    },
}

impl fmt::Display for ContractError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { interface, runs } => write!(
                formatter,
                "it is built for {interface}; this version of duende runs the contracts {}: use a \
                 duende of that contract, or build the daemon with an SDK of this one",
                runs.iter().map(|series| series.name).collect::<Vec<_>>().join(" and ")
            ),
            Self::Mixed { export, import } => write!(
                formatter,
                "it exports {export} and imports {import}: a daemon is of one series of the \
                 contract; build all of it with one SDK"
            ),
            Self::NotADaemon { exports } if exports.is_empty() => write!(
                formatter,
                "it exports nothing, a daemon exports {PACKAGE}{EXPORT}@{CONTRACT_VERSION}: build \
                 it with duende-sdk's export macro"
            ),
            Self::NotADaemon { exports } => write!(
                formatter,
                "it is a component of another world: it exports {}, a daemon exports \
                 {PACKAGE}{EXPORT}@{CONTRACT_VERSION}",
                exports.join(", ")
            ),
            Self::Imports { series, interfaces } => write!(
                formatter,
                "it imports {}, which no daemon can be granted here; the contract {series} offers {}",
                interfaces.join(", "),
                series.imports.split_first().map(|(_, rest)| rest.join(", ")).unwrap_or_default()
            ),
            Self::Mismatch { series, text } => write!(
                formatter,
                "its types do not fit the contract {series}: {text}; build it again with an SDK of \
                 this version"
            ),
        }
    }
}

impl core::error::Error for ContractError {}

/// The names of the contract's interfaces that a component imports, such as `state`.
pub(super) fn imports(component: &Component) -> Vec<String> {
    let ty = component.component_type();
    ty.imports(component.engine()).map(|(name, _)| name.to_string()).collect()
}

/// Holds a component's names against the contract, and says of which of the series that the kernel runs it
/// is.
pub(super) fn check(component: &Component, runs: &[Series]) -> Result<Series, ContractError> {
    let imports = imports(component);
    let exports: Vec<String> = component
        .component_type()
        .exports(component.engine())
        .map(|(name, _)| name.to_string())
        .collect();
    check_names(&imports, &exports, runs)
}

pub(super) fn check_names(
    imports: &[String],
    exports: &[String],
    runs: &[Series],
) -> Result<Series, ContractError> {
    let series_of = |name: &str| {
        let (_, version) = name.rsplit_once('@')?;
        runs.iter().copied().find(|series| series.has_version(version))
    };
    let strange = |interface: &String| ContractError::Version {
        interface: interface.clone(),
        runs: runs.to_vec(),
    };
    let ours = |name: &&String| name.starts_with(PACKAGE);
    let Some(export) = exports.iter().find(|name| interface_of(name) == Some(EXPORT)) else {
        // One that is for another contract altogether is told so.
        let other =
            imports.iter().chain(exports).filter(ours).find(|name| series_of(name).is_none());
        return Err(match other {
            Some(interface) => strange(interface),
            None => ContractError::NotADaemon { exports: exports.to_vec() },
        });
    };
    let Some(series) = series_of(export) else {
        return Err(strange(export));
    };
    for import in imports.iter().filter(ours) {
        match series_of(import) {
            Some(of) if of == series => {}
            Some(_) => {
                let (export, import) = (export.clone(), import.clone());
                return Err(ContractError::Mixed { export, import });
            }
            None => return Err(strange(import)),
        }
    }
    let unknown: Vec<String> = imports
        .iter()
        .filter(|name| super::wasi::interface(name).is_none())
        .filter(|name| {
            interface_of(name).is_none_or(|interface| !series.imports.contains(&interface))
        })
        .cloned()
        .collect();
    if unknown.is_empty() {
        Ok(series)
    } else {
        Err(ContractError::Imports { series, interfaces: unknown })
    }
}

/// `state` of `duende:daemon/state@0.1.0`.
fn interface_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix(PACKAGE)?;
    Some(name.split_once('@').map_or(name, |(interface, _)| interface))
}

/// The types of what a component exports, function by function. The linker holds those of imports
/// against the contract, and nobody those of exports before the first call.
pub(super) struct TypeCheck {
    component: types::Component,
    lifecycle: types::ComponentInstance,
    engine: wasmtime::Engine,
}

impl TypeCheck {
    /// Of a component that exports the lifecycle.
    pub(super) fn of(component: &Component) -> Result<Self, String> {
        let (ty, engine) = (component.component_type(), component.engine().clone());
        let lifecycle = ty.exports(&engine).find_map(|(name, item)| match item.ty {
            ComponentItem::ComponentInstance(instance) if interface_of(name) == Some(EXPORT) => {
                Some(instance)
            }
            _ => None,
        });
        let lifecycle = lifecycle.ok_or_else(|| format!("{EXPORT} is no interface"))?;
        Ok(Self { component: ty, lifecycle, engine })
    }

    /// Whether a function is there, with this type.
    pub(super) fn function<Params, Return>(&self, name: &str) -> Result<(), String>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift,
    {
        let item = self.lifecycle.get_export(&self.engine, name).map(|found| found.ty);
        let Some(ComponentItem::ComponentFunc(function)) = item else {
            return Err(format!("{EXPORT} has no function {name}"));
        };
        function
            .typecheck::<Params, Return>(&self.component.instance_type())
            .map_err(|error| format!("{EXPORT}.{name}: {error:#}"))
    }
}

/// What a component asks for, for people.
#[must_use]
pub fn describe_imports(component: &Component) -> Vec<String> {
    describe_names(&imports(component))
}

/// As [`describe_imports`], from the names of imports.
#[must_use]
pub fn describe_names(imports: &[String]) -> Vec<String> {
    imports
        .iter()
        .filter_map(|name| interface_of(name))
        .filter(|interface| *interface != "types")
        .map(ToString::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::bindings::SERIES;

    #[track_caller]
    fn check(imports: &[&str], exports: &[&str], expected: Result<&str, &str>) {
        let series = SERIES.map(|row| row.series());
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = check_names(&names(imports), &names(exports), &series)
            .map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.name(), expected),
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn components_are_told_apart_by_what_they_import_and_export() {
        let lifecycle = "duende:daemon/lifecycle@0.1.0";
        let next = "duende:daemon/lifecycle@0.2.0";
        let types = "duende:daemon/types@0.1.0";
        check(&[types, "duende:daemon/log@0.1.3"], &[lifecycle], Ok("0.1"));
        check(&["duende:daemon/slice@0.2.9"], &[next], Ok("0.2"));
        check(&[], &["duende:daemon/lifecycle@0.3.0"], Err("lifecycle@0.3.0"));
        check(&["duende:daemon/log@1.1.0"], &[lifecycle], Err("daemon/log@1.1.0"));
        // A mix, what comes before a release, and names without a patch.
        check(&["duende:daemon/log@0.2.0"], &[lifecycle], Err("one series"));
        check(&[types], &[next], Err("one series"));
        check(&[], &["duende:daemon/lifecycle@0.1.0-rc.1"], Err("0.1.0-rc.1"));
        check(&[], &["duende:daemon/lifecycle@0.1"], Err("runs the contracts 0.1 and 0.2"));
        check(&["duende:daemon/log"], &[lifecycle], Err("duende:daemon/log"));
        check(&["duende:daemon/log@0.4.0"], &[], Err("log@0.4.0"));
        check(&[], &["wasi:cli/run@0.2.0"], Err("another world: it exports wasi:cli/run"));
        check(&[], &[], Err("exports nothing"));
        // All of WASI 0.2 is there, if only to be refused at the call.
        check(&["wasi:sockets/tcp@0.2.0", "wasi:io/streams@0.2.17"], &[lifecycle], Ok("0.1"));
        for import in [
            "wasi:io/streams@0.3.0",
            "wasi:io/streams@0.2.0-rc.1",
            "wasi:io/streams",
            "wasi:cli/x@0.2",
        ] {
            check(&[import], &[lifecycle], Err(import));
        }
        check(&["duende:daemon/rocket@0.1.0"], &[lifecycle], Err("rocket"));
        // What came with 0.2 is not in 0.1.
        check(&["duende:daemon/slice@0.1.0"], &[lifecycle], Err("the contract 0.1 offers log"));
    }
}
