//! Whether a component is a daemon: what it imports and exports, held against the contract.
//!
//! The linker would find the same mismatches; this finds them first, so that people read which
//! interface is wrong and what to do, and not how a type check failed.

use alloc::{string::String, string::ToString, vec::Vec};
use core::fmt;
use wasmtime::component::Component;

/// The version of the contract that this kernel runs. Components of the same `0.x` run on it.
pub const CONTRACT_VERSION: &str = "0.1.0";

const PACKAGE: &str = "duende:daemon/";
const IMPORTS: [&str; 8] =
    ["types", "log", "clock", "entropy", "config", "state", "channel", "metric"];
const EXPORT: &str = "lifecycle";

/// Why a component is no daemon of this contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// It is built for another version of the contract.
    Version {
        /// The interface that says so, with its version.
        interface: String,
    },
    /// It does not export the lifecycle: it is a component of another world.
    NotADaemon {
        /// What it exports.
        exports: Vec<String>,
    },
    /// It imports interfaces that no daemon can be granted.
    Imports {
        /// Their names.
        interfaces: Vec<String>,
    },
    /// The names fit, the types do not.
    Mismatch(String),
}

impl fmt::Display for ContractError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { interface } => write!(
                formatter,
                "it is built for {interface}, this version of duende runs contract \
                 {CONTRACT_VERSION}: use a duende of that contract, or build the daemon with an \
                 SDK of this one"
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
            Self::Imports { interfaces } => write!(
                formatter,
                "it imports {}, which no daemon can be granted here; the contract offers {}",
                interfaces.join(", "),
                IMPORTS[1..].join(", ")
            ),
            Self::Mismatch(text) => write!(
                formatter,
                "its types do not fit the contract {CONTRACT_VERSION}: {text}; build it again with \
                 an SDK of this version"
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

/// Holds a component against the contract.
pub(super) fn check(component: &Component) -> Result<(), ContractError> {
    let imports = imports(component);
    let exports: Vec<String> = component
        .component_type()
        .exports(component.engine())
        .map(|(name, _)| name.to_string())
        .collect();
    check_names(&imports, &exports)
}

fn check_names(imports: &[String], exports: &[String]) -> Result<(), ContractError> {
    if let Some(interface) =
        imports.iter().chain(exports).find(|name| of_package(name) && !of_version(name))
    {
        return Err(ContractError::Version { interface: interface.clone() });
    }
    if !exports.iter().any(|name| interface_of(name) == Some(EXPORT)) {
        return Err(ContractError::NotADaemon { exports: exports.to_vec() });
    }
    let unknown: Vec<String> = imports
        .iter()
        .filter(|name| interface_of(name).is_none_or(|interface| !IMPORTS.contains(&interface)))
        .cloned()
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(ContractError::Imports { interfaces: unknown }) }
}

fn of_package(name: &str) -> bool {
    name.starts_with(PACKAGE)
}

/// Below 1.0.0 the minor version names the compatible set, as in semantic versioning.
fn of_version(name: &str) -> bool {
    let version = name.rsplit_once('@').map_or("", |(_, version)| version);
    let series = |version: &str| {
        let mut parts = version.split('.').map(ToString::to_string);
        (parts.next(), parts.next())
    };
    series(version) == series(CONTRACT_VERSION)
}

/// `state` of `duende:daemon/state@0.1.0`.
fn interface_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix(PACKAGE)?;
    Some(name.split_once('@').map_or(name, |(interface, _)| interface))
}

/// What a component asks for, for people.
#[must_use]
pub fn describe_imports(component: &Component) -> Vec<String> {
    imports(component)
        .iter()
        .filter_map(|name| interface_of(name))
        .filter(|interface| *interface != "types")
        .map(ToString::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(imports: &[&str], exports: &[&str], expected: Result<(), &str>) {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found =
            check_names(&names(imports), &names(exports)).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn components_are_told_apart_by_what_they_import_and_export() {
        let lifecycle = "duende:daemon/lifecycle@0.1.0";
        check(&["duende:daemon/types@0.1.0", "duende:daemon/log@0.1.3"], &[lifecycle], Ok(()));
        check(&[], &["duende:daemon/lifecycle@0.2.0"], Err("lifecycle@0.2.0"));
        check(&["duende:daemon/log@1.1.0"], &[lifecycle], Err("daemon/log@1.1.0"));
        check(&[], &["wasi:cli/run@0.2.0"], Err("another world: it exports wasi:cli/run"));
        check(&[], &[], Err("exports nothing"));
        check(&["wasi:sockets/tcp@0.2.0"], &[lifecycle], Err("wasi:sockets/tcp@0.2.0"));
        check(&["duende:daemon/rocket@0.1.0"], &[lifecycle], Err("rocket"));
    }
}
