//! Archives: from a server on this machine, from a path, from the cache.

mod cache;
mod download;
mod local;
mod releases;
mod support;
