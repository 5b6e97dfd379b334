//! Images: from a component's file to machine code that a worker can map.
//!
//! Who asks names a file. What is in it, by its digest, and what the compiler's output depends on, the
//! [`Engine`], make the address of an [`entry`](cache) in a directory that all fleets of a user share. If
//! it is there, whole, that is the image; else the component is [compiled](crate::compile), in a process of
//! its own, and becomes an entry. Nothing is ever overwritten with something else.
//!
//! `Images` does that for many who ask at once: equal ones are compiled once, as many at a time as the
//! machine has processors, small ones before large ones; what is in the cache waits for nobody.
//!
//! No engine runs here: what an engine of this build on this machine is called, says a process that makes
//! one ([`Engine::ask`]).

mod cache;
mod component;
mod engine;
mod error;
mod images;
mod queue;

pub use self::{
    cache::{Cache, CachedImage, make_dir},
    engine::Engine,
    error::ImageError,
    images::{GoesOn, Images, Progress, Settings},
};
