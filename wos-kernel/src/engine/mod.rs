//! The wasmtime executor, on the surface of wasmtime that needs no `std`.
//!
//! It owns no engine: an image brings its own. The host has one with a pool of instances and one
//! without, bare metal another. All must have
//! [`epoch_interruption`](wasmtime::Config::epoch_interruption) on, and their owner increments the epoch
//! of each every tick while a slice runs.
//!
//! One store per process. Between slices the instance lies in a box; [`Executor::enter`] moves it
//! into the future of the call, on the stack that wasmtime keeps for the store, and the future hands it
//! back. So a slice that is dropped half-way drops the store with it, and nothing of it can be seen afterwards.

mod bindings;
mod contract;
mod fault;
mod series;
mod wasi;

use alloc::{boxed::Box, collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};
use core::{
    future::Future,
    task::{self, Poll, Waker},
};
use wasmtime::{
    Engine, Error, ResourceLimiter, Store, UpdateDeadline,
    component::{Component, Linker},
};

pub use self::contract::{
    CONTRACT_VERSION, ContractError, Series, describe_imports, describe_names,
};
use self::{
    bindings::SERIES,
    series::{Idle, Row, Slice},
};
use crate::{
    context::Context,
    executor::{Call, Executor, Fault, ImageState, Progress, WakeReasons},
    meter::Tick,
};

/// A component that is linked against the kernel's syscalls: the image of a process.
#[derive(Clone)]
pub struct Image {
    linked: Arc<dyn series::Image>,
    /// The most linear memory that a daemon may be granted here, in bytes, and what serves those who are
    /// granted more.
    larger: Option<(u64, Arc<dyn series::Image>)>,
}

impl Image {
    /// The series of the contract that it is built for.
    #[must_use]
    pub fn series(&self) -> Series {
        self.linked.series()
    }

    /// This one for daemons that may hold so much linear memory, in bytes; for those that may hold more,
    /// the same component linked for another engine.
    #[must_use]
    pub fn with_larger(self, memory_bytes_max: u64, larger: Self) -> Self {
        Self { linked: self.linked, larger: Some((memory_bytes_max, larger.linked)) }
    }

    /// What serves a daemon that may hold so much linear memory, in bytes.
    fn serving(&self, memory_bytes_max: u64) -> &dyn series::Image {
        match &self.larger {
            Some((most, larger)) if memory_bytes_max > *most => &**larger,
            Some(_) | None => &*self.linked,
        }
    }
}

/// What a store holds.
pub struct Data {
    context: Box<Context>,
    numbers: Numbers,
    wasi: wasi::Wasi,
    /// What the slice that was last said last on its standard error output.
    last_words: Option<String>,
}

impl Data {
    fn new(context: Box<Context>) -> Self {
        Self { context, numbers: Numbers::default(), wasi: wasi::Wasi::default(), last_words: None }
    }

    /// A call is over, in whatever way.
    fn end_slice(&mut self) {
        self.last_words = self.wasi.end_slice(&mut self.context);
    }
}

/// The numbers of messages in contract 0.1, which begin with 1 in each incarnation.
#[derive(Default)]
struct Numbers {
    /// By channel: the first number that the incarnation received.
    first: BTreeMap<String, u64>,
}

impl Numbers {
    fn of(&mut self, channel: &str, sequence: u64) -> u64 {
        let first = match self.first.get(channel) {
            Some(first) => *first,
            None => *self.first.entry(channel.into()).or_insert(sequence),
        };
        sequence.saturating_sub(first).saturating_add(1)
    }
}

impl ResourceLimiter for Data {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum)
            && self.context.grow_memory(current, desired))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

/// Where an executor gets its images from.
pub trait ImageSource {
    /// Finds the image of that name, and begins to make it ready if need be.
    fn image(&mut self, name: &str) -> ImageState<Image>;
}

/// Links components against the syscalls.
pub struct ImageLinker {
    linker: Linker<Data>,
    rows: Vec<Row>,
}

impl ImageLinker {
    /// A linker for an engine.
    ///
    /// # Errors
    /// The engine's configuration does not fit: it has no async support.
    pub fn new(engine: &Engine) -> wasmtime::Result<Self> {
        Self::of(engine, &SERIES)
    }

    /// One for these series of the contract.
    fn of(engine: &Engine, rows: &[Row]) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        for row in rows {
            row.add_to_linker(&mut linker)?;
        }
        Ok(Self { linker, rows: rows.to_vec() })
    }

    /// Holds the names of what a component imports and exports against the contract, for one that is not
    /// compiled yet.
    ///
    /// # Errors
    /// As [`link`](Self::link), but for types.
    pub fn check_names(
        &self,
        imports: &[String],
        exports: &[String],
    ) -> Result<Series, ContractError> {
        let runs: Vec<Series> = self.rows.iter().map(Row::series).collect();
        contract::check_names(imports, exports, &runs)
    }

    /// Checks a component against the contract and links it.
    ///
    /// # Errors
    /// It imports or exports what the contract does not have: the error names it.
    pub fn link(&self, component: &Component) -> Result<Image, ContractError> {
        let runs: Vec<Series> = self.rows.iter().map(Row::series).collect();
        let series = contract::check(component, &runs)?;
        let misfit = |text| ContractError::Mismatch { series, text };
        let row = self.rows.iter().find(|row| row.series() == series);
        let row = row.ok_or_else(|| misfit("no such series".into()))?;
        let linker =
            wasi::serve(&self.linker, component).map_err(|error| misfit(format!("{error:#}")))?;
        let linked = row.link(&linker, component).map_err(misfit)?;
        Ok(Image { linked, larger: None })
    }
}

/// The executor.
pub struct WasmtimeExecutor<S> {
    images: S,
}

impl<S: ImageSource> WasmtimeExecutor<S> {
    /// An executor for these images, each in the engine that it was linked for.
    pub const fn new(images: S) -> Self {
        Self { images }
    }

    /// Where the images come from.
    pub fn images(&mut self) -> &mut S {
        &mut self.images
    }
}

/// One process.
pub struct Instance {
    reasons: WakeReasons,
    state: State,
}

enum State {
    Boundary(Box<dyn Idle>),
    Slice(Slice),
    /// The last slice failed.
    Gone,
}

impl<S: ImageSource> Executor for WasmtimeExecutor<S> {
    type Image = Image;
    type Instance = Instance;

    fn image(&mut self, name: &str) -> ImageState<Image> {
        self.images.image(name)
    }

    fn create(&mut self, image: Image, context: Box<Context>) -> Instance {
        let image = image.serving(context.limit("memory").unwrap_or(u64::MAX));
        let mut store = Store::new(image.engine(), Data::new(context));
        store.limiter(|data| data);
        store.epoch_deadline_callback(|mut store| {
            let context = &mut store.data_mut().context;
            match context.tick() {
                Tick::Continue => Ok(UpdateDeadline::Continue(1)),
                Tick::Yield => Ok(UpdateDeadline::YieldCustom(1, Box::pin(yield_once()))),
                Tick::OverBudget => Err(Error::new(fault::OverBudget)),
            }
        });
        let reasons = image.reasons();
        Instance { reasons, state: State::Boundary(image.create(store)) }
    }

    fn context<'a>(&self, instance: &'a mut Instance) -> Option<&'a mut Context> {
        match &mut instance.state {
            State::Boundary(idle) => Some(idle.context()),
            State::Slice(_) | State::Gone => None,
        }
    }

    fn reasons(&self, instance: &Instance) -> WakeReasons {
        instance.reasons
    }

    fn enter(&mut self, instance: &mut Instance, call: Call) {
        match core::mem::replace(&mut instance.state, State::Gone) {
            State::Boundary(idle) => instance.state = State::Slice(idle.enter(call)),
            other @ (State::Slice(_) | State::Gone) => instance.state = other,
        }
    }

    fn resume(&mut self, instance: &mut Instance) -> Progress {
        let State::Slice(slice) = &mut instance.state else {
            return Progress::Failed(Fault::Refused("no slice is open".into()));
        };
        match slice.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Pending => Progress::Preempted,
            Poll::Ready((idle, Ok(returned))) => {
                instance.state = State::Boundary(idle);
                Progress::Returned(returned)
            }
            Poll::Ready((idle, Err(error))) => {
                instance.state = State::Gone;
                Progress::Failed(fault::of(&error, idle.data()))
            }
        }
    }
}

/// Pending once: the executor has the processor back, and polls again when the kernel says so.
fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    core::future::poll_fn(move |_| {
        if core::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    })
}
