//! What the executor needs of a series of the contract, and nothing that is of one series alone.
//!
//! A series is a [`Contract`]: its names and types, generated, and how its exports are called. A [`Row`] is
//! one without its types, so the executor holds any number of them, and one more touches neither it nor the
//! others (`bindings::pretend` is one that is not there yet).

use alloc::{boxed::Box, format, string::String, sync::Arc};
use core::{future::Future, pin::Pin};

use wasmtime::{
    Engine, Store,
    component::{Component, InstancePre, Linker},
};

use super::{Data, contract::Series};
use crate::{
    context::Context,
    executor::{Call, Return, WakeReasons},
};

/// One series.
pub(super) trait Contract: Sized + 'static {
    /// Its name, and what it imports.
    const SERIES: Series;
    /// All reasons that it has words for.
    const REASONS: WakeReasons;
    /// A component that is linked.
    type Linked: Send + Sync;
    /// An instance of it.
    type Daemon: Send + Sync;

    /// Adds the imports to a linker.
    fn add_to_linker(linker: &mut Linker<Data>) -> wasmtime::Result<()>;

    /// Holds the types of a component's exports against the contract; says which function has which
    /// other type.
    fn check_exports(component: &Component) -> Result<(), String>;

    /// Finds the exports.
    fn linked(instance: InstancePre<Data>) -> wasmtime::Result<Self::Linked>;

    /// Makes an instance.
    fn instantiate(
        linked: &Self::Linked,
        store: &mut Store<Data>,
    ) -> impl Future<Output = wasmtime::Result<Self::Daemon>> + Send;

    /// Calls an export, as the kernel asks.
    fn invoke(
        store: &mut Store<Data>,
        daemon: &Self::Daemon,
        call: Call,
    ) -> impl Future<Output = wasmtime::Result<Return>> + Send;
}

/// What linking comes to: the image, or what does not fit.
type Linked = Result<Arc<dyn Image>, String>;

/// A series, without its types.
#[derive(Clone, Copy)]
pub(super) struct Row {
    series: Series,
    add_to_linker: fn(&mut Linker<Data>) -> wasmtime::Result<()>,
    link: fn(&Linker<Data>, &Component) -> Linked,
}

impl Row {
    pub(super) const fn of<C: Contract>() -> Self {
        Self { series: C::SERIES, add_to_linker: C::add_to_linker, link: link::<C> }
    }

    pub(super) const fn series(&self) -> Series {
        self.series
    }

    pub(super) fn add_to_linker(&self, linker: &mut Linker<Data>) -> wasmtime::Result<()> {
        (self.add_to_linker)(linker)
    }

    /// Links a component of this series; says what does not fit.
    pub(super) fn link(&self, linker: &Linker<Data>, component: &Component) -> Linked {
        (self.link)(linker, component)
    }
}

fn link<C: Contract>(linker: &Linker<Data>, component: &Component) -> Linked {
    C::check_exports(component)?;
    let linked = linker.instantiate_pre(component).and_then(C::linked);
    let linked = linked.map_err(|error| format!("{error:#}"))?;
    Ok(Arc::new(ImageOf::<C> { engine: linker.engine().clone(), linked: Arc::new(linked) }))
}

/// A linked component of any series.
pub(super) trait Image: Send + Sync {
    fn series(&self) -> Series;

    /// The engine that it was linked for.
    fn engine(&self) -> &Engine;

    /// All reasons that it has words for.
    fn reasons(&self) -> WakeReasons;

    /// A process of it, not instantiated yet, in a store of its engine.
    fn create(&self, store: Store<Data>) -> Box<dyn Idle>;
}

struct ImageOf<C: Contract> {
    engine: Engine,
    linked: Arc<C::Linked>,
}

impl<C: Contract> Image for ImageOf<C> {
    fn series(&self) -> Series {
        C::SERIES
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn reasons(&self) -> WakeReasons {
        C::REASONS
    }

    fn create(&self, store: Store<Data>) -> Box<dyn Idle> {
        Box::new(IdleOf::<C> { store, linked: self.linked.clone(), daemon: None })
    }
}

/// A call that is under way; it hands back what it was made of.
pub(super) type Slice =
    Pin<Box<dyn Future<Output = (Box<dyn Idle>, wasmtime::Result<Return>)> + Send>>;

/// A process between two slices, of any series.
pub(super) trait Idle: Send {
    fn context(&mut self) -> &mut Context;

    fn data(&self) -> &Data;

    /// Begins a call.
    fn enter(self: Box<Self>, call: Call) -> Slice;
}

/// A store and, after `init`, its instance.
struct IdleOf<C: Contract> {
    store: Store<Data>,
    linked: Arc<C::Linked>,
    daemon: Option<C::Daemon>,
}

impl<C: Contract> Idle for IdleOf<C> {
    fn context(&mut self) -> &mut Context {
        &mut self.store.data_mut().context
    }

    fn data(&self) -> &Data {
        self.store.data()
    }

    fn enter(mut self: Box<Self>, call: Call) -> Slice {
        self.store.set_epoch_deadline(1);
        Box::pin(async move {
            let returned = self.invoke(call).await;
            self.store.data_mut().end_slice();
            (self as Box<dyn Idle>, returned)
        })
    }
}

impl<C: Contract> IdleOf<C> {
    async fn invoke(&mut self, call: Call) -> wasmtime::Result<Return> {
        let Self { store, linked, daemon } = self;
        let made = match daemon {
            // The kernel calls `init` once; an instance that has it behind itself has nothing to do.
            Some(_) if call == Call::Init => return Ok(Return::Init(Ok(()))),
            Some(made) => made,
            None => daemon.insert(C::instantiate(linked, store).await?),
        };
        C::invoke(store, made, call).await
    }
}
