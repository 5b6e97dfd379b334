//! The engines of a worker: how components are compiled, and where their instances lie.
//!
//! Rules:
//! 1. Code is compiled for one of two [`Profile`]s: *guarded*, where a memory lies in 4 GiB of reserved
//!    addresses, so that no access has to be checked; or *checked*, where each access is, and a memory takes
//!    what it holds. Guarded is faster; checked runs where addresses are scarce.
//! 2. The guarded profile has a pool with a slot for each component of the fleet, reserved at the start: an
//!    instance takes microseconds, and a fleet that was started finds its room. Nothing of it is in memory
//!    before it is touched.
//! 3. What does not fit a slot — a memory over [`SLOT_MEMORY_BYTES`], many core instances, large tables — is
//!    instantiated on demand, in an engine without a pool. Both run the same code
//!    (`tests::the_engines_of_a_profile_run_the_same_code`).
//! 4. wasmtime keeps a stack for each store that was entered once, so each component has one. How many slices
//!    are open is the kernel's affair.

use std::{fmt, str::FromStr};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::room::Room;

/// Most linear memory of a daemon in the pool, in bytes. Who is granted more is instantiated on demand.
pub(super) const SLOT_MEMORY_BYTES: usize = 64 << 20;
/// Addresses that a guarded memory reserves, in bytes: what 32 bits address.
const RESERVATION_BYTES: u64 = 4 << 30;
/// … and behind them, for accesses with an offset.
const GUARD_BYTES: u64 = 32 << 20;
/// Most core instances of a component in the pool.
const CORE_INSTANCES_PER_DAEMON: u32 = 3;
/// Most tables of a component in the pool.
const TABLES_PER_DAEMON: u32 = 2;
/// Most elements of one table in the pool.
const TABLE_ELEMENTS: usize = 20_000;
/// The stack of a slice, in bytes; WebAssembly may use half of it, the rest is for syscalls.
const STACK_BYTES: usize = 512 << 10;
/// What a memory of the checked profile may grow by before it is moved, in bytes.
const CHECKED_GROWTH_BYTES: u64 = 1 << 20;

/// How memory accesses are kept within a component's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// By pages that can't be touched behind 4 GiB of reserved addresses.
    Guarded,
    /// By a comparison before each access.
    Checked,
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Guarded, Self::Checked];

    /// Its name, which [`FromStr`] reads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
            Self::Checked => "checked",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// There is no such profile.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no profile of the engine: they are guarded and checked")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        let named = Self::ALL.into_iter().find(|profile| profile.as_str() == text);
        named.ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}

/// What is the same for all engines of a profile: everything that compiled code depends on, and stacks.
fn config(profile: Profile) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Plain component exports suffice: no async ABI, and its bookkeeping stays away from the
        // path of a slice.
        .concurrency_support(false)
        .wasm_component_model(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Same inputs, same effects, on every target.
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(STACK_BYTES / 2)
        .async_stack_size(STACK_BYTES);
    match profile {
        Profile::Guarded => {
            config.memory_reservation(RESERVATION_BYTES).memory_guard_size(GUARD_BYTES);
        }
        Profile::Checked => {
            config
                .memory_reservation(0)
                .memory_guard_size(0)
                .guard_before_linear_memory(false)
                .memory_reservation_for_growth(CHECKED_GROWTH_BYTES);
        }
    }
    config
}

/// An engine that compiles for a profile, and reserves nothing. What it compiles runs in every engine of
/// that profile.
///
/// # Errors
/// The processor is not supported.
pub(crate) fn compiler_engine(profile: Profile, parallel: bool) -> wasmtime::Result<Engine> {
    let mut config = config(profile);
    config.parallel_compilation(parallel);
    Engine::new(&config)
}

/// A guarded engine with a slot for each of so many components.
fn pooled_engine(components: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(components)
        .total_core_instances(components.saturating_mul(CORE_INSTANCES_PER_DAEMON))
        .total_memories(components)
        .total_tables(components.saturating_mul(TABLES_PER_DAEMON))
        .total_stacks(components)
        .max_core_instances_per_component(CORE_INSTANCES_PER_DAEMON)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_PER_DAEMON)
        .max_memory_size(SLOT_MEMORY_BYTES)
        .table_elements(TABLE_ELEMENTS);
    let mut config = config(Profile::Guarded);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Addresses that the pool for so many components takes, in bytes.
const fn pool_bytes(components: u32) -> u64 {
    let table = (TABLES_PER_DAEMON as usize * TABLE_ELEMENTS * size_of::<usize>()) as u64;
    let slot = RESERVATION_BYTES + GUARD_BYTES + table + STACK_BYTES as u64;
    slot.saturating_mul(components as u64).saturating_add(GUARD_BYTES)
}

/// The engines of one worker.
#[derive(Clone)]
pub struct Engines {
    profile: Profile,
    /// Why it is not the guarded one.
    reason: Option<String>,
    pooled: Option<Engine>,
    on_demand: Engine,
}

impl Engines {
    /// Engines for a fleet of so many components: guarded, if this process may have the addresses.
    ///
    /// # Errors
    /// The processor is not supported.
    pub fn for_fleet(components: u32) -> wasmtime::Result<Self> {
        Self::within(components, &Room::of_this_process())
    }

    /// As [`for_fleet`](Self::for_fleet), where there is that much room.
    pub(crate) fn within(components: u32, room: &Room) -> wasmtime::Result<Self> {
        let components = components.max(1);
        let wanted = pool_bytes(components);
        let pooled = match room.refuses_addresses(wanted) {
            Some(reason) => Err(reason),
            None => pooled_engine(components).map_err(|error| {
                format!("{} of addresses can't be reserved: {error:#}", in_gib(wanted))
            }),
        };
        let (profile, pooled, reason) = match pooled {
            Ok(engine) => (Profile::Guarded, Some(engine), None),
            Err(reason) => (Profile::Checked, None, Some(reason)),
        };
        Ok(Self { profile, reason, pooled, on_demand: compiler_engine(profile, false)? })
    }

    /// What their code is compiled for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Why that is not the guarded profile; none if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The one with the pool; none in the checked profile.
    #[must_use]
    pub const fn pooled(&self) -> Option<&Engine> {
        self.pooled.as_ref()
    }

    /// The one without.
    #[must_use]
    pub const fn on_demand(&self) -> &Engine {
        &self.on_demand
    }

    /// All of them: each has an epoch of its own.
    pub(super) fn all(&self) -> impl Iterator<Item = &Engine> {
        self.pooled.iter().chain([&self.on_demand])
    }
}

/// For people: bytes in GiB, to a tenth.
pub(super) fn in_gib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    fn code_of(engine: &Engine) -> u64 {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn the_engines_of_a_profile_run_the_same_code() {
        let [guarded, checked] = Profile::ALL.map(|profile| {
            let room = match profile {
                Profile::Guarded => Room::UNLIMITED,
                Profile::Checked => Room { addresses_left: Some(1 << 30), ..Room::UNLIMITED },
            };
            let engines = Engines::within(2, &room).unwrap();
            assert_eq!(engines.profile(), profile);
            assert_eq!(engines.reason().is_none(), profile == Profile::Guarded);
            let code = code_of(&compiler_engine(profile, true).unwrap());
            assert!(engines.all().all(|engine| code_of(engine) == code), "{profile}");
            code
        });
        assert_ne!(guarded, checked);
    }

    #[test]
    fn a_profile_is_read_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse::<Profile>().unwrap(), profile);
        }
        let refused = "fast".parse::<Profile>().unwrap_err().to_string();
        assert!(refused.contains("guarded and checked"), "{refused}");
    }

    /// What is said of the addresses is what wasmtime takes.
    #[test]
    fn the_pool_takes_the_addresses_that_are_asked_for() {
        let taken = |components| {
            let before = Room::taken_bytes().unwrap();
            let engine = pooled_engine(components).unwrap();
            let taken = Room::taken_bytes().unwrap().saturating_sub(before);
            drop(engine);
            taken
        };
        // Other tests of this process take addresses meanwhile, far less than a slot.
        let (taken, said) = (taken(20), pool_bytes(20));
        assert!(taken.abs_diff(said) < RESERVATION_BYTES, "{taken} taken, {said} said");
    }
}
