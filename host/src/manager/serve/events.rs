//! Answers `events` and `down`: what happened, and what happens next.

use std::sync::Arc;

use duende_core::bus::Full;
use tokio::sync::mpsc;

use super::{super::journal, Manager};
use crate::{
    bus::{RecvError, Subscriber},
    control::protocol::{ErrorCode, EventRecord, Response},
};

impl Manager {
    /// Sends the recent events, and those to come if somebody follows.
    pub(super) fn events(&mut self, reply: mpsc::Sender<Response>, follow: bool) {
        let recent: Vec<_> = self.journal.recent().cloned().collect();
        let following = match follow.then(|| self.journal.follow()).transpose() {
            Ok(following) => following,
            Err(full) => return refuse(reply, &full),
        };
        tokio::spawn(async move {
            for event in recent {
                if reply.send(Response::Event { event }).await.is_err() {
                    return;
                }
            }
            if let Some(follower) = following
                && !forward(follower, &reply).await
            {
                return;
            }
            let _ = reply.send(Response::Done).await;
        });
    }

    /// Sends what happens from now until the manager ends, and then that all is well, or what of the state
    /// is lost.
    pub(super) fn events_from_now(&mut self, reply: mpsc::Sender<Response>) {
        let follower = match self.journal.follow() {
            Ok(follower) => follower,
            Err(full) => return refuse(reply, &full),
        };
        let last_words = self.last_words.clone();
        self.farewells.push(tokio::spawn(async move {
            if !forward(follower, &reply).await {
                return;
            }
            let end = match last_words.get() {
                Some(words) => {
                    Response::Error { code: ErrorCode::StateLost, message: words.clone() }
                }
                None => Response::Ok,
            };
            let _ = reply.send(end).await;
            // The connection's task writes it out and sees the end of this channel.
            drop(reply);
            tokio::task::yield_now().await;
        }));
    }
}

/// Sends on what a follower hears, until the journal ends; false if nobody listens any more.
async fn forward(
    mut follower: Subscriber<Arc<EventRecord>>,
    reply: &mpsc::Sender<Response>,
) -> bool {
    loop {
        let heard = tokio::select! {
            heard = follower.recv() => heard,
            () = reply.closed() => return false,
        };
        let record = match heard {
            Ok(record) => Arc::unwrap_or_clone(record),
            Err(RecvError::Lagged { events }) => journal::lagged(events),
            Err(RecvError::Closed) => return true,
        };
        if reply.send(Response::Event { event: record }).await.is_err() {
            return false;
        }
    }
}

fn refuse(reply: mpsc::Sender<Response>, full: &Full) {
    let message = format!("too many follow the events already: {full}");
    let refusal = Response::Error { code: ErrorCode::TooManyFollowers, message };
    tokio::spawn(async move {
        let _ = reply.send(refusal).await;
    });
}
