//! `lab`: sets up the machine, brings labs up and down, and looks into them.

mod cluster_file;
mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Throwaway hosts for tests, demo and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what labs need on this machine, once: root file system, keys, dnf, etcd releases.
    Setup,
    /// List the etcd releases in the cache, or make one (3.4, 3.5, 3.5-latest, 3.6, 3.7).
    Binaries {
        /// Which; 3.6 and 3.7 are built with Go, which takes minutes.
        version: Option<String>,
    },
    /// Bring up a lab that stays until `lab down`.
    Up {
        /// Keep the lab only until Enter or the end of the input.
        #[arg(long)]
        foreground: bool,
        /// How many hosts.
        #[arg(long, default_value_t = 3)]
        hosts: usize,
        /// Numbers of hosts, from 1, on which sudo asks `ops` for a password.
        #[arg(long, value_delimiter = ',')]
        password_sudo: Vec<usize>,
        #[command(flatten)]
        lab: Name,
    },
    /// Take a lab down without a trace.
    Down {
        #[command(flatten)]
        lab: Name,
    },
    /// Remove what is left of labs whose owners are dead, or one lab by name.
    Clean {
        /// The lab.
        name: Option<String>,
    },
    /// Show the labs of this machine and their hosts.
    Status,
    /// Open a shell on a host over SSH, or run a command there.
    Ssh {
        #[command(flatten)]
        lab: Name,
        /// The user to log in as.
        #[arg(short = 'l', long, default_value = "root")]
        user: String,
        /// The host, etcd-1 and so on.
        host: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a program of this machine in the lab's network.
    Exec {
        #[command(flatten)]
        lab: Name,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print a cluster file for the lab.
    ClusterFile {
        #[command(flatten)]
        lab: Name,
        /// The etcd version in it.
        #[arg(long, default_value = "3.5")]
        etcd: String,
    },
    /// Do something to a host.
    #[command(subcommand)]
    Fault(Fault),
    /// Serve the etcd releases in the lab's network, in the foreground.
    #[command(hide = true)]
    Serve {
        #[command(flatten)]
        lab: Name,
    },
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// Take the host's power.
    PowerOff(Target),
    /// Give it back, and wait for SSH.
    PowerOn(Target),
    /// Stop all processes of the host.
    Freeze(Target),
    /// Let them go on.
    Thaw(Target),
    /// Lose its packets: all, those in or out, or those of TCP ports.
    Partition {
        #[command(flatten)]
        target: Target,
        /// Which packets.
        #[arg(long, value_enum, default_value = "all", conflicts_with = "ports")]
        cut: Direction,
        /// Only TCP from and to these ports.
        #[arg(long, value_delimiter = ',')]
        ports: Vec<u16>,
    },
    /// End a partition.
    Heal(Target),
    /// Fill the file system of a directory.
    FillDisk {
        #[command(flatten)]
        target: Target,
        /// The directory.
        path: String,
    },
    /// Undo that.
    DrainDisk {
        #[command(flatten)]
        target: Target,
        /// The directory.
        path: String,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Direction {
    All,
    In,
    Out,
}

#[derive(Debug, clap::Args)]
struct Name {
    /// The lab's name.
    #[arg(long = "name", env = "QUORATE_LAB_NAME", default_value = "lab")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct Target {
    #[command(flatten)]
    lab: Name,
    /// The host, etcd-1 and so on.
    host: String,
}

fn main() -> ExitCode {
    match commands::run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}
