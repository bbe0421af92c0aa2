//! What befalls operators and their hosts: runs that are killed, interrupted, cut off or in each
//! other's way, hosts that are not as they should be, and SSH in all its settings. On real hosts.

mod crash;
mod harness;
mod hosts;
mod interrupt;
mod kill;
mod lock;
mod network;
mod ssh;
