//! The contract in Rust, generated from `wit/`, and the syscalls behind its imports: a file for each
//! series that this kernel runs. Their names differ, so one linker holds them all.

/// What of a [`Contract`](super::series::Contract) is the same for all, but for the types that were generated: in
/// its `impl`.
macro_rules! generated {
    () => {
        type Linked = DaemonPre<Data>;
        type Daemon = Daemon;

        fn add_to_linker(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
            Daemon::add_to_linker::<Data, wasmtime::component::HasSelf<Data>>(linker, |data| data)
        }

        fn linked(instance: InstancePre<Data>) -> wasmtime::Result<Self::Linked> {
            DaemonPre::new(instance)
        }

        async fn instantiate(
            linked: &Self::Linked,
            store: &mut Store<Data>,
        ) -> wasmtime::Result<Self::Daemon> {
            linked.instantiate_async(store).await
        }
    };
}

#[cfg(all(test, feature = "pretend"))]
mod pretend;
mod v0_1;
mod v0_2;

use super::series::Row;

/// The series that this kernel runs, the oldest first.
pub(super) const SERIES: [Row; 2] = [Row::of::<v0_1::V0_1>(), Row::of::<v0_2::V0_2>()];
