//! The authority and its certificates, judged by other programs: openssl, etcd, etcdctl and curl.

mod authority;
mod etcd;
mod leaves;
mod operator;
mod properties;
mod protection;
mod support;
