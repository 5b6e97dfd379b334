//! A daemon whose fields are durable: what a slice changes of `self` is committed with it.
//!
//! Rules:
//! 1. After a slice that returned normally the daemon is encoded; what differs from what is kept is written to
//!    `state`, in the same transaction (`tests::what_a_slice_changes_is_kept_with_it_or_not_at_all`).
//! 2. It lies below keys that begin with [`PREFIX`], in parts of a value's length. The first one begins with the
//!    layout and the length of all, so parts of two times are not taken for one.
//! 3. `first` makes it when nothing is kept, `migrate` when what is kept has another layout. A layout that it
//!    does not know is a failure that is not tried again, and harms nothing.

use serde::{Serialize, de::DeserializeOwned};

use crate::context::Context;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::types::{Health, Instant, Next, Sample, Wake};

/// What the keys begin with. A daemon's own keys begin with something else.
pub const PREFIX: &str = "durable/";
/// Bytes of a part: a value's, on every kernel.
const PART_BYTES: usize = 65_536;
/// The layout, and how many bytes follow.
const HEAD_BYTES: usize = 12;

/// A daemon whose fields outlive its incarnations.
///
/// ```
/// use duende_sdk::{Context, Durable, Failure, Next, Wake, testing::Manager};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Tally {
///     lines: u64,
/// }
///
/// impl Durable for Tally {
///     fn first(_: &mut Context<'_>) -> Result<Self, Failure> {
///         Ok(Self { lines: 0 })
///     }
///
///     fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
///         self.lines += context.receive("lines", 100)?.len() as u64;
///         Ok(Next::Wait)
///     }
/// }
///
/// let mut manager = Manager::new().with_channel("lines");
/// for expected in 1..=3 {
///     manager.send("lines", b"x");
///     let mut tally = manager.start::<duende_sdk::Kept<Tally>>().unwrap();
///     manager.run_until_idle(&mut tally).unwrap();
///     assert_eq!(tally_of(&manager), expected);
/// }
/// # fn tally_of(manager: &Manager) -> u64 { u64::from(manager.state("durable/0").unwrap()[12]) }
/// ```
///
/// A component says `duende_sdk::export!(durable Tally);`, a native program
/// `duende_sdk::native::run::<duende_sdk::Kept<Tally>>()`. Grant: `state`.
pub trait Durable: Serialize + DeserializeOwned + 'static {
    /// The number of the layout that the fields have. Raise it when they change.
    const LAYOUT: u32 = 0;

    /// Makes the daemon for the first time.
    ///
    /// # Errors
    /// As [`Daemon::init`].
    fn first(context: &mut Context<'_>) -> Result<Self, Failure>;

    /// Makes the daemon of what was kept under another layout.
    ///
    /// # Errors
    /// It can't: what is kept stays as it is.
    fn migrate(layout: u32, kept: &[u8], context: &mut Context<'_>) -> Result<Self, Failure> {
        let _ = (kept, context);
        Err(Failure::not_allowed(format!(
            "state: it is kept in layout {layout}, and this version of the daemon has layout {}",
            Self::LAYOUT
        )))
    }

    /// Called once for each incarnation, after what was kept was read.
    ///
    /// # Errors
    /// As [`Daemon::init`].
    fn start(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let _ = context;
        Ok(())
    }

    /// As [`Daemon::run`].
    ///
    /// # Errors
    /// As [`Daemon::run`].
    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure>;

    /// As [`Daemon::shutdown`].
    ///
    /// # Errors
    /// As [`Daemon::shutdown`].
    fn shutdown(&mut self, deadline: Instant, context: &mut Context<'_>) -> Result<Next, Failure> {
        let _ = (deadline, context);
        Ok(Next::done())
    }

    /// As [`Daemon::health_check`].
    fn health_check(&self) -> Health {
        Health::healthy()
    }

    /// As [`Daemon::metrics`].
    fn metrics(&self) -> Vec<Sample> {
        Vec::new()
    }
}

/// A [`Durable`] as a [`Daemon`].
#[derive(Debug)]
pub struct Kept<T> {
    daemon: T,
    /// What is kept, encoded, with its head.
    kept: Vec<u8>,
}

impl<T: Durable> Kept<T> {
    /// Writes what has changed.
    fn keep(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes = postcard::to_extend(&self.daemon, bytes)?;
        let length = bytes.len().saturating_sub(HEAD_BYTES) as u64;
        if let Some((layout, rest)) = bytes.split_first_chunk_mut::<4>()
            && let Some((of, _)) = rest.split_first_chunk_mut::<8>()
        {
            *layout = T::LAYOUT.to_le_bytes();
            *of = length.to_le_bytes();
        }
        let before = self.kept.chunks(PART_BYTES).map(Some).chain(core::iter::repeat(None));
        for ((number, part), before) in bytes.chunks(PART_BYTES).enumerate().zip(before) {
            if before != Some(part) {
                context.state().set(&key(number), part)?;
            }
        }
        let parts = bytes.len().div_ceil(PART_BYTES);
        for number in parts..self.kept.len().div_ceil(PART_BYTES) {
            context.state().delete(&key(number))?;
        }
        self.kept = bytes;
        Ok(())
    }
}

fn key(part: usize) -> String {
    format!("{PREFIX}{part}")
}

/// What is kept, with its head; empty if nothing is.
fn kept(context: &mut Context<'_>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for number in 0.. {
        let Some(part) = context.state().get(&key(number))? else { break };
        let is_last = part.len() < PART_BYTES;
        bytes.extend(part);
        if is_last {
            break;
        }
    }
    Ok(bytes)
}

/// Layout and fields of what is kept.
fn split(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (layout, rest) = bytes.split_first_chunk::<4>()?;
    let (length, fields) = rest.split_first_chunk::<8>()?;
    let is_whole = u64::from_le_bytes(*length) == fields.len() as u64;
    is_whole.then_some((u32::from_le_bytes(*layout), fields))
}

impl<T: Durable> Daemon for Kept<T> {
    fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
        let bytes = kept(context)?;
        let daemon = if bytes.is_empty() {
            T::first(context)?
        } else {
            let torn =
                || Failure::not_allowed(format!("state: what is below `{PREFIX}` is not whole"));
            let (layout, fields) = split(&bytes).ok_or_else(torn)?;
            if layout == T::LAYOUT {
                postcard::from_bytes(fields).map_err(|error| {
                    Failure::not_allowed(format!(
                        "state: what is kept in layout {layout} does not fit it ({error}): raise LAYOUT \
                         when the fields change"
                    ))
                })?
            } else {
                T::migrate(layout, fields, context)?
            }
        };
        let mut made = Self { daemon, kept: bytes };
        made.daemon.start(context)?;
        made.keep(context)?;
        Ok(made)
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        let next = self.daemon.run(wake, context)?;
        self.keep(context)?;
        Ok(next)
    }

    fn shutdown(&mut self, deadline: Instant, context: &mut Context<'_>) -> Result<Next, Failure> {
        let next = self.daemon.shutdown(deadline, context)?;
        self.keep(context)?;
        Ok(next)
    }

    fn health_check(&self) -> Health {
        self.daemon.health_check()
    }

    fn metrics(&self) -> Vec<Sample> {
        self.daemon.metrics()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::testing::Manager;

    /// Keeps every line, and how often it was started.
    #[derive(Debug, Serialize, Deserialize)]
    struct Lines {
        starts: u32,
        lines: Vec<Vec<u8>>,
    }

    impl Durable for Lines {
        fn first(_: &mut Context<'_>) -> Result<Self, Failure> {
            Ok(Self { starts: 0, lines: Vec::new() })
        }

        fn start(&mut self, _: &mut Context<'_>) -> Result<(), Failure> {
            self.starts += 1;
            Ok(())
        }

        fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
            for message in context.receive("lines", 1)? {
                match &*message.payload {
                    b"fail" => return Err(Failure::new("told to")),
                    b"clear" => self.lines.clear(),
                    _ => self.lines.push(message.payload),
                }
            }
            Ok(Next::Wait)
        }
    }

    /// The next version: of the lines only their number is left.
    #[derive(Debug, Serialize, Deserialize)]
    struct Counts {
        lines: u64,
    }

    impl Durable for Counts {
        const LAYOUT: u32 = 1;

        fn first(_: &mut Context<'_>) -> Result<Self, Failure> {
            Ok(Self { lines: 0 })
        }

        fn migrate(layout: u32, kept: &[u8], _: &mut Context<'_>) -> Result<Self, Failure> {
            assert_eq!(layout, 0);
            let old: Lines = postcard::from_bytes(kept)?;
            Ok(Self { lines: old.lines.len() as u64 })
        }

        fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
            self.lines += context.receive("lines", 9)?.len() as u64;
            Ok(Next::Wait)
        }
    }

    fn of<T: Durable>(manager: &mut Manager) -> T {
        let started = manager.start::<Kept<T>>();
        drop(started.map_err(|failure| failure.to_string()).unwrap());
        let mut bytes = Vec::new();
        for number in 0.. {
            let Some(part) = manager.state(&key(number)) else { break };
            bytes.extend_from_slice(part);
        }
        postcard::from_bytes(split(&bytes).unwrap().1).unwrap()
    }

    #[test]
    fn what_a_slice_changes_is_kept_with_it_or_not_at_all() {
        let mut manager = Manager::new().with_channel("lines");
        for payload in ["a", "b", "fail"] {
            manager.send("lines", payload.as_bytes());
        }
        let mut incarnation = manager.start::<Kept<Lines>>().unwrap();
        manager.run_until_idle(&mut incarnation).unwrap_err();
        let incarnation = manager.start::<Kept<Lines>>().unwrap();
        manager.kill_in_slice(incarnation);
        let kept: Lines = of(&mut manager);
        assert_eq!((kept.starts, kept.lines.len(), manager.waiting("lines")), (3, 2, 1));
    }

    #[test]
    fn it_grows_over_parts_and_shrinks_again() {
        let mut manager = Manager::new().with_channel("lines");
        let mut incarnation = manager.start::<Kept<Lines>>().unwrap();
        for round in 1..=5_usize {
            manager.send("lines", &[7; 50_000]);
            manager.run_until_idle(&mut incarnation).unwrap();
            let parts = (0..9).take_while(|number| manager.state(&key(*number)).is_some()).count();
            assert_eq!(parts, (round * 50_003).div_ceil(PART_BYTES).max(1), "{round}");
        }
        manager.send("lines", b"clear");
        manager.run_until_idle(&mut incarnation).unwrap();
        assert!(manager.state(&key(0)).is_some() && manager.state(&key(1)).is_none());
        assert!(of::<Lines>(&mut manager).lines.is_empty());
    }

    #[test]
    fn another_layout_is_migrated_and_an_unknown_one_is_left_alone() {
        let mut manager = Manager::new().with_channel("lines");
        for _ in 0..3 {
            manager.send("lines", b"x");
        }
        let mut incarnation = manager.start::<Kept<Lines>>().unwrap();
        manager.run_until_idle(&mut incarnation).unwrap();
        assert_eq!(of::<Counts>(&mut manager).lines, 3);
        // The version before can't read it, says so, and changes nothing.
        let before = manager.state(&key(0)).unwrap().to_vec();
        let Err(failure) = manager.start::<Kept<Lines>>() else { panic!("it was read") };
        assert_eq!(failure.code(), 77);
        assert!(failure.to_string().contains("layout 1"), "{failure}");
        assert_eq!(manager.state(&key(0)), Some(&*before));
        assert_eq!(of::<Counts>(&mut manager).lines, 3);
    }
}
