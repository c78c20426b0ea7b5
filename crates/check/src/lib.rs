//! Starts a server, talks to it byte by byte, and says what it did.
//!
//! Nothing here knows how a server is built: it sees a process, a port and bytes, so the server may
//! be written in any language.

pub mod answer;
pub mod cargo;
pub mod checks;
pub mod class;
pub mod client;
pub mod exercises;
pub mod fixture;
pub mod plan;
pub mod points;
pub mod ports;
pub mod processes;
pub mod report;
pub mod sandbox;
pub mod scene;
pub mod server;
pub mod site;
pub mod steps;
pub mod story;
pub mod subject;
pub mod task;
mod temporary;
pub mod waiting;
pub mod wire;
pub mod words;

pub use answer::Answer;
pub use client::Client;
pub use fixture::Fixture;
pub use processes::raise_descriptor_limit;
pub use server::Server;
pub use site::Site;
pub use steps::{STEPS, Step};
pub use temporary::remove_temporary_folders;
pub(crate) use temporary::temporary_folder;
pub use waiting::wait_until;

/// Why a check failed, in words for the person whose server it is.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
