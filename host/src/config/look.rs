//! A look at a path that somebody names, on whatever file system it lies: a server's, or a program's, may never
//! answer, and whoever reads a configuration (`check`, `up`, a manager that is asked for what has changed) waits for
//! none.
//!
//! A look is taken by a thread of its own. One that has no answer in time is left to itself; as long as there is such a
//! one, others are waited for less (`tests::who_does_not_answer_is_not_waited_for`).

use std::{
    fs::{self, Metadata},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

static LOOKS: Looks =
    Looks { without_answer: AtomicUsize::new(0), patience: Duration::from_secs(1) };

/// While one look has no answer, others have so much less time.
const LESS: u32 = 50;

/// What stands at a path, links followed; none if that is not answered in time, or there is no thread for it.
pub(super) fn metadata(path: &Path) -> Option<io::Result<Metadata>> {
    let path = path.to_owned();
    LOOKS.take(move || fs::metadata(path))
}

struct Looks {
    /// How many were left to themselves and are not over.
    without_answer: AtomicUsize,
    /// How long an answer is waited for.
    patience: Duration,
}

impl Looks {
    fn take<T: Send + 'static>(
        &'static self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        // Set by whoever is first: the one that looks, or the one that waits.
        let is_over = Arc::new(AtomicBool::new(false));
        let of_thread = is_over.clone();
        let begun = thread::Builder::new().name("duende-look".to_owned()).spawn(move || {
            // Whoever wanted it may have gone on.
            let _ = sender.send(look());
            if of_thread.swap(true, Ordering::AcqRel) {
                self.without_answer.fetch_sub(1, Ordering::Relaxed);
            }
        });
        begun.ok()?;
        let is_first = self.without_answer.load(Ordering::Relaxed) == 0;
        let patience = if is_first { self.patience } else { self.patience / LESS };
        let looked = answer.recv_timeout(patience).ok();
        if looked.is_none() {
            self.without_answer.fetch_add(1, Ordering::Relaxed);
            if is_over.swap(true, Ordering::AcqRel) {
                // It came just now.
                self.without_answer.fetch_sub(1, Ordering::Relaxed);
            }
        }
        looked
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        static LOOKS: Looks =
            Looks { without_answer: AtomicUsize::new(0), patience: Duration::from_millis(500) };
        let (go, gone) = mpsc::channel::<()>();
        let began = Instant::now();
        assert_eq!(LOOKS.take(move || gone.recv().is_ok()), None);
        let kept: Vec<_> = (0..50)
            .map(|_| {
                let (go, gone) = mpsc::channel::<()>();
                assert_eq!(LOOKS.take(move || gone.recv().is_ok()), None);
                go
            })
            .collect();
        assert!(began.elapsed() < 10 * LOOKS.patience, "{:?}", began.elapsed());
        drop((go, kept));
        while LOOKS.without_answer.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        assert!(metadata(Path::new("/")).is_some_and(|found| found.is_ok()));
    }
}
