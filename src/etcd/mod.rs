//! What etcd is, as data: identifiers, WAL metadata, versions and options.

pub mod id;
pub mod option;
pub mod version;
pub mod wal;
