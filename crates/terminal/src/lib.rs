//! What the reader types and sees: the command line, the first line, the log, and Ctrl-C.
//!
//! A request does not pass through here, so all of this is optional reading; the steps use it by names
//! that say what they do.
//!
//! | module | what it is for |
//! |---|---|
//! | [`options`] | what the reader types → options; the first line |
//! | [`shutdown`] | Ctrl-C and SIGTERM, as something that a server can wait for |
//! | [`log`] | a line per connection and request: who served, and whom |
//! | [`output`] | writing to people without ever waiting for them |
//! | [`tally`] | looks that found nothing → a line a second (steps 07 and 08) |

pub mod log;
pub mod options;
pub mod output;
pub mod shutdown;
pub mod tally;

pub use log::Log;
pub use options::{Options, Step};
pub use output::print;
pub use tally::Tally;
