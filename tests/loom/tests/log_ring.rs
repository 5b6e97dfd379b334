//! The log ring of `wos-kernel` in every interleaving: contexts push while the kernel pops.

use duende_core::wire::link::{Address, LogLevel};
use loom::sync::Arc;
use loom::thread;

use duende_loom::log_ring::{LogLine, LogRing};

#[test]
fn every_line_is_popped_once_or_counted_as_dropped() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let ring = Arc::new(LogRing::default());
        let pushers: Vec<_> = (0..2)
            .map(|daemon| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    for incarnation in 0..2 {
                        let at = Address::of(daemon, incarnation);
                        ring.push(LogLine { at, level: LogLevel::Info, text: String::new() });
                    }
                })
            })
            .collect();
        let mut popped = Vec::new();
        popped.extend(ring.pop());
        let mut dropped = ring.take_dropped();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        popped.extend(std::iter::from_fn(|| ring.pop()));
        dropped += ring.take_dropped();
        assert_eq!(popped.len() as u64 + dropped, 4);
        for daemon in 0..2 {
            // In order, and none twice.
            let own = popped.iter().filter(|line| line.at.daemon == daemon);
            assert!(own.map(|line| line.at.incarnation).is_sorted_by(|one, next| one < next));
        }
    });
}
