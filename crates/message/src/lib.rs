//! HTTP messages as values: bytes → a request, "not yet", or what is wrong with them; a response →
//! bytes. The rules are those of RFC 9110 and 9112.
//!
//! In reading order. One GET passes through the first two; the others stand beside them, and are
//! optional reading.
//!
//! | module | from → to |
//! |---|---|
//! | [`request`] | bytes → a request |
//! | [`response`] | a status, some fields and a body → the bytes of a head |
//! | [`grammar`] | the patterns that the bytes must match |
//! | [`status`] | the status codes that this server sends |
//! | [`problem`] | bytes that are no request → a sentence that says why |
//! | [`target`] | the rarer forms of a target; a path → the name of a file |
//! | [`conditions`] | `If-…` and `Range` fields → all of a file, a part of it, or nothing |
//! | [`body`] | the bytes of a request body → where they end |
//!
//! What is absent, on purpose: nothing here touches a socket or a file, or looks at the clock. So
//! everything is tested with byte strings.

pub mod body;
pub mod conditions;
pub mod grammar;
pub mod problem;
pub mod request;
pub mod response;
pub mod status;
pub mod target;

pub use problem::Problem;
pub use request::{BodyLength, Fields, Request, parse};
pub use response::{Body, Response};
pub use status::Status;
