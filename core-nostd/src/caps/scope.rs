//! Who holds a capability, and in which part of the process tree it is valid.
//!
//! The table does not know the tree. Who calls says where it stands, by its [`Lineage`], which the
//! kernel takes from its process table. A scope remembers how deep its root lies, so one comparison
//! tells whether a process is in it, however deep the tree.

use serde::{Deserialize, Serialize};

/// A process, by a number that the kernel never gives twice (as its slot and generation in one).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Holder(pub u64);

/// A lineage needs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a lineage has at least the process itself")]
pub struct EmptyLineage;

/// Where a process stands: its ancestors from the first process on, and itself at the end.
///
/// It is that of its birth: a process that loses its parent stays in the scopes that it was born in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lineage<'a> {
    ancestors: &'a [Holder],
    holder: Holder,
}

impl<'a> Lineage<'a> {
    /// The lineage of the last process of `path`, which begins with the first process.
    ///
    /// # Errors
    /// [`EmptyLineage`], when `path` names nobody.
    pub const fn new(path: &'a [Holder]) -> Result<Self, EmptyLineage> {
        match path {
            [ancestors @ .., holder] => Ok(Self { ancestors, holder: *holder }),
            [] => Err(EmptyLineage),
        }
    }

    /// The process itself.
    #[must_use]
    pub const fn holder(self) -> Holder {
        self.holder
    }

    /// The process that stands at `depth`; the first one stands at 0.
    #[inline]
    fn at(self, depth: usize) -> Option<Holder> {
        if depth == self.ancestors.len() {
            return Some(self.holder);
        }
        self.ancestors.get(depth).copied()
    }
}

/// The part of the process tree in which a capability is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Everywhere,
    /// In one process and its descendants.
    Subtree {
        /// The topmost process.
        root: Holder,
        /// How many ancestors it has.
        depth: usize,
    },
}

impl Scope {
    /// A process and its descendants.
    #[must_use]
    pub const fn below(root: Lineage<'_>) -> Self {
        Self::Subtree { root: root.holder, depth: root.ancestors.len() }
    }

    /// Whether a process is in the scope.
    #[inline]
    #[must_use]
    pub fn contains(self, process: Lineage<'_>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Subtree { root, depth } => process.at(depth) == Some(root),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// Every path through a tree in which process `n` has the children `2n` and `2n + 1`.
    fn path(mut process: u64) -> Vec<Holder> {
        let mut path = Vec::new();
        while process > 0 {
            path.insert(0, Holder(process));
            process /= 2;
        }
        path
    }

    #[test]
    fn a_scope_is_its_root_and_what_descends_from_it() {
        for root in 1..32 {
            let root_path = path(root);
            let scope = Scope::below(Lineage::new(&root_path).unwrap());
            for process in 1..64 {
                let process_path = path(process);
                let process = Lineage::new(&process_path).unwrap();
                assert_eq!(scope.contains(process), process_path.contains(&Holder(root)));
                assert!(Scope::Everywhere.contains(process));
            }
        }
    }

    #[test]
    fn a_lineage_names_somebody() {
        assert_eq!(Lineage::new(&[]), Err(EmptyLineage));
        assert_eq!(Lineage::new(&[Holder(1), Holder(7)]).map(Lineage::holder), Ok(Holder(7)));
    }
}
