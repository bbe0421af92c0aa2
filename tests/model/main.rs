//! The model of etcd in `tests/pure/model` held against real members: the same steps are taken on both, and what the
//! real ones then say and do has to be something that the model allows.

#[path = "../pure/model/mod.rs"]
mod model;
mod replay;
mod scenarios;
mod seen;
mod server;
#[allow(dead_code)]
#[path = "../remote/sshd.rs"]
mod sshd;
