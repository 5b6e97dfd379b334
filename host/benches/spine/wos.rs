//! A component on WOS, against the same component on wasmtime alone: one engine, one thread, the
//! same calls.
//!
//! What is left out of the comparison on both sides: reading and compiling the image, which a cached
//! image has behind itself, and giving the instance back.

use std::{
    fs,
    future::Future,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use duende::{
    config::CompileConfig,
    image::{Images, Settings},
    worker::{Engines, HostMachine, Linkers, map_image},
};
use duende_core::wire::link::{Address, Command, Description, Event, Grants, Limits, ValueKind};
use duende_report::{Measure, Report};
use wasmtime::{
    Engine, Store,
    component::{Component, HasSelf, Linker},
};
use wos_kernel::{
    ImageState, Kernel, Machine,
    engine::{Image, ImageSource, WasmtimeExecutor},
    limits::PROCESSES_MAX,
};

use self::bare::{DaemonPre, Wake, WakeReasons};
use super::Result;

const DEPLOYS: u32 = 3_000;
const SLICE_ROUNDS: usize = 300;
const SLICES_PER_ROUND: u32 = 1_000;

/// Measures and adds to the report.
pub(crate) fn measure(artifacts: &Path, report: &mut Report) -> Result<()> {
    let engines = Engines::for_fleet(PROCESSES_MAX)?;
    let engine = engines.pooled().ok_or("there is no room for a pool")?;
    let cache_dir = tempfile::tempdir()?;
    let linkers = Linkers::new(&engines)?;
    let mut settings = Settings::new(cache_dir.path(), None, &CompileConfig::default());
    settings.program = Some(env!("CARGO_BIN_EXE_duende").into());
    let images = Images::new(settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let both = |component: &str| {
        let path = artifacts.join(component);
        let image = runtime.block_on(images.ready(&path, Arc::new(|_| ())))?;
        let image = map_image(&linkers, &image.entry, None)?;
        Ok::<_, Box<dyn std::error::Error>>((Wos::new(image), Bare::new(engine, &path)?))
    };

    let (mut wos, bare) = both("log-sentinel.wasm")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..DEPLOYS {
        let began = Instant::now();
        let at = wos.deploy(Grants::LOG.union(Grants::STATE), &[])?;
        ours.push(elapsed_ns(began));
        wos.kill(at)?;

        let began = Instant::now();
        let running = bare.deploy(true)?;
        theirs.push(elapsed_ns(began));
        drop(running);
    }
    report.add(
        Measure::new(
            "deploy",
            "a cached image to Running: Create and Start until the event Running",
        )
        .contender("WOS", ours)
        .contender("bare wasmtime", theirs)
        .ratio_at_most("WOS", "bare wasmtime", 1.5),
    );

    let (mut wos, bare) = both("flaky.wasm")?;
    // Without `state`, so that no side keeps what the daemon would write to it.
    wos.deploy(Grants::LOG, &[("mode", "spin")])?;
    let mut running = bare.deploy(false)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SLICE_ROUNDS {
        let began = Instant::now();
        for _ in 0..SLICES_PER_ROUND {
            if !wos.kernel.step(&mut |_| {})? {
                return Err("the daemon has no slice to run".into());
            }
        }
        ours.push(elapsed_ns(began) / f64::from(SLICES_PER_ROUND));

        let began = Instant::now();
        for now in 0..SLICES_PER_ROUND {
            running.run(u64::from(now))?;
        }
        theirs.push(elapsed_ns(began) / f64::from(SLICES_PER_ROUND));
    }
    report.add(
        Measure::new(
            "slice",
            "one slice of a daemon that returns `again` (each sample: the mean of 1,000)",
        )
        .contender("WOS scheduler", ours)
        .contender("bare call_async", theirs)
        .ratio_at_most("WOS scheduler", "bare call_async", 1.5),
    );
    Ok(())
}

fn elapsed_ns(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64
}

/// Our side: a kernel that has one image.
struct Wos {
    kernel: Kernel<WasmtimeExecutor<OneImage>>,
    incarnation: u32,
}

struct OneImage(Image);

impl ImageSource for OneImage {
    fn image(&mut self, _name: &str) -> ImageState<Image> {
        ImageState::Ready(self.0.clone())
    }
}

impl Wos {
    fn new(image: Image) -> Self {
        let executor = WasmtimeExecutor::new(OneImage(image));
        let kernel = Kernel::new(executor, PROCESSES_MAX, Arc::new(HostMachine::default()));
        Self { kernel, incarnation: 0 }
    }

    /// Creates a daemon and runs it until it says that it is Running.
    fn deploy(&mut self, grants: Grants, config: &[(&str, &str)]) -> Result<Address> {
        self.incarnation += 1;
        let at = Address::of(0, self.incarnation);
        let limits = Limits {
            memory_bytes_max: 64 << 20,
            slice_budget_ns: 1_000_000_000,
            state_bytes_max: 16 << 20,
        };
        let said = Description { at, name: "daemon", image: "image", level: 4, limits, grants };
        let mut running = false;
        let mut why = String::new();
        let mut emit = |event: Event<'_>| match event {
            Event::Running { .. } => running = true,
            Event::Exited { reason, .. } => reason.clone_into(&mut why),
            _ => {}
        };
        for command in said.commands() {
            self.kernel.command(command, &mut emit)?;
        }
        for (key, value) in config {
            self.kernel.command(
                Command::ConfigEntry { at, key, value, kind: ValueKind::Text },
                &mut emit,
            )?;
        }
        self.kernel.command(Command::Start { at }, &mut emit)?;
        self.kernel.step(&mut emit)?;
        if running { Ok(at) } else { Err(format!("the daemon is not Running: {why}").into()) }
    }

    fn kill(&mut self, at: Address) -> Result<()> {
        Ok(self.kernel.command(Command::Kill { at }, &mut |_| {})?)
    }
}

/// The other side: wasmtime, and imports that do nothing.
struct Bare {
    engine: Engine,
    image: DaemonPre<Imports>,
}

struct Running {
    store: Store<Imports>,
    daemon: bare::Daemon,
}

impl Bare {
    fn new(engine: &Engine, path: &Path) -> Result<Self> {
        let component = Component::new(engine, fs::read(path)?)?;
        let mut linker = Linker::new(engine);
        bare::Daemon::add_to_linker::<Imports, HasSelf<Imports>>(&mut linker, |imports| imports)?;
        let image = DaemonPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine: engine.clone(), image })
    }

    fn deploy(&self, has_state: bool) -> Result<Running> {
        let imports = Imports { machine: HostMachine::default(), has_state };
        let mut store = Store::new(&self.engine, imports);
        store.set_epoch_deadline(1);
        let daemon = finish(self.image.instantiate_async(&mut store))??;
        finish(daemon.duende_daemon_lifecycle().call_init(&mut store))??.map_err(|end| end.text)?;
        Ok(Running { store, daemon })
    }
}

impl Running {
    fn run(&mut self, now: u64) -> Result<()> {
        let wake = Wake { reasons: WakeReasons::empty(), now };
        let lifecycle = self.daemon.duende_daemon_lifecycle();
        finish(lifecycle.call_run(&mut self.store, wake))??.map_err(|end| end.text)?;
        Ok(())
    }
}

/// Polls a future that has nothing to wait for.
fn finish<T>(future: impl Future<Output = T>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err("the call waits for something".into()),
    }
}

/// What a store holds on the other side.
struct Imports {
    machine: HostMachine,
    /// Whether `state` is granted.
    has_state: bool,
}

impl Imports {
    fn if_granted<T>(&self, value: T) -> std::result::Result<T, bare::types::Error> {
        if self.has_state { Ok(value) } else { Err(bare::types::Error::Denied) }
    }
}

/// The contract once more: the kernel's own bindings are its own.
mod bare {
    use super::{Imports, Machine};

    wasmtime::component::bindgen!({
        path: "../wit",
        world: "duende:daemon/daemon",
        exports: { default: async },
    });

    use self::duende::daemon::{
        channel, clock, config, context, entropy, log, metric, slice, state,
    };
    pub(crate) use self::{
        duende::daemon::types,
        exports::duende::daemon::lifecycle::{Wake, WakeReasons},
    };
    use types::{Error, Scalar};

    impl types::Host for Imports {}

    impl slice::Host for Imports {
        fn number(&mut self) -> u64 {
            1
        }

        fn deadline(&mut self) -> u64 {
            u64::MAX
        }

        fn stop_deadline(&mut self) -> Option<u64> {
            None
        }

        fn ready(&mut self) -> Vec<String> {
            Vec::new()
        }
    }

    impl context::Host for Imports {
        fn name(&mut self) -> String {
            String::new()
        }

        fn incarnation(&mut self) -> u64 {
            1
        }

        fn instance(&mut self) -> (u64, u64) {
            (0, 0)
        }

        fn granted(&mut self, _capability: String) -> bool {
            self.has_state
        }

        fn limit(&mut self, _name: String) -> Option<u64> {
            None
        }

        fn used(&mut self, _name: String) -> Option<u64> {
            None
        }

        fn pressure(&mut self, _name: String) -> context::Scarcity {
            context::Scarcity::Calm
        }
    }

    impl log::Host for Imports {
        fn enabled(&mut self, _level: log::Level) -> bool {
            true
        }

        fn write(&mut self, _level: log::Level, _text: String) -> Result<(), Error> {
            Ok(())
        }

        fn event(
            &mut self,
            _level: log::Level,
            _text: String,
            _fields: Vec<log::Field>,
        ) -> Result<(), Error> {
            Ok(())
        }
    }

    impl clock::Host for Imports {
        fn monotonic(&mut self) -> u64 {
            self.machine.monotonic_ns()
        }

        fn wall(&mut self) -> clock::Datetime {
            clock::Datetime { seconds: self.machine.wall_ns() / 1_000_000_000, nanoseconds: 0 }
        }
    }

    impl entropy::Host for Imports {
        fn bytes(&mut self, _length: u32) -> Result<Vec<u8>, Error> {
            Ok(Vec::new())
        }

        fn number(&mut self) -> u64 {
            0
        }
    }

    impl config::Host for Imports {
        fn get(&mut self, key: String) -> Option<Scalar> {
            self.text(key).map(Scalar::Text)
        }

        fn text(&mut self, key: String) -> Option<String> {
            (key == "mode").then(|| "spin".to_owned())
        }

        fn keys(&mut self, _prefix: String, _after: Option<String>, _limit: u32) -> Vec<String> {
            Vec::new()
        }

        fn refuse(&mut self, _reason: String) {}
    }

    impl state::Host for Imports {
        fn get(&mut self, _key: String) -> Result<Option<Vec<u8>>, Error> {
            self.if_granted(None)
        }

        fn set(&mut self, _key: String, _value: Vec<u8>) -> Result<(), Error> {
            self.if_granted(())
        }

        fn delete(&mut self, _key: String) -> Result<(), Error> {
            self.if_granted(())
        }

        fn delete_all(&mut self, _prefix: String) -> Result<u64, Error> {
            self.if_granted(0)
        }

        fn keys(
            &mut self,
            _prefix: String,
            _after: Option<String>,
            _limit: u32,
        ) -> Result<Vec<String>, Error> {
            self.if_granted(Vec::new())
        }

        fn entries(
            &mut self,
            _prefix: String,
            _after: Option<String>,
            _limit: u32,
        ) -> Result<Vec<state::Entry>, Error> {
            self.if_granted(Vec::new())
        }
    }

    impl channel::Host for Imports {
        fn receive(&mut self, _channel: String, _max: u32) -> Result<Vec<channel::Message>, Error> {
            Err(Error::NotFound)
        }

        fn reject(
            &mut self,
            _channel: String,
            _sequence: u64,
            _reason: String,
        ) -> Result<(), Error> {
            Err(Error::NotFound)
        }
    }

    impl metric::Host for Imports {
        fn counter_add(&mut self, _name: String, _delta: u64) -> Result<(), Error> {
            Ok(())
        }

        fn gauge_set(&mut self, _name: String, _value: f64) -> Result<(), Error> {
            Ok(())
        }
    }
}
