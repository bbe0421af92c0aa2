//! `quorate plan`.

use std::path::{Path, PathBuf};

use super::session::{Connection, Session, intent, known, load};
use super::{out, saved};
use crate::error::{BLOCKED, CHANGES, Failure, OK};
use crate::plan::{Goal, Plan};
use crate::render::{self, Style};

/// Arguments of `plan`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Plan to take everything away that the hosts' markers say is ours
    #[arg(long)]
    pub destroy: bool,
    /// With --destroy: delete data instead of moving it aside
    #[arg(long, requires = "destroy")]
    pub purge_data: bool,
    /// Accept that a cluster of one or two members is away while a member restarts
    #[arg(long)]
    pub allow_downtime: bool,
    /// Give up the member of this node, whose data is lost or corrupt, and let a new one join on its host
    #[arg(long, value_name = "NODE")]
    pub replace: Vec<String>,
    /// Save the plan to a file, for `quorate apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Exit with 2 when there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// One line per action
    #[arg(long)]
    pub concise: bool,
    /// Tell why this action is there and why in its place, instead of the plan
    #[arg(long, value_name = "ACTION", conflicts_with_all = ["json", "concise"])]
    pub explain: Option<String>,
    #[command(flatten)]
    pub connection: Connection,
}

impl Args {
    fn goal(&self) -> Goal {
        if self.destroy {
            Goal::Destroy {
                purge_data: self.purge_data,
            }
        } else {
            Goal::Converge {
                allow_downtime: self.allow_downtime,
                replace: self.replace.clone(),
            }
        }
    }
}

/// Runs `plan`.
///
/// # Errors
/// An unreadable file, or one that cannot be written; hosts that cannot be reached are part of the plan.
pub async fn run(file: &Path, args: &Args, style: Style) -> Result<u8, Failure> {
    let desired = load(file, style.color)?;
    known(&desired, &args.replace)?;
    let goal = args.goal();
    let session = Session::open_for(&goal, desired, &args.connection)?;
    let observed = session.observe().await;
    let plan = session.plan(&observed, &intent(goal)?);
    if let Some(out) = &args.out {
        saved::write(&plan, out)?;
    }
    if let Some(action) = &args.explain {
        explain(&plan, action, style)?;
        return Ok(exit_code(&plan, args.detailed_exitcode));
    }
    out::print(&text(&plan, args.json, args.concise, style))?;
    if let (Some(out), false) = (&args.out, args.json) {
        out::print(&format!(
            "\nSaved the plan to {0}. To perform exactly these actions, run:\n  quorate apply {0}\n",
            out.display()
        ))?;
    }
    Ok(exit_code(&plan, args.detailed_exitcode))
}

/// Prints one action at length.
pub(super) fn explain(plan: &Plan, action: &str, style: Style) -> Result<(), Failure> {
    let text = render::explain::explain(plan, action, style)
        .map_err(|unknown| Failure::new(unknown.message).remedy(unknown.remedy))?;
    out::print(&text)
}

/// A plan as it is printed.
pub(super) fn text(plan: &Plan, json: bool, concise: bool, style: Style) -> String {
    if json {
        render::json::document(&render::json::plan::plan(plan))
    } else {
        render::plan::plan(plan, render::plan::Options { style, concise })
    }
}

/// 3 where something is blocked, 2 where there are changes and that is asked for.
pub fn exit_code(plan: &Plan, detailed: bool) -> u8 {
    if !plan.blocked.is_empty() {
        BLOCKED
    } else if detailed && !plan.is_empty() {
        CHANGES
    } else {
        OK
    }
}
