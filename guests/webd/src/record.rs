//! One request from its head to its line in the access log.
//!
//! A [`Record`] is completed when it is dropped, which hyper does with a response's body when it has
//! taken all of it. Its line is written when the connection says so ([`Connection::write_completed`]),
//! at the latest before the connection's next request begins.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Request, StatusCode};

use crate::access_log::Entry;
use crate::shared::Shared;

/// nginx's status for a client that went away before there was an answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the parts of one connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: IpAddr,
    shared: Arc<Shared>,
    /// Answered requests whose lines wait for the flush; more than one only under pipelining.
    completed: Mutex<Vec<(Entry, Instant)>>,
}

impl Connection {
    pub(crate) fn new(peer: IpAddr, shared: Arc<Shared>) -> Self {
        Self { peer, shared, completed: Mutex::default() }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Writes the lines of what was answered.
    pub(crate) fn write_completed(&self) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        for (mut entry, started) in completed.drain(..) {
            entry.elapsed = started.elapsed();
            self.shared.log_request(&entry);
        }
    }

    /// Writes the line of a head that could not be understood, and was answered all the same.
    pub(crate) fn write_refused(&self, status: u16, elapsed: Duration) {
        self.shared.log_request(&Entry { status, elapsed, ..unanswered(self.peer) });
    }
}

/// One request under way. Dropping it completes it.
#[derive(Debug)]
pub(crate) struct Record {
    connection: Arc<Connection>,
    /// Taken by `drop` alone.
    entry: Option<Entry>,
    started: Instant,
}

impl Record {
    pub(crate) fn start(connection: &Arc<Connection>, request: &Request<Incoming>) -> Self {
        // Nothing is taken before what was answered is logged.
        connection.write_completed();
        connection.shared.request_started();
        let (method, uri, version) = (request.method(), request.uri(), request.version());
        let entry = Entry {
            request_line: format!("{method} {uri} {version:?}"),
            referer: field(request.headers(), &header::REFERER),
            user_agent: field(request.headers(), &header::USER_AGENT),
            ..unanswered(connection.peer)
        };
        Self { connection: connection.clone(), entry: Some(entry), started: Instant::now() }
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        if let Some(entry) = &mut self.entry {
            entry.status = status.as_u16();
        }
    }

    pub(crate) fn add_body_bytes(&mut self, bytes: u64) {
        if let Some(entry) = &mut self.entry {
            entry.body_bytes = entry.body_bytes.saturating_add(bytes);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.shared.request_ended();
        if let Some(entry) = self.entry.take() {
            let completed = self.connection.completed.lock();
            completed.unwrap_or_else(PoisonError::into_inner).push((entry, self.started));
        }
    }
}

/// What is said of a request that has no answer yet.
fn unanswered(peer: IpAddr) -> Entry {
    Entry {
        peer,
        received: SystemTime::now(),
        request_line: String::new(),
        status: CLIENT_CLOSED_REQUEST,
        body_bytes: 0,
        referer: Vec::new(),
        user_agent: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default()
}
