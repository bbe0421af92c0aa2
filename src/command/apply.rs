//! `quorate apply` and, with another goal, `quorate destroy`.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::saved;
use super::screen::Screen;
use super::session::{Connection, Session, intent, known, load};
use crate::apply::Event;
use crate::error::{BLOCKED, DECLINED, Failure, OK};
use crate::plan::{Goal, Plan};
use crate::render::Style;

/// Arguments of `apply`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A plan saved by `quorate plan --out`; it is the approval
    pub plan: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub auto_approve: bool,
    /// Accept that a cluster of one or two members is away while a member restarts
    #[arg(long, conflicts_with = "plan")]
    pub allow_downtime: bool,
    /// Give up the member of this node, whose data is lost or corrupt, and let a new one join on its host
    #[arg(long, value_name = "NODE", conflicts_with = "plan")]
    pub replace: Vec<String>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `destroy`.
#[derive(Debug, Clone, clap::Args)]
pub struct DestroyArgs {
    /// Do not ask
    #[arg(long)]
    pub auto_approve: bool,
    /// Delete data instead of moving it aside. There is no undo
    #[arg(long)]
    pub purge_data: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What both have.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Wait this long for another operator's lock, such as 30s or 5m
    #[arg(long, default_value = "0s", value_parser = patience, value_name = "DURATION")]
    pub lock_timeout: Duration,
    /// Print events as JSON lines; needs a saved plan or --auto-approve
    #[arg(long)]
    pub json: bool,
    /// One line per action in the plan
    #[arg(long)]
    pub concise: bool,
    #[command(flatten)]
    pub connection: Connection,
}

/// A time to wait. What nobody waits for would overflow the clock.
fn patience(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(31_557_600);
    let patience = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if patience > longest {
        return Err("a year is the longest".into());
    }
    Ok(patience)
}

/// Runs `apply`.
///
/// # Errors
/// See the exit codes in [`crate::error`].
pub async fn run(file: &Path, args: &Args, style: Style) -> Result<u8, Failure> {
    match &args.plan {
        Some(path) => {
            let plan = saved::read(path)?;
            let goal = &plan.intent.goal;
            let session = Session::open_for(goal, plan.desired.clone(), &args.run.connection)?;
            let run = Run {
                session,
                args: &args.run,
                style,
                command: "apply",
                approved: true,
                replans: false,
                screen: Screen::new(&args.run, style)?,
            };
            shown(&run.screen.clone(), run.saved(plan).await)
        }
        None => {
            let desired = load(file, style.color)?;
            known(&desired, &args.replace)?;
            let session = Session::open(desired, &args.run.connection)?;
            let goal = Goal::Converge {
                allow_downtime: args.allow_downtime,
                replace: args.replace.clone(),
            };
            let approved = args.auto_approve;
            let run = Run {
                session,
                args: &args.run,
                style,
                command: "apply",
                approved,
                replans: approved,
                screen: Screen::new(&args.run, style)?,
            };
            shown(&run.screen.clone(), run.fresh(goal).await)
        }
    }
}

/// Runs `destroy`.
///
/// # Errors
/// See the exit codes in [`crate::error`].
pub async fn run_destroy(file: &Path, args: &DestroyArgs, style: Style) -> Result<u8, Failure> {
    let goal = Goal::Destroy {
        purge_data: args.purge_data,
    };
    let session = Session::open_for(&goal, load(file, style.color)?, &args.run.connection)?;
    let approved = args.auto_approve;
    let run = Run {
        session,
        args: &args.run,
        style,
        command: "destroy",
        approved,
        replans: approved,
        screen: Screen::new(&args.run, style)?,
    };
    shown(&run.screen.clone(), run.fresh(goal).await)
}

/// Waits for the screen before anybody says more. No lock is held any more.
fn shown(screen: &Screen, result: Result<u8, Failure>) -> Result<u8, Failure> {
    screen.drain(None);
    result
}

/// A command that is carried out: what it shows and asks is here, what it does once it is approved in `execute`.
pub(super) struct Run<'a> {
    pub(super) session: Session,
    pub(super) args: &'a RunArgs,
    style: Style,
    pub(super) command: &'static str,
    approved: bool,
    /// Whether any other plan is approved as well.
    pub(super) replans: bool,
    pub(super) screen: Screen,
}

impl Run<'_> {
    async fn fresh(self, goal: Goal) -> Result<u8, Failure> {
        if self.args.json && !self.approved {
            return Err(Failure::new("--json needs a saved plan or --auto-approve"));
        }
        let observed = self.session.observe().await;
        let plan = self.session.plan(&observed, &intent(goal)?);
        self.show(&plan);
        if plan.is_empty() {
            if !plan.intent.goal.is_destroy() {
                self.client_certificates()?;
            }
            return Ok(if plan.blocked.is_empty() { OK } else { BLOCKED });
        }
        if !self.approved && !self.confirm(&plan)? {
            let what = match plan.intent.goal.is_destroy() {
                true => "Destroy",
                false => "Apply",
            };
            self.screen.print(format!("\n{what} cancelled.\n"));
            return Ok(DECLINED);
        }
        self.execute(plan, &observed).await
    }

    async fn saved(self, plan: Plan) -> Result<u8, Failure> {
        self.show(&plan);
        if plan.is_empty() {
            return Ok(if plan.blocked.is_empty() { OK } else { BLOCKED });
        }
        let observed = self.session.observe().await;
        self.execute(plan, &observed).await
    }

    pub(super) fn show(&self, plan: &Plan) {
        if self.args.json {
            self.screen.show(&Event::Planned(Box::new(plan.clone())));
        } else {
            self.screen.print(super::plan::text(
                plan,
                false,
                self.args.concise,
                self.style,
            ));
        }
    }

    fn confirm(&self, plan: &Plan) -> Result<bool, Failure> {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new("there is no terminal to ask on").remedy(
                "approve with --auto-approve, or save the plan with `quorate plan --out FILE` and apply that file",
            ));
        }
        loop {
            self.screen.print(question(plan));
            self.screen.drain(None);
            let mut answer = String::new();
            if std::io::stdin().lock().read_line(&mut answer)? == 0 {
                return Ok(false);
            }
            match answer.trim() {
                "yes" => return Ok(true),
                "details" => self
                    .screen
                    .print(super::plan::text(plan, false, false, self.style)),
                _ => return Ok(false),
            }
        }
    }

    /// Certificates for people and programs, on the operator's side.
    pub(super) fn client_certificates(&self) -> Result<(), Failure> {
        let written = self.session.operator.client_certificates();
        for (name, files) in written.map_err(|error| Failure::new(error.to_string()))? {
            if files.issued.is_some() && !self.args.json {
                self.screen.print(format!(
                    "Wrote the certificate of {name}: use it with `. {}`.\n",
                    files.environment.display()
                ));
            }
        }
        Ok(())
    }
}

fn question(plan: &Plan) -> String {
    let name = &plan.desired.cluster.name;
    let what = if plan.intent.goal.is_destroy() {
        format!("Do you really want to destroy cluster {name}? There is no undo.")
    } else {
        format!("Do you want to perform these actions on cluster {name}?")
    };
    format!(
        "\n{what}\n  Only 'yes' will be accepted to approve; 'details' shows the whole plan.\n\n  Enter a value (yes / no / details): "
    )
}
