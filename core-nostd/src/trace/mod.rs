//! W3C Trace Context: which trace a piece of work belongs to, across processes and machines.
//!
//! Two headers travel with a request. `traceparent` names the trace and the caller's span:
//! [`TraceContext`], four words that are copied. `tracestate` holds a line for each tracing system on
//! the way: [`TraceState`], a checked view of the received bytes. Both are read and printed without a
//! heap, and everything that the specification calls invalid is refused with the byte where it is.
//!
//! If `traceparent` is refused, `tracestate` is not to be read, and the trace is started again with
//! [`TraceContext::root`]. If only `tracestate` is refused, the trace goes on without it.
//!
//! Read from the text of Trace Context Level 2, which accepts everything that Level 1 does.
//!
//! ```
//! use duende_core::trace::{TraceContext, TraceState};
//!
//! let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
//! let caller = TraceContext::from_traceparent(caller)?;
//! let own = caller.child(0x1234); // fresh entropy for each span
//! assert_eq!(
//!     own.to_traceparent().as_str(),
//!     "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000001234-01"
//! );
//!
//! let state = TraceState::from_tracestate("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7")?;
//! assert_eq!(state.get("rojo"), Some("00f067aa0ba902b7"));
//! let updated = state.with("duende", "1234")?;
//! assert_eq!(updated.to_string(), "duende=1234,congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod parent;
pub mod state;

#[doc(inline)]
pub use parent::{
    Field, SpanId, TRACEPARENT_BYTES, TraceContext, TraceFlags, TraceId, TraceparentError,
    TraceparentFault,
};
#[doc(inline)]
pub use state::{
    KEY_BYTES_MAX, MEMBERS_MAX, Member, PROPAGATED_BYTES_MAX, TRACESTATE_BYTES_MAX, TraceState,
    TracestateError, TracestateFault, Updated, VALUE_BYTES_MAX,
};
