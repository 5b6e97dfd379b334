//! How many open files the processes of a fleet need, so that a session that can't have them is told
//! beforehand, and by how many, not by daemons that do not start.
//!
//! `keep` refuses a start by the same count: what `check` promises is what it does.

use super::model::{DaemonConfig, Isolation};

/// Of `keep` for each native daemon: two pipes and its log.
const OF_KEEP_PER_DAEMON: u64 = 3;
/// Of `keep` for itself, and for one start, one stop or one look at a time.
const OF_KEEP: u64 = 32;
/// Of the manager for a daemon: its log; for a link, one; for the source of a channel, the file and
/// what tells of its changes.
const OF_MANAGER_PER_DAEMON: u64 = 1;
const OF_MANAGER_PER_LINK: u64 = 1;
const OF_MANAGER_PER_CHANNEL: u64 = 2;
/// Of the manager for itself: 64 connections of clients, the store, the logs of the fleet, the ways to
/// `keep` and a worker.
const OF_MANAGER: u64 = 128;

/// Of `keep`, for this many native daemons.
#[must_use]
pub const fn keep_open_files_needed(natives: u64) -> u64 {
    natives.saturating_mul(OF_KEEP_PER_DAEMON).saturating_add(OF_KEEP)
}

/// The most open files that one process of a fleet of these daemons needs.
#[must_use]
pub fn open_files_needed(daemons: &[DaemonConfig]) -> u64 {
    let natives = daemons.iter().filter(|daemon| matches!(daemon.isolation, Isolation::Native(_)));
    let linked = |daemon: &DaemonConfig| match &daemon.isolation {
        Isolation::Native(native) => u64::from(native.link.is_some()),
        Isolation::Wos(_) => 0,
    };
    let of_manager = daemons.iter().fold(OF_MANAGER, |sum, daemon| {
        let channels = daemon.channels.len() as u64;
        sum.saturating_add(OF_MANAGER_PER_DAEMON)
            .saturating_add(linked(daemon) * OF_MANAGER_PER_LINK)
            .saturating_add(channels.saturating_mul(OF_MANAGER_PER_CHANNEL))
    });
    of_manager.max(keep_open_files_needed(natives.count() as u64))
}
