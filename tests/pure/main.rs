//! Tests of what needs no host: each module is one subject.

mod addresses;
mod checker;
mod cluster_file;
mod comings;
mod costs;
mod crashes;
mod cuts;
mod drive;
mod etcd_options;
mod examples;
mod generations;
mod hosts;
mod invalid_files;
mod model;
mod mutations;
mod relocations;
mod rolls;
mod schema;
mod seats;
mod strangers;
mod told;
mod undo;
mod votes;
mod world;
