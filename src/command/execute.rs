//! What a command does once it is approved: it takes the lock, looks again, performs the plan and says how it ended.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::apply::Run;
use super::holder::{run_id, stamp, who};
use super::locking::{self, covers, lost, reachable};
use super::runlog;
use super::signals::{interrupts, signs};
use crate::action::RunFacts;
use crate::apply::lock::Holder;
use crate::apply::{self, Context, Event, Signal, Sink};
use crate::desired::model::TlsMode;
use crate::error::{BLOCKED, ERROR, Failure, INTERRUPTED, OK};
use crate::observed::Observed;
use crate::plan::{Plan, fingerprint};
use crate::render::event::{Finish, Severity};
use crate::schedule::{Outcome, Report};

/// Time for the log of a run that is over to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

/// Time for the screen where the operator wants the end at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Carries a plan out.
    pub(super) async fn execute(self, plan: Plan, observed: &Observed) -> Result<u8, Failure> {
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
            stopping: apply::Stopping::default(),
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
    use std::path::Path;

    use super::*;
    use crate::action::ActionId;
    use crate::command::session::intent;
    use crate::plan::Goal;

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
