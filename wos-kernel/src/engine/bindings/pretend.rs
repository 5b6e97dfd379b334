//! A series that is not there yet: what a contract 0.3 would cost, and whom.
//!
//! It changes what can't be changed within a series: one more case of the error that every interface shares,
//! one more reason to be woken, one more field of what `run` is told, one more level of the log. It is this
//! file and a [`Row`]; the kernel, the executor and the other series are as they are, and components that
//! were built for those run beside one of this, in one linker.

use alloc::string::String;

use duende_core::wire::link::LogLevel;
use wasmtime::{
    Store,
    component::{Component, InstancePre, Linker},
};

use self::duende::daemon::{log, types};
use super::super::{
    Data,
    contract::{Series, TypeCheck},
    series::{Contract, Row},
};
use crate::{
    context::SyscallError,
    executor::{Call, Ending, Health, HealthStatus, Next, Return, WakeReasons},
};

wasmtime::component::bindgen!({
    inline: r#"
        package duende:daemon@0.3.0;

        interface types {
            variant error {
                denied, not-found, invalid(string), too-large(u64), quota-exceeded(string), full,
                unavailable(option<u64>), overtaken(u64), other(string),
            }
            record outcome { code: u8, text: string }
            record attribute { name: string, value: string }
        }

        interface lifecycle {
            use types.{outcome, attribute};
            flags wake-reasons {
                started, timer, message, answer, room, child, reload, resumed, pressure, stopping, notice,
                moved,
            }
            record wake { reasons: wake-reasons, now: u64, slice: u64 }
            variant next { again, until(u64), wait, exit(outcome) }
            enum health-status { healthy, degraded, unhealthy }
            record check { name: string, status: health-status, detail: string }
            record health { status: health-status, detail: string, checks: list<check> }
            record bucket { upper: f64, count: u64 }
            record histogram { count: u64, sum: f64, buckets: list<bucket> }
            variant sample-value { counter(f64), gauge(f64), histogram(histogram) }
            record sample { name: string, labels: list<attribute>, value: sample-value }

            init: func() -> result<_, outcome>;
            run: func(wake: wake) -> result<next, outcome>;
            shutdown: func(deadline: u64) -> result<next, outcome>;
            health-check: func() -> health;
            metrics: func() -> list<sample>;
        }

        interface log {
            use types.{error};
            enum level { trace, debug, info, notice, warn, error, critical }
            write: func(level: level, text: string) -> result<_, error>;
        }

        world daemon {
            import log;
            export lifecycle;
        }
    "#,
    exports: { default: async },
});

impl From<SyscallError> for types::Error {
    fn from(error: SyscallError) -> Self {
        match error {
            SyscallError::Denied => Self::Denied,
            SyscallError::NotFound => Self::NotFound,
            SyscallError::Invalid(why) => Self::Invalid(why.into()),
            SyscallError::TooLarge(limit) => Self::TooLarge(limit),
            SyscallError::QuotaExceeded(name) => Self::QuotaExceeded(name.into()),
            SyscallError::NotInSlice => Self::Other(SyscallError::NOT_IN_SLICE.into()),
        }
    }
}

impl From<types::Outcome> for Ending {
    fn from(outcome: types::Outcome) -> Self {
        Self { code: outcome.code, text: outcome.text }
    }
}

impl From<exports::duende::daemon::lifecycle::Next> for Next {
    fn from(next: exports::duende::daemon::lifecycle::Next) -> Self {
        use exports::duende::daemon::lifecycle::Next as Theirs;
        match next {
            Theirs::Again => Self::Again,
            Theirs::Until(instant) => Self::Until(instant),
            Theirs::Wait => Self::Wait,
            Theirs::Exit(outcome) => Self::Exit(outcome.into()),
        }
    }
}

impl types::Host for Data {}

impl log::Host for Data {
    fn write(&mut self, level: log::Level, text: String) -> Result<(), types::Error> {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            // The kernel's words are the kernel's: a level that it has no word for is the nearest one.
            log::Level::Info | log::Level::Notice => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
            log::Level::Critical => LogLevel::Critical,
        };
        Ok(self.context.log_write(level, text)?)
    }
}

struct V0_3;

impl Contract for V0_3 {
    const SERIES: Series = Series::new("0.3", &["types", "log"]);
    const REASONS: WakeReasons = WakeReasons::OF_0_2;

    generated!();

    fn check_exports(component: &Component) -> Result<(), String> {
        use exports::duende::daemon::lifecycle;
        let check = TypeCheck::of(component)?;
        check.function::<(lifecycle::Wake,), (Result<lifecycle::Next, types::Outcome>,)>("run")
    }

    async fn invoke(
        store: &mut Store<Data>,
        daemon: &Self::Daemon,
        call: Call,
    ) -> wasmtime::Result<Return> {
        use exports::duende::daemon::lifecycle;
        let lifecycle = daemon.duende_daemon_lifecycle();
        Ok(match call {
            Call::Init => Return::Init(lifecycle.call_init(store).await?.map_err(Into::into)),
            Call::Run(wake) => {
                let mut reasons = lifecycle::WakeReasons::empty();
                for (ours, theirs) in [
                    (WakeReasons::STARTED, lifecycle::WakeReasons::STARTED),
                    (WakeReasons::MESSAGE, lifecycle::WakeReasons::MESSAGE),
                    (WakeReasons::STOPPING, lifecycle::WakeReasons::STOPPING),
                ] {
                    if wake.reasons.contains(ours) {
                        reasons |= theirs;
                    }
                }
                let slice = store.data_mut().context.slice_number();
                let wake = lifecycle::Wake { reasons, now: wake.now_ns, slice };
                let returned = lifecycle.call_run(store, wake).await?;
                Return::Run(returned.map(Into::into).map_err(Into::into))
            }
            Call::Shutdown { deadline_ns } => {
                let returned = lifecycle.call_shutdown(store, deadline_ns).await?;
                Return::Shutdown(returned.map(Into::into).map_err(Into::into))
            }
            Call::HealthCheck => {
                let health = lifecycle.call_health_check(store).await?;
                let status = match health.status {
                    lifecycle::HealthStatus::Healthy => HealthStatus::Healthy,
                    lifecycle::HealthStatus::Degraded => HealthStatus::Degraded,
                    lifecycle::HealthStatus::Unhealthy => HealthStatus::Unhealthy,
                };
                let checks = alloc::vec::Vec::new();
                Return::HealthCheck(Health { status, detail: health.detail, checks })
            }
            Call::Metrics => {
                let _ = lifecycle.call_metrics(store).await?;
                Return::Metrics(alloc::vec::Vec::new())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf, string::ToString, sync::Arc, vec::Vec};

    use duende_core::wire::link::{Address, Command, Description, Event, Grants, Limits, Outcome};
    use wasmtime::{Config, Engine};

    use super::{super::SERIES, *};
    use crate::{
        Kernel, Machine,
        engine::{Image, ImageLinker, ImageSource, WasmtimeExecutor},
        executor::ImageState,
    };

    /// The clock stands still, and nobody wants the processor back.
    struct Still;

    impl Machine for Still {
        fn monotonic_ns(&self) -> u64 {
            1
        }
        fn wall_ns(&self) -> i64 {
            0
        }
        fn entropy(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
        fn attention(&self) -> bool {
            false
        }
    }

    struct Images(BTreeMap<&'static str, Image>);

    impl ImageSource for Images {
        fn image(&mut self, name: &str) -> ImageState<Image> {
            self.0
                .get(name)
                .cloned()
                .map_or_else(|| ImageState::Unusable("no such image".into()), ImageState::Ready)
        }
    }

    fn golden(file: &str) -> Vec<u8> {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tests/golden", file].iter().collect();
        std::fs::read(path).unwrap()
    }

    /// The component by hand of contract 0.2, with the types of 0.3.
    fn by_hand_of_0_3() -> Vec<u8> {
        let mut text = String::from_utf8(golden("0.2/wait.wat")).unwrap();
        for (from, to) in [
            ("@0.2.0", "@0.3.0"),
            (r#"(case "other" string)"#, r#"(case "overtaken" u64) (case "other" string)"#),
            (r#""pressure" "stopping" "notice""#, r#""pressure" "stopping" "notice" "moved""#),
            (r#"(field "now" u64)"#, r#"(field "now" u64) (field "slice" u64)"#),
            (
                r#"(func (export "run") (param i32 i64)"#,
                r#"(func (export "run") (param i32 i64 i64)"#,
            ),
            (r#""info" "warn""#, r#""info" "notice" "warn""#),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        wat::parse_str(text).unwrap()
    }

    /// The series of this test beside those of the kernel: what was built for any of them runs, in one
    /// kernel. The kernel as it is refuses the new one, in words.
    #[test]
    fn a_series_to_come_touches_no_component_of_another() {
        let mut config = Config::new();
        config.epoch_interruption(true).concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let rows = [SERIES[0], SERIES[1], Row::of::<V0_3>()];
        let linker = ImageLinker::of(&engine, &rows).unwrap();
        let to_come = by_hand_of_0_3();
        let components = [
            ("hand-0.1", wat::parse_bytes(&golden("0.1/wait.wat")).unwrap().into_owned(), "0.1"),
            ("built-0.1", golden("0.1/flaky.wasm"), "0.1"),
            ("hand-0.2", wat::parse_bytes(&golden("0.2/wait.wat")).unwrap().into_owned(), "0.2"),
            ("built-0.2", golden("0.2/flaky.wasm"), "0.2"),
            ("hand-0.3", to_come.clone(), "0.3"),
        ];
        let mut images = BTreeMap::new();
        for (name, bytes, series) in &components {
            let image = linker.link(&Component::new(&engine, bytes).unwrap()).unwrap();
            assert_eq!(image.series().name(), *series, "{name}");
            images.insert(*name, image);
        }

        let executor = WasmtimeExecutor::new(Images(images));
        let mut kernel = Kernel::new(executor, 16, Arc::new(Still));
        let at = |number| Address::of(number, 1);
        let mut seen = Vec::new();
        let limits =
            Limits { memory_bytes_max: 8 << 20, slice_budget_ns: u64::MAX, state_bytes_max: 4_096 };
        let grants = Grants::LOG.union(Grants::STATE).union(Grants::METRIC);
        for (number, (name, ..)) in (0..).zip(&components) {
            let at = at(number);
            let said = Description { at, name, image: name, level: 4, limits, grants };
            for command in said.commands().chain([Command::Start { at }]) {
                kernel.command(command, &mut |event| seen.push(told(&event))).unwrap();
            }
        }
        for round in 0..2 {
            let mut steps = 0;
            while steps < 100 && kernel.step(&mut |event| seen.push(told(&event))).unwrap() {
                steps += 1;
            }
            for number in (0..).take(components.len() * (1 - round)) {
                let shutdown = Command::Shutdown { at: at(number), grace_ns: 1_000_000_000 };
                kernel.command(shutdown, &mut |event| seen.push(told(&event))).unwrap();
            }
        }
        for (number, (name, ..)) in (0..).zip(&components) {
            let of = |what: &str| seen.contains(&(number, what.to_string()));
            assert!(of("running") && of("a line"), "{name}: {seen:?}");
            assert!(of("graceful"), "{name}: {seen:?}");
        }

        let present = ImageLinker::new(&engine).unwrap();
        let refused = present.link(&Component::new(&engine, &to_come).unwrap());
        let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("lifecycle@0.3.0") && text.contains("0.1 and 0.2"), "{text}");
    }

    fn told(event: &Event<'_>) -> (u32, String) {
        let (at, what) = match *event {
            Event::Running { at, .. } => (at, "running".to_string()),
            Event::Log { at, .. } => (at, "a line".to_string()),
            Event::Exited { at, outcome: Outcome::Graceful, .. } => (at, "graceful".to_string()),
            Event::Exited { at, reason, .. } => (at, reason.to_string()),
            Event::SliceEnd { at, .. } => (at, "slice".to_string()),
            _ => (Address::of(u32::MAX, 0), "other".to_string()),
        };
        (at.daemon, what)
    }
}
