//! `quorate show`.

use std::path::PathBuf;

use super::{out, saved};
use crate::error::{Failure, OK};
use crate::render::Style;

/// Arguments of `show`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A plan saved by `quorate plan --out`
    pub plan: PathBuf,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// One line per action
    #[arg(long)]
    pub concise: bool,
    /// Tell why this action is there and why in its place, instead of the plan
    #[arg(long, value_name = "ACTION", conflicts_with_all = ["json", "concise"])]
    pub explain: Option<String>,
}

/// Runs `show`.
///
/// # Errors
/// The file is no plan of this version.
pub fn run(args: &Args, style: Style) -> Result<u8, Failure> {
    let plan = saved::read(&args.plan)?;
    if let Some(action) = &args.explain {
        super::plan::explain(&plan, action, style)?;
        return Ok(OK);
    }
    out::print(&super::plan::text(&plan, args.json, args.concise, style))?;
    Ok(OK)
}
