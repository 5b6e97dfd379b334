//! Links a component for the engines of a worker.
//!
//! A component that fits a slot of the pool is linked twice: for the pool, and for daemons that are granted
//! more memory than a slot has. One that does not fit is linked for instances on demand alone.

use wasmtime::{Engine, component::Component};
use wos_kernel::engine::{ContractError, Image, ImageLinker};

use super::engine::{Engines, SLOT_MEMORY_BYTES};

/// Why a component can't be linked.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The engine does not take it.
    Component(wasmtime::Error),
    /// It is none of this contract.
    Contract(ContractError),
}

/// The linkers of a worker's engines.
pub struct Linkers {
    pooled: Option<(Engine, ImageLinker)>,
    on_demand: (Engine, ImageLinker),
}

impl Linkers {
    /// Linkers for these engines.
    ///
    /// # Errors
    /// The engines' configuration does not fit the kernel.
    pub fn new(engines: &Engines) -> wasmtime::Result<Self> {
        let linker =
            |engine: &Engine| ImageLinker::new(engine).map(|linker| (engine.clone(), linker));
        Ok(Self {
            pooled: engines.pooled().map(linker).transpose()?,
            on_demand: linker(engines.on_demand())?,
        })
    }

    /// Links what `component` makes for an engine.
    ///
    /// # Errors
    /// No engine takes it, or it is no daemon.
    pub(super) fn link(
        &self,
        component: impl Fn(&Engine) -> wasmtime::Result<Component>,
    ) -> Result<Image, LinkError> {
        let (engine, linker) = &self.on_demand;
        let made = component(engine).map_err(LinkError::Component)?;
        let larger = linker.link(&made).map_err(LinkError::Contract)?;
        let Some((engine, linker)) = &self.pooled else { return Ok(larger) };
        // What the pool does not take has been taken on demand: it does not fit a slot.
        let Ok(made) = component(engine) else { return Ok(larger) };
        let image = linker.link(&made).map_err(LinkError::Contract)?;
        Ok(image.with_larger(SLOT_MEMORY_BYTES as u64, larger))
    }
}
