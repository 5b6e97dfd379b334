//! Landlock: which files, and no network.

use std::{io, path::PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::Layer;

/// The version whose rights are asked for; what an older kernel lacks of them is left out.
const VERSION: ABI = ABI::V6;

/// Leaves these files and directories, to be read and mapped.
pub(super) fn confine(reads: &[PathBuf]) -> io::Result<Layer> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let restrict = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?
            .add_rules(path_beneath_rules(reads, read))?
            .restrict_self()
    };
    let status = restrict().map_err(io::Error::other)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Layer::Full,
        RulesetStatus::PartiallyEnforced => Layer::Partly,
        RulesetStatus::NotEnforced => Layer::Missing(
            "this kernel has no Landlock, or it is switched off (Linux 5.13, lsm=landlock)".into(),
        ),
    })
}
