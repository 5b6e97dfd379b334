//! The wasmtime executor, on the surface of wasmtime that needs no `std`.
//!
//! It owns no engine: the host supplies one (with Cranelift and the pooling allocator), bare metal
//! another. Both must have [`epoch_interruption`](wasmtime::Config::epoch_interruption) on, and
//! their owner increments the epoch every tick while a slice runs.
//!
//! One store per process. Between slices the instance lies in a box; [`Executor::enter`] moves it
//! into the future of the call, on a pooled stack, and the future hands it back. So a slice that is
//! dropped half-way drops the store with it, and nothing of it can be seen afterwards.

mod bindings;
mod contract;

use alloc::{boxed::Box, format, string::String, string::ToString};
use core::{
    future::Future,
    pin::Pin,
    task::{self, Poll, Waker},
};
use wasmtime::{
    Engine, Error, ResourceLimiter, Store, Trap, UpdateDeadline,
    component::{Component, HasSelf, Linker},
};

pub use self::contract::{CONTRACT_VERSION, ContractError, describe_imports};
use crate::{
    context::Context,
    executor::{Call, Executor, Fault, ImageState, Progress, Return},
    meter::Tick,
};

/// A component that is linked against the kernel's syscalls: the image of a process.
#[derive(Clone)]
pub struct Image {
    pre: bindings::DaemonPre<Data>,
}

/// What a store holds.
pub struct Data {
    context: Box<Context>,
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
}

impl ImageLinker {
    /// A linker for an engine.
    ///
    /// # Errors
    /// The engine's configuration does not fit: it has no async support.
    pub fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        bindings::Daemon::add_to_linker::<Data, HasSelf<Data>>(&mut linker, |data| data)?;
        Ok(Self { linker })
    }

    /// Checks a component against the contract and links it.
    ///
    /// # Errors
    /// It imports or exports what the contract does not have: the error names it.
    pub fn link(&self, component: &Component) -> Result<Image, ContractError> {
        contract::check(component)?;
        let link = |component| {
            let pre = self.linker.instantiate_pre(component)?;
            bindings::DaemonPre::new(pre)
        };
        let pre = link(component).map_err(|error| ContractError::Mismatch(format!("{error:#}")))?;
        Ok(Image { pre })
    }
}

/// The executor.
pub struct WasmtimeExecutor<S> {
    engine: Engine,
    images: S,
}

impl<S: ImageSource> WasmtimeExecutor<S> {
    /// An executor for the components of one engine.
    pub fn new(engine: Engine, images: S) -> Self {
        Self { engine, images }
    }

    /// Where the images come from.
    pub fn images(&mut self) -> &mut S {
        &mut self.images
    }
}

/// A store and, after `init`, its instance.
struct Idle {
    store: Store<Data>,
    image: Image,
    daemon: Option<bindings::Daemon>,
}

type Slice = Pin<Box<dyn Future<Output = (Box<Idle>, wasmtime::Result<Return>)> + Send>>;

/// One process.
pub struct Instance(State);

enum State {
    Boundary(Box<Idle>),
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
        let mut store = Store::new(&self.engine, Data { context });
        store.limiter(|data| data);
        store.epoch_deadline_callback(|mut store| {
            let context = &mut store.data_mut().context;
            match context.tick() {
                Tick::Continue => Ok(UpdateDeadline::Continue(1)),
                Tick::Yield => Ok(UpdateDeadline::YieldCustom(1, Box::pin(yield_once()))),
                Tick::OverBudget => Err(Error::new(OverBudget)),
            }
        });
        Instance(State::Boundary(Box::new(Idle { store, image, daemon: None })))
    }

    fn context<'a>(&self, instance: &'a mut Instance) -> Option<&'a mut Context> {
        match &mut instance.0 {
            State::Boundary(idle) => Some(&mut idle.store.data_mut().context),
            State::Slice(_) | State::Gone => None,
        }
    }

    fn enter(&mut self, instance: &mut Instance, call: Call) {
        match core::mem::replace(&mut instance.0, State::Gone) {
            State::Boundary(mut idle) => {
                idle.store.set_epoch_deadline(1);
                instance.0 = State::Slice(Box::pin(async move {
                    let returned = invoke(&mut idle, call).await;
                    (idle, returned)
                }));
            }
            other @ (State::Slice(_) | State::Gone) => instance.0 = other,
        }
    }

    fn resume(&mut self, instance: &mut Instance) -> Progress {
        let State::Slice(slice) = &mut instance.0 else {
            return Progress::Failed(Fault::Refused("no slice is open".into()));
        };
        match slice.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Pending => Progress::Preempted,
            Poll::Ready((idle, Ok(returned))) => {
                instance.0 = State::Boundary(idle);
                Progress::Returned(returned)
            }
            Poll::Ready((idle, Err(error))) => {
                instance.0 = State::Gone;
                let refusal = idle.store.data().context.memory_refusal();
                Progress::Failed(fault(&error, refusal.as_deref()))
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

async fn invoke(idle: &mut Idle, call: Call) -> wasmtime::Result<Return> {
    let Idle { store, image, daemon } = idle;
    let Some(daemon) = daemon else {
        let made = image.pre.instantiate_async(&mut *store).await?;
        let made = daemon.insert(made);
        let returned = made.duende_daemon_lifecycle().call_init(store).await?;
        return Ok(Return::Init(returned));
    };
    let lifecycle = daemon.duende_daemon_lifecycle();
    Ok(match call {
        // The kernel calls `init` once; an instance that has it behind itself has nothing to do.
        Call::Init => Return::Init(Ok(())),
        Call::Run(wake) => {
            let returned = lifecycle.call_run(store, wake.into()).await?;
            Return::Run(returned.map(Into::into))
        }
        Call::Shutdown { deadline_ns } => {
            Return::Shutdown(lifecycle.call_shutdown(store, deadline_ns).await?)
        }
        Call::HealthCheck => Return::HealthCheck(lifecycle.call_health_check(store).await?.into()),
        Call::Metrics => {
            let samples = lifecycle.call_metrics(store).await?;
            Return::Metrics(samples.into_iter().map(Into::into).collect())
        }
    })
}

/// Raised at a tick: the slice is over its budget.
#[derive(Debug)]
struct OverBudget;

impl core::fmt::Display for OverBudget {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("the slice is over its budget")
    }
}

impl core::error::Error for OverBudget {}

fn fault(error: &Error, memory_refusal: Option<&str>) -> Fault {
    if error.is::<OverBudget>() {
        return Fault::SliceBudget;
    }
    let text: String =
        error.downcast_ref::<Trap>().map_or_else(|| format!("{error:#}"), ToString::to_string);
    if let Some(refusal) = memory_refusal {
        return Fault::Trap(format!("{text}; {refusal}"));
    }
    // What the pooling allocator says when the kernel, not the daemon, has run out.
    if text.contains("maximum concurrent") {
        return Fault::Refused(format!("this WOS is full: {text}"));
    }
    Fault::Trap(text)
}
