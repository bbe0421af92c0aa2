//! Performs the operations of one action on its host.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::materials::Issuer;
use super::script::{self, EtcdCall, Step};
use super::stopping::Stopping;
use super::{Event, Sink, leader, membership, unit};
use crate::action::{Action, ActionId, Operation, RunFacts};
use crate::desired::model::Desired;
use crate::observe::{Fleet, Operator};
use crate::remote::{Exit, Host, Source, Upload};
use crate::schedule::Spare;

/// Time for a proof: a script of the same run may be at work.
const PROOF: Duration = Duration::from_secs(900);
/// Time for an upload.
const UPLOAD: Duration = Duration::from_secs(900);

/// What an action needs of its run.
#[derive(Clone)]
pub struct Context {
    /// The connected hosts.
    pub fleet: Arc<Fleet>,
    /// The operator's side.
    pub operator: Operator,
    /// The desired state of the plan.
    pub desired: Arc<Desired>,
    /// The run, as the lock names it.
    pub run_id: String,
    /// Where events go.
    pub sink: Sink,
    /// Held by whoever stops a member.
    pub stopping: Stopping,
    /// Directory for snapshots, made when it is needed; `None` where nobody knows a place.
    pub snapshots: Option<std::path::PathBuf>,
}

/// How operations ended early.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub why: String,
    /// Whether that was before those that stop the member of an action which may do so only as long as it is spared.
    pub balked: bool,
    /// Whether they went well and it was not safe to go on.
    pub refused: bool,
    /// Whether nothing was done yet that could be taken back.
    pub untouched: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self {
            why,
            balked: false,
            refused: false,
            untouched: false,
        }
    }
}

impl Failure {
    /// It was not safe to go on.
    pub(super) fn refused(why: String) -> Self {
        Self {
            balked: true,
            refused: true,
            ..why.into()
        }
    }

    /// What it means for an action whose operations so far have left its member running, or touched nothing at all. One
    /// that was refused says so itself.
    fn after(self, balked: bool, untouched: bool) -> Self {
        if self.refused {
            return self;
        }
        Self {
            balked,
            untouched,
            ..self
        }
    }

    /// Before anything was done.
    fn untouched(why: String) -> Self {
        Self {
            untouched: true,
            ..why.into()
        }
    }
}

/// Performs an action.
pub async fn action(
    context: &Context,
    action: &Action,
    mut facts: RunFacts,
) -> Result<(), Failure> {
    if action.kind.as_kind().reads_membership() {
        let members = membership::members(context).await;
        facts.members = members.map_err(Failure::untouched)?;
    }
    if let Some(why) = action.kind.as_kind().refuses(&facts) {
        return Err(Failure::untouched(why));
    }
    let steps = steps(context, action, action.kind.as_kind().operations(&facts)).await;
    let steps = steps.map_err(Failure::untouched)?;
    let mut spare = Spare::of(action);
    let mut untouched = true;
    for one in steps {
        untouched &= matches!(one, Step::Script { touches: false, .. });
        let first = spare.take_if(|_| stops(&one));
        let done = match first {
            Some(spare) => stop(context, action, one, spare).await,
            None => step(context, action, one, spare.as_ref()).await,
        };
        done.map_err(|failure| failure.after(spare.is_some(), untouched))?;
    }
    Ok(())
}

/// Takes an action back; `stops_again` where it may have stopped its member.
pub async fn undo(context: &Context, action: &Action, stops_again: bool) -> Result<(), Failure> {
    let mut spare = Spare::of_undo(action).filter(|_| stops_again);
    for one in steps(context, action, action.kind.as_kind().undo()).await? {
        match spare.take_if(|_| stops(&one)) {
            Some(spare) => stop(context, action, one, spare).await?,
            None => step(context, action, one, None).await?,
        }
    }
    Ok(())
}

fn stops(step: &Step) -> bool {
    matches!(step, Step::Script { stops: true, .. })
}

/// Performs a step that stops the action's member, once that can be spared.
async fn stop(context: &Context, action: &Action, one: Step, spare: Spare) -> Result<(), Failure> {
    let look = || context.fleet.look();
    let guard = context.stopping.spared(spare, look).await;
    let guard = guard.map_err(Failure::refused)?;
    let work = step(context, action, one, None);
    context
        .stopping
        .alone((spare.member(), guard), look, work)
        .await
}

/// Operations as what is performed one after the other.
async fn steps(
    context: &Context,
    action: &Action,
    operations: Vec<Operation>,
) -> Result<Vec<Step>, String> {
    if operations.is_empty() {
        return Ok(vec![]);
    }
    let (context, node) = (context.clone(), action.node.clone().unwrap_or_default());
    // Issuing RSA keys takes its time, and a prompt may ask for a passphrase.
    tokio::task::spawn_blocking(move || {
        let mut issuer = Issuer::new(&context.desired, &node, &context.operator);
        script::steps(&operations, &context.run_id, &mut issuer)
    })
    .await
    .map_err(|error| error.to_string())?
}

/// Performs one step; `spare` is what is asked before each attempt at a call that disturbs the action's member.
async fn step(
    context: &Context,
    action: &Action,
    step: Step,
    spare: Option<&Spare>,
) -> Result<(), Failure> {
    match step {
        Step::Script { text, limit, .. } => {
            let host = host(context, action).await?;
            run_script(&host, text.expose_secret(), limit).await?;
        }
        Step::Upload { sha256, arch, to } => {
            let host = host(context, action).await?;
            upload(context, &host, &action.id, (&sha256, &arch), to).await?;
        }
        Step::Etcd(EtcdCall::MoveLeader(member)) => leader::move_away(context, member).await?,
        Step::Etcd(EtcdCall::AwaitDialable(member, urls)) => {
            let heard = membership::await_dialable(context, member, &urls).await;
            if let Err(why) = heard {
                // Nobody reaches one that crashes, and there is more to say of that.
                let seen = unit::look(context.clone(), action.clone()).await;
                return Err(unit::hopeless(&mut unit::fresh(&seen), &seen)
                    .unwrap_or(why)
                    .into());
            }
        }
        Step::Etcd(call) => membership::perform(context, &call, spare).await?,
    }
    Ok(())
}

/// The host of an action. What only talks to etcd does not ask for it: its host may be gone for ever.
async fn host(context: &Context, action: &Action) -> Result<Host, String> {
    let node = action.node.as_deref().unwrap_or_default();
    let host = context.fleet.host(node).await;
    host.map_err(|unknown| unknown.detail().to_owned())
}

/// Proves on a host that the lock is this run's, before etcd is asked for something: what was decided under a lock that
/// has expired since is not done any more.
pub(super) async fn prove(context: &Context, node: &str) -> Result<(), String> {
    let host = context.fleet.host(node).await;
    let host = host.map_err(|unknown| unknown.detail().to_owned())?;
    run_script(&host, &script::proof(&context.run_id), PROOF).await
}

async fn run_script(host: &Host, text: &str, limit: Duration) -> Result<(), String> {
    let output = host
        .script(text.as_bytes(), limit)
        .await
        .map_err(|error| error.to_string())?;
    if output.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    if last.is_empty() {
        return Err(match output.status {
            Exit::Code(code) => format!("the script ended with status {code}"),
            Exit::Signal(signal) => format!("the script was ended by {signal}"),
        });
    }
    Err(last)
}

async fn upload(
    context: &Context,
    host: &Host,
    id: &ActionId,
    (sha256, arch): (&str, &str),
    to: String,
) -> Result<(), String> {
    let observed = context.operator.archive(arch).await?;
    if observed.fact.sha256 != sha256 {
        return Err(format!(
            "the archive is not the planned one ({sha256}) any more: plan again"
        ));
    }
    let (sink, id, total) = (context.sink.clone(), id.clone(), observed.size);
    let upload = Upload {
        source: Source::File(observed.path),
        size: observed.size,
        sha256: sha256.to_owned(),
        path: to,
        mode: 0o600,
        owner: "root:root".into(),
        guard: script::guard(&context.run_id),
    };
    let progress = Arc::new(move |done: u64| {
        sink(&Event::Bytes {
            id: id.clone(),
            done,
            total,
        })
    });
    host.upload(&upload, Some(progress), UPLOAD)
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::Failure;

    /// What asked in vain has stopped nobody, though it asks no more.
    #[test]
    fn who_is_refused_has_stopped_nobody() {
        let refused = Failure::refused("not safe".into()).after(false, true);
        assert!(refused.refused && refused.balked && !refused.untouched);
        let failed = Failure::from("it failed".to_owned()).after(false, false);
        assert!(!failed.refused && !failed.balked && !failed.untouched);
        let before = Failure::from("it failed".to_owned()).after(true, true);
        assert!(!before.refused && before.balked && before.untouched);
    }
}
