//! From a request to a response.
//!
//! Paths under `/-/` are the server's own; all others are files. Everything about a file happens in
//! one call on a thread that may block: lookup, conditions, and the first chunk of the content.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use duende_daemon::{Priority, log};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::task::spawn_blocking;

use crate::body::{FileSlice, Payload, ResponseBody};
use crate::range::{Wanted, wanted};
use crate::record::{Connection, Record};
use crate::shared::Shared;
use crate::site::{Found, OpenFile};

/// Longest answer of `/-/slow`.
const SLOW_MS_MAX: u64 = 10_000;

/// The last second that an HTTP date can say: the end of the year 9999.
const HTTP_DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// Answers one request. The response carries the record that will be logged once it was sent.
pub(crate) async fn respond(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut record = Record::start(&connection, &request);
    let mut response = answer(connection.shared(), &request).await;
    record.set_status(response.status());
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response.map(|payload| ResponseBody::new(payload, record)))
}

async fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Payload> {
    let is_head = request.method() == Method::HEAD;
    // RFC 9112, 3.2: refused, because a proxy in front may have understood it in another way.
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 {
        return text(StatusCode::BAD_REQUEST, is_head);
    }
    if !is_head && request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, is_head);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/-/healthz" => {
            let is_healthy = shared.health().await.is_healthy();
            let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, is_head)
        }
        "/-/slow" if shared.has_diagnostics() => match slow_ms(request.uri().query()) {
            Some(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                text(StatusCode::OK, is_head)
            }
            None => text(StatusCode::BAD_REQUEST, is_head),
        },
        path if path.starts_with("/-/") => text(StatusCode::NOT_FOUND, is_head),
        path => {
            let wish = Wish::new(request, path);
            let shared = shared.clone();
            spawn_blocking(move || wish.grant(&shared)).await.unwrap_or_else(|error| {
                log(Priority::Error, format_args!("a request was not answered: {error}"));
                text(StatusCode::INTERNAL_SERVER_ERROR, is_head)
            })
        }
    }
}

/// The `N` of `ms=N`, when it is in bounds.
fn slow_ms(query: Option<&str>) -> Option<u64> {
    let ms = query?.strip_prefix("ms=")?.parse().ok()?;
    (ms <= SLOW_MS_MAX).then_some(ms)
}

/// What is asked of a file.
struct Wish {
    path: String,
    query: Option<String>,
    is_head: bool,
    range: Option<String>,
    if_range: Option<String>,
    if_modified_since: Option<String>,
}

impl Wish {
    fn new(request: &Request<Incoming>, path: &str) -> Self {
        let headers = request.headers();
        let is_head = request.method() == Method::HEAD;
        Self {
            path: path.to_owned(),
            query: request.uri().query().map(str::to_owned),
            is_head,
            // RFC 9110, 14.2: Range means something for GET alone.
            range: field(headers, header::RANGE).filter(|_| !is_head),
            if_range: field(headers, header::IF_RANGE),
            if_modified_since: field(headers, header::IF_MODIFIED_SINCE),
        }
    }

    /// Blocks.
    fn grant(&self, shared: &Shared) -> Response<Payload> {
        match shared.find(&self.path) {
            Found::File(file) => self.file(file),
            Found::DirectoryWithoutSlash => self.redirect(),
            Found::Nothing => text(StatusCode::NOT_FOUND, self.is_head),
            Found::Forbidden => text(StatusCode::FORBIDDEN, self.is_head),
            Found::Malformed => text(StatusCode::BAD_REQUEST, self.is_head),
            Found::Failed(error) => self.failed(&error),
        }
    }

    fn file(&self, found: OpenFile) -> Response<Payload> {
        let OpenFile { file, bytes, modified, content_type } = found;
        let modified = modified.and_then(http_date);
        let is_unmodified = modified.is_some_and(|modified| {
            let since = self.if_modified_since.as_deref().map(httpdate::parse_http_date);
            matches!(since, Some(Ok(since)) if modified <= since)
        });
        let last_modified = modified.map(httpdate::fmt_http_date);

        // A range of another version of the file is of no use: RFC 9110, 13.1.5.
        let is_same = self.if_range.is_none() || self.if_range == last_modified;
        let part = wanted(self.range.as_deref().filter(|_| is_same), bytes);

        let mut headers = HeaderMap::new();
        insert(&mut headers, header::ACCEPT_RANGES, "bytes");
        if let Some(last_modified) = &last_modified {
            insert(&mut headers, header::LAST_MODIFIED, last_modified);
        }
        if is_unmodified {
            return response(StatusCode::NOT_MODIFIED, headers, Payload::empty());
        }
        let (status, range) = match part {
            Wanted::Whole => (StatusCode::OK, 0..bytes),
            Wanted::Part(range) => {
                let last = range.end.saturating_sub(1);
                let content_range = format!("bytes {}-{last}/{bytes}", range.start);
                insert(&mut headers, header::CONTENT_RANGE, &content_range);
                (StatusCode::PARTIAL_CONTENT, range)
            }
            Wanted::Unsatisfiable => {
                let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, self.is_head);
                let content_range = format!("bytes */{bytes}");
                insert(response.headers_mut(), header::CONTENT_RANGE, &content_range);
                return response;
            }
        };
        let part_bytes = range.end.saturating_sub(range.start);
        insert(&mut headers, header::CONTENT_TYPE, content_type);
        insert(&mut headers, header::CONTENT_LENGTH, &part_bytes.to_string());
        if self.is_head {
            return response(status, headers, Payload::empty());
        }
        match FileSlice::read(file, range.start, part_bytes) {
            Ok(slice) => response(status, headers, Payload::File(slice)),
            Err(error) => self.failed(&error),
        }
    }

    /// To the same path with a slash. One slash at its start: `//host/` would be another server.
    fn redirect(&self) -> Response<Payload> {
        let path = self.path.trim_start_matches('/');
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut response = text(StatusCode::MOVED_PERMANENTLY, self.is_head);
        insert(response.headers_mut(), header::LOCATION, &format!("/{path}/{query}"));
        response
    }

    fn failed(&self, error: &std::io::Error) -> Response<Payload> {
        log(Priority::Error, format_args!("cannot serve {}: {error}", self.path.escape_debug()));
        text(StatusCode::INTERNAL_SERVER_ERROR, self.is_head)
    }
}

/// A time in whole seconds, if an HTTP date can say it.
fn http_date(at: SystemTime) -> Option<SystemTime> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let second = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    (seconds <= HTTP_DATE_SECONDS_MAX).then_some(second)
}

fn field(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Adds a header; `value` is made of ASCII by us, or came in a request and so can be in a response.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A status with its name as text.
fn text(status: StatusCode, is_head: bool) -> Response<Payload> {
    let content = format!("{status}\n");
    let mut headers = HeaderMap::new();
    insert(&mut headers, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    insert(&mut headers, header::CONTENT_LENGTH, &content.len().to_string());
    let payload = if is_head { Payload::empty() } else { Payload::Bytes(Bytes::from(content)) };
    response(status, headers, payload)
}

fn response(status: StatusCode, headers: HeaderMap, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_bounded() {
        for (query, expected) in [
            (Some("ms=0"), Some(0)),
            (Some("ms=10000"), Some(10_000)),
            (Some("ms=10001"), None),
            (Some("ms=-1"), None),
            (Some("ms="), None),
            (Some("n=1"), None),
            (None, None),
        ] {
            assert_eq!(slow_ms(query), expected, "{query:?}");
        }
    }

    #[test]
    fn times_that_http_cannot_say_are_left_out() {
        let epoch = SystemTime::UNIX_EPOCH;
        let at = |seconds| epoch + Duration::from_secs(seconds);
        assert_eq!(http_date(epoch - Duration::from_secs(1)), None);
        assert_eq!(http_date(at(HTTP_DATE_SECONDS_MAX + 1)), None);
        assert_eq!(http_date(epoch + Duration::from_millis(1_700)), Some(at(1)));
    }
}
