//! Clients that write to every member of a cluster while a test does something to it, and checks
//! of what became of their writes.
//!
//! ```no_run
//! use quorate_lab::{Lab, Options};
//! use quorate_writers::{Endpoint, Load, Writers, check};
//!
//! let lab = Lab::up("example", Options::default())?;
//! let members = [Endpoint::plain("etcd-1", "http://10.77.0.11:2379")];
//! let mut writers = Writers::start(&lab, Load::new("/example/"))?;
//! writers.add(&members[0])?;
//! // … whatever is to be survived …
//! let run = writers.stop();
//! println!("{:?}", run.longest_gap());
//! assert!(check(&lab, &members, &run)?.is_empty());
//! # Ok::<(), quorate_writers::Error>(())
//! ```
//!
//! Two kinds of keys: such as are written once, by one client, to be found again on every member;
//! and a few registers that all clients read, write and compare-and-swap, whose history has to be
//! linearizable.
#![warn(missing_docs)]

mod ahead;
mod checks;
mod client;
mod endpoint;
mod history;
mod linear;
mod registers;
mod writers;

pub use checks::{Census, Finding, check};
pub use endpoint::{Endpoint, Tls};
pub use history::{Gap, Operation, Reply, Request, Run};
pub use linear::{Effect, Event, Violation, linearizable};
pub use writers::{Load, Writers};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nothing could be written or checked; what is wrong with a cluster is a [`Finding`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] quorate_lab::Error),
    /// A file or a thread.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// The URL or the certificates of an endpoint cannot be used.
    #[error("endpoint {0}: {1}")]
    Endpoint(String, String),
    /// Nothing can be said, since members do not answer.
    #[error("{0}: {1}")]
    Silent(String, String),
}
