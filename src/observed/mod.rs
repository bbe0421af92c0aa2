//! What the hosts and etcd were seen to be, as data.
pub mod certificate;
