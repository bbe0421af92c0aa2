//! What etcd is, as data.

pub mod option;
pub mod version;
