//! `quorate apply` and, with another goal, `quorate destroy`.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::holder::{run_id, stamp, who};
use super::locking::{self, covers, lost, reachable};
use super::screen::Screen;
use super::session::{Connection, Session, intent, known, load};
use super::signals::{interrupts, signs};
use super::{runlog, saved};
use crate::action::RunFacts;
use crate::apply::lock::Holder;
use crate::apply::{self, Context, Event, Signal, Sink};
use crate::desired::model::TlsMode;
use crate::error::{BLOCKED, DECLINED, ERROR, Failure, INTERRUPTED, OK};
use crate::observed::Observed;
use crate::plan::{Goal, Plan, fingerprint};
use crate::render::Style;
use crate::render::event::{Finish, Severity};
use crate::schedule::{Outcome, Report};

/// Time for the log of a run that is over to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

/// Time for the screen where the operator wants the end at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

struct Run<'a> {
    session: Session,
    args: &'a RunArgs,
    style: Style,
    command: &'static str,
    approved: bool,
    /// Whether any other plan is approved as well.
    replans: bool,
    screen: Screen,
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

    fn show(&self, plan: &Plan) {
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

    async fn execute(self, plan: Plan, observed: &Observed) -> Result<u8, Failure> {
        let run_id = run_id()?;
        let log = runlog::RunLog::create(&run_id, self.command);
        let holder = Holder {
            operator: who(),
            command: format!("quorate {}", self.command),
            since: OffsetDateTime::now_utc().unix_timestamp(),
            version: env!("CARGO_PKG_VERSION").into(),
            run: run_id.clone(),
        };
        let screen = self.screen.clone();
        let write: Sink = Arc::new(log.writer());
        let sink: Sink = {
            let (screen, write) = (screen.clone(), write.clone());
            Arc::new(move |event: &Event| {
                write(event);
                screen.show(event);
            })
        };
        let result = self.run(plan, observed, run_id, &holder, &sink, &log).await;
        if let Err(Failure {
            message: Some(message),
            remedy,
            ..
        }) = &result
        {
            // On a terminal it stands at the end anyway.
            let tell = if self.args.json { sink } else { write };
            tell(&Event::Message {
                severity: Severity::Error,
                summary: message.clone(),
                detail: remedy.clone().unwrap_or_default(),
            });
        }
        log.drain(LOG_PATIENCE);
        result
    }

    async fn run(
        &self,
        plan: Plan,
        observed: &Observed,
        run_id: String,
        holder: &Holder,
        sink: &Sink,
        log: &runlog::RunLog,
    ) -> Result<u8, Failure> {
        let (signals, incoming) = mpsc::unbounded_channel();
        let nodes = reachable(observed);
        covers(&plan, observed, &nodes)?;
        let (fleet, patience) = (&self.session.fleet, self.args.lock_timeout);
        let lock = locking::take(fleet, &nodes, holder, patience, sink, &signals).await?;
        sink(&Event::LockTaken);
        let result = self
            .locked(plan, &lock.nodes, run_id, sink, incoming, signals)
            .await;
        lock.release().await;
        let (plan, report, view) = result?;
        let finish = Finish {
            next: next(&plan, &report),
            plan,
            report,
            view,
        };
        sink(&Event::Finished(Box::new(finish.clone())));
        let Finish { plan, report, .. } = finish;
        if let (false, false, Some(path)) = (self.args.json, report.is_complete(), log.path()) {
            self.screen
                .print(format!("The log of this run is {}.\n", path.display()));
        }
        if report.is_complete() && !plan.intent.goal.is_destroy() {
            self.client_certificates()?;
        }
        Ok(exit_code(&plan, &report))
    }

    async fn locked(
        &self,
        mut plan: Plan,
        nodes: &[String],
        run_id: String,
        sink: &Sink,
        incoming: mpsc::UnboundedReceiver<Signal>,
        signals: mpsc::UnboundedSender<Signal>,
    ) -> Result<(Plan, Report, Option<crate::observed::ClusterView>), Failure> {
        // What was planned on must still hold, now that nobody else can change it.
        let observed = self.session.observe().await;
        let facts = fingerprint::facts(&self.session.desired, &observed);
        let changed = plan.changed_fact(&facts).map(|(name, then, now)| {
            format!(
                "{name} was {}, and is {} now",
                then.unwrap_or("not known"),
                now.unwrap_or("not known")
            )
        });
        if let Some(changed) = changed {
            // Whoever approves whatever is planned wants the plan of now: the rest of a run that was killed, or the
            // run that the lock was waited for, changed the facts. The lock must cover what is planned on.
            if let Some((node, unknown)) = lost(&observed, nodes) {
                return Err(Failure::new(format!("{node}: {}", unknown.detail()))
                    .code(BLOCKED)
                    .remedy("it could be looked at before the lock was taken; nothing was changed; plan again"));
            }
            if !self.replans || reachable(&observed) != nodes {
                return Err(Failure::new(format!("the plan is stale: {changed}"))
                    .code(BLOCKED)
                    .remedy("nothing was changed; plan again"));
            }
            sink(&Event::Message {
                severity: Severity::Info,
                summary: "Planned again under the lock".into(),
                detail: format!("Since the plan was made, {changed}."),
            });
            plan = self.session.plan(&observed, &plan.intent);
            self.show(&plan);
            // Members may have come while the lock was waited for.
            covers(&plan, &observed, nodes)?;
        }
        let mut authority = None;
        let tls = &plan.desired.tls;
        let managed = tls.client == TlsMode::Managed || tls.peer == TlsMode::Managed;
        if managed && !plan.intent.goal.is_destroy() {
            let operator = self.session.operator.clone();
            let tls = tokio::task::spawn_blocking(move || {
                let authority = operator
                    .open_authority()
                    .map_err(|error| error.to_string())?;
                let fingerprint = authority.certificate().current().fingerprint_sha256.clone();
                let (tls, _) = operator.etcd_tls()?;
                Ok::<_, String>((fingerprint, tls))
            })
            .await
            .map_err(|error| Failure::new(error.to_string()))?
            .map_err(Failure::new)?;
            let (fingerprint, tls) = tls;
            authority = Some(fingerprint);
            self.session.fleet.set_tls(tls);
        }
        // Once it listens nobody else does: it stays until the program ends.
        let screen = self.screen.clone();
        tokio::spawn(async move {
            if let Ok(signs) = signs()
                && interrupts(&signals, signs).await
            {
                screen.drain(Some(LAST_WORDS));
                std::process::exit(i32::from(INTERRUPTED));
            }
        });
        let context = Context {
            fleet: self.session.fleet.clone(),
            operator: self.session.operator.clone(),
            desired: self.session.desired.clone(),
            run_id,
            sink: sink.clone(),
            snapshots: runlog::state_dir().map(|dir| dir.join("snapshots")),
        };
        let run_facts = RunFacts {
            fingerprint: plan.fingerprint.clone(),
            operator: who(),
            at: stamp(),
            authority,
            members: Vec::new(),
        };
        let report = apply::run(
            &context,
            &plan,
            &run_facts,
            self.args.connection.parallelism,
            incoming,
        )
        .await;
        let view = if plan.intent.goal.is_destroy() {
            None
        } else {
            Some(self.session.fleet.look().await)
        };
        Ok((plan, report, view))
    }

    /// Certificates for people and programs, on the operator's side.
    fn client_certificates(&self) -> Result<(), Failure> {
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

fn exit_code(plan: &Plan, report: &Report) -> u8 {
    if report.stopped.as_deref() == Some("interrupted") && !report.is_complete() {
        INTERRUPTED
    } else if report.count(|outcome| matches!(outcome, Outcome::Refused(_))) > 0
        && report.count(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Undone(_))) == 0
        && report.stopped.is_none()
    {
        BLOCKED
    } else if report.count(|outcome| *outcome != Outcome::Done) > 0 {
        ERROR
    } else if plan.blocked.is_empty() {
        OK
    } else {
        BLOCKED
    }
}

/// The command to run next.
fn next(plan: &Plan, report: &Report) -> Option<String> {
    if report.is_complete() {
        (!plan.intent.goal.is_destroy()).then(|| "quorate status".into())
    } else if plan.intent.goal.is_destroy() {
        Some("quorate destroy".into())
    } else {
        Some("quorate plan".into())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::action::ActionId;

    pub(in crate::command) fn plan() -> Plan {
        let text = "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n\
                    [etcd.install]\nmethod = \"package\"\n[[node]]\nname = \"etcd-1\"\nip = \"10.0.0.1\"\n";
        let (desired, _) = crate::desired::parse(text, "f.toml", Path::new("/"), None).unwrap();
        let goal = Goal::Destroy { purge_data: false };
        let intent = intent(goal).unwrap();
        crate::plan::plan(
            &desired,
            &Observed::default(),
            &intent,
            OffsetDateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_refusal_for_safety_is_no_error() {
        let code = |outcomes: &[Outcome], stopped: Option<&str>| {
            let outcomes = outcomes.iter().enumerate();
            let report = Report {
                outcomes: outcomes
                    .map(|(number, outcome)| (ActionId(number.to_string()), outcome.clone()))
                    .collect(),
                stopped: stopped.map(str::to_owned),
            };
            exit_code(&plan(), &report)
        };
        let refused = || Outcome::Refused("not safe: 2 of 3".into());
        let not_started = || Outcome::NotStarted("a is not done".into());
        let failed = || Outcome::Failed("it did".into());
        assert_eq!(code(&[Outcome::Done], None), OK);
        assert_eq!(
            code(&[Outcome::Done, refused(), not_started()], None),
            BLOCKED
        );
        assert_eq!(code(&[refused(), failed()], None), ERROR);
        assert_eq!(code(&[not_started(), failed()], None), ERROR);
        assert_eq!(code(&[refused()], Some("the lock was lost: gone")), ERROR);
        assert_eq!(code(&[refused()], Some("interrupted")), INTERRUPTED);
    }
}
