//! What the nine steps share: HTTP, the site, and the command line.
//!
//! In reading order:
//!
//! | module | from → to |
//! |---|---|
//! | [`request`] | bytes → a request, "not yet", or what is wrong with it |
//! | [`body`] | the bytes of a request body → where they end |
//! | [`response`] | a status, some fields and a body → the bytes of an answer |
//! | [`document`] | a file → what is known of it, and its bytes when it is small |
//! | [`site`] | a request and a folder → a response |
//! | [`connection`] | all of the above, over anything that reads and writes |
//! | [`listener`] | a port → clients, until Ctrl-C |
//! | [`options`] | what the reader types → options, a first line, and a log |
//! | [`tally`] | looks that found nothing → a line a second (steps 07 and 08) |
//!
//! What is absent, on purpose: nothing here spawns, forks, sleeps in a loop over clients or knows
//! which model it serves. The model stands in each step's `main.rs`, in full.

pub mod body;
mod buffer;
pub mod connection;
pub mod document;
pub mod listener;
pub mod options;
pub mod request;
pub mod response;
pub mod site;
pub mod tally;

pub use connection::{Connection, Progress};
pub use listener::{Listener, Places};
pub use options::{Log, Options, Step, Worker};
pub use site::Site;
pub use tally::Tally;
