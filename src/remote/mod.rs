//! Hosts over SSH and etcd members behind them. No type of ssh2 or etcd-client leaves this module.
//!
//! One thread per host owns its session and multiplexes everything over it: see `actor`. A
//! [`Host`] is a cheap handle on it.

mod actor;
mod authenticate;
mod connect;
mod error;
mod etcd;
mod etcd_connect;
mod etcd_error;
mod etcd_snapshot;
mod greeting;
mod hold;
mod host;
mod known_hosts;
mod opening;
mod process;
mod relay;
mod route;
mod script;
mod ssh_config;
mod target;
mod upload;
mod wire;
mod work;

pub use connect::connect;
pub use error::{Address, Attempt, ConnectError, HostKey, RemoteError, SudoProblem, TunnelError};
pub use etcd::{EtcdClient, KvHash};
pub use etcd_connect::{EtcdEndpoint, EtcdTls};
pub use etcd_error::{EtcdError, EtcdErrorKind};
pub use etcd_snapshot::SavedSnapshot;
pub use hold::Held;
pub use host::{Host, OUTPUT_LIMIT, RoundTrips, Tunnel};
pub use process::{Exit, Output, Progress};
pub use target::{Policy, Target};
pub use upload::{Source, Upload};
