//! The engine of the hosted profile: guard pages, epochs, a pool of instances.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use wos_kernel::limits::OPEN_SLICES_MAX;

/// Most linear memory of one daemon, in bytes: the size of a slot in the pool.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Most core instances in one component.
const CORE_INSTANCES_PER_DAEMON: u32 = 3;
/// Most tables in one component.
const TABLES_PER_DAEMON: u32 = 2;
/// Most elements of one table.
const TABLE_ELEMENTS: usize = 20_000;
/// The stack of a slice, in bytes; WebAssembly may use half of it, the rest is for syscalls.
const STACK_BYTES: usize = 512 << 10;

/// How the bounds of linear memories are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// By pages that can't be touched behind each of them.
    Guarded,
}

impl Profile {
    /// That of this machine.
    ///
    /// # Errors
    /// No engine can be made here.
    pub(crate) fn of_this_machine() -> wasmtime::Result<Self> {
        Ok(Self::Guarded)
    }

    /// Its name.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        if name == "guarded" { Ok(Self::Guarded) } else { Err(()) }
    }
}

/// What compiles for the hosted engine: its machine code is the same, and it reserves no pool.
///
/// # Errors
/// The processor is not supported.
pub(crate) fn compiler_engine(_: Profile, parallel: bool) -> wasmtime::Result<Engine> {
    let mut config = config();
    config.parallel_compilation(parallel);
    Engine::new(&config)
}

/// An engine with slots for `processes` daemons. Its pages are reserved, not used, until a daemon
/// touches them.
///
/// # Errors
/// The address space for the pool cannot be reserved, or the processor is not supported.
pub fn hosted_engine(processes: u32) -> wasmtime::Result<Engine> {
    let stacks = u32::try_from(OPEN_SLICES_MAX).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(processes)
        .total_core_instances(processes.saturating_mul(CORE_INSTANCES_PER_DAEMON))
        .total_memories(processes)
        .total_tables(processes.saturating_mul(TABLES_PER_DAEMON))
        // One more than the kernel keeps open: the slice that runs.
        .total_stacks(stacks.saturating_add(1))
        .max_core_instances_per_component(CORE_INSTANCES_PER_DAEMON)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_PER_DAEMON)
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS);
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// All that the machine code depends on.
fn config() -> Config {
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
    config
}
