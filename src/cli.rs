//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::command::{apply, graph, init, plan, show, status};

/// Plans and applies etcd clusters over SSH from a version-controlled TOML file.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 done or nothing to do; 1 error; 2 changes (plan --detailed-exitcode); \
3 blocked or refused for safety; 4 declined at the prompt; 5 another operator holds the lock; 130 interrupted."
)]
pub struct Cli {
    /// The cluster file
    #[arg(
        short,
        long,
        global = true,
        default_value = "cluster.toml",
        env = "QUORATE_FILE",
        value_name = "FILE"
    )]
    pub file: PathBuf,
    /// Write no colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented cluster file from names and addresses
    Init(init::Args),
    /// Check the cluster file
    Validate,
    /// Bring cluster files into canonical form
    Fmt {
        /// Files, or `-` for standard input; the cluster file when none is given
        files: Vec<PathBuf>,
        /// Change nothing; exit with 1 when a file is not in canonical form
        #[arg(long)]
        check: bool,
    },
    /// Show what apply would do
    Plan(plan::Args),
    /// Do what the plan says
    Apply(apply::Args),
    /// Take everything away that the hosts' markers say is ours
    Destroy(apply::DestroyArgs),
    /// Show the members and their health
    Status(status::Args),
    /// Print a saved plan
    Show(show::Args),
    /// Print the action graph as DOT or Mermaid
    Graph(graph::Args),
    /// Print the JSON Schema of the cluster file
    Schema,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}
