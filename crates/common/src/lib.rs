//! A site behind a port, and the conversation with one client: what the steps share. It knows no
//! concurrency model; that stands in each step's `main.rs`, in full.
//!
//! In reading order. The first four are the way of one GET, together with `message::request` and
//! `message::response`; the others stand beside it, and are optional reading.
//!
//! | module | from → to |
//! |---|---|
//! | [`server`] | a port → clients; a client → its conversation |
//! | [`connection`] | one client's conversation: requests in, answers out, in order |
//! | [`site`] | a request and a folder → a response |
//! | [`answer`] | a response → bytes, as the client takes them |
//! | [`document`] | a file → what is known of it, and its bytes |
//! | [`memory`] | small files that were asked for before |
//! | [`stream`] | what a conversation asks of a socket |
//! | [`listener`] | a port → sockets, until Ctrl-C |
//!
//! What is absent, on purpose: nothing here spawns, forks, sleeps or loops over clients.

pub mod answer;
pub mod connection;
pub mod document;
pub mod listener;
pub mod memory;
pub mod server;
pub mod site;
pub mod stream;

pub use connection::{Connection, Progress};
pub use listener::Listener;
pub use server::{Client, Place, Server};
pub use site::Site;
pub use stream::Stream;
