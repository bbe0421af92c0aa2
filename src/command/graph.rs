//! `quorate graph`.

use std::path::{Path, PathBuf};

use super::session::{Connection, Session, intent, load};
use super::{out, saved};
use crate::error::{Failure, OK};
use crate::plan::Goal;
use crate::render::{self, Style};

/// Arguments of `graph`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A saved plan; without one a plan is made
    pub plan: Option<PathBuf>,
    /// The graph of a destroy plan
    #[arg(long, conflicts_with = "plan")]
    pub destroy: bool,
    /// The language to print
    #[arg(long, value_enum, default_value_t = Format::Dot)]
    pub format: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Languages of graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
}

/// Runs `graph`.
///
/// # Errors
/// An unreadable cluster file or plan.
pub async fn run(file: &Path, args: &Args, style: Style) -> Result<u8, Failure> {
    let plan = match &args.plan {
        Some(path) => saved::read(path)?,
        None => {
            let session = Session::open(load(file, style.color)?, &args.connection)?;
            let goal = if args.destroy {
                Goal::Destroy { purge_data: false }
            } else {
                Goal::Converge {
                    allow_downtime: false,
                    replace: Vec::new(),
                }
            };
            session.plan(&session.observe().await, &intent(goal)?)
        }
    };
    let text = match args.format {
        Format::Dot => render::graph::dot(&plan),
        Format::Mermaid => render::graph::mermaid(&plan),
    };
    out::print(&text.map_err(|error| Failure::new(error.to_string()))?)?;
    Ok(OK)
}
