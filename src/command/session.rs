//! What the commands that talk to hosts share: the file, the fleet, the operator's side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::RangedU64ValueParser;
use time::OffsetDateTime;

use super::{out, validate};
use crate::artifact;
use crate::desired::Desired;
use crate::error::{ERROR, Failure};
use crate::observe::{self, Fleet, Operator};
use crate::observed::Observed;
use crate::plan::{self, Goal, Intent, Plan};
use crate::remote::Policy;
use crate::render::diagnostic;
use crate::secret::Resolver;

/// Options of every command that connects.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// Add the keys of hosts that no known_hosts file mentions; changed and revoked keys are refused all the same
    #[arg(long)]
    pub accept_new_host_keys: bool,
    /// How many hosts are worked on at a time
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub parallelism: usize,
}

/// A desired state with everything that is needed to look at its hosts.
pub struct Session {
    /// The desired state.
    pub desired: Arc<Desired>,
    /// Connected hosts.
    pub fleet: Arc<Fleet>,
    /// The operator's own side.
    pub operator: Operator,
}

/// Reads the cluster file; errors and warnings go to standard error.
pub fn load(file: &Path, colour: bool) -> Result<Desired, Failure> {
    match validate::load(file) {
        Ok((desired, warnings)) => {
            if !warnings.is_empty() {
                out::tell(&diagnostic::render(&warnings, colour));
            }
            Ok(desired)
        }
        Err(errors) => {
            out::tell(&diagnostic::render(&errors, colour));
            Err(Failure::silent(ERROR))
        }
    }
}

impl Session {
    /// A session under a desired state.
    ///
    /// # Errors
    /// When there is no certificate to talk to members with.
    pub fn open(desired: Desired, connection: &Connection) -> Result<Self, Failure> {
        Self::with(desired, connection, false)
    }

    /// A session for this goal: what is destroyed need not be talked to.
    ///
    /// # Errors
    /// As of [`Session::open`].
    pub fn open_for(
        goal: &Goal,
        desired: Desired,
        connection: &Connection,
    ) -> Result<Self, Failure> {
        Self::with(desired, connection, goal.is_destroy())
    }

    fn with(desired: Desired, connection: &Connection, lenient: bool) -> Result<Self, Failure> {
        let desired = Arc::new(desired);
        let secrets = Arc::new(Resolver::new());
        let cache =
            artifact::default_cache().unwrap_or_else(|| PathBuf::from("/var/cache/quorate"));
        let operator = Operator::new(desired.clone(), secrets.clone(), cache.clone());
        let (tls, warning) = match operator.etcd_tls() {
            Ok(found) => found,
            Err(error) if lenient => (None, Some(format!("members cannot be asked: {error}"))),
            Err(error) => return Err(Failure::new(error)),
        };
        if let Some(warning) = warning {
            out::tell(&format!("Warning: {warning}\n"));
        }
        let policy = Policy {
            accept_new_host_keys: connection.accept_new_host_keys,
        };
        let fleet = Arc::new(Fleet::new(
            desired.clone(),
            secrets,
            policy,
            tls,
            cache,
            connection.parallelism,
        ));
        Ok(Self {
            desired,
            fleet,
            operator,
        })
    }

    /// Observes everything.
    pub async fn observe(&self) -> Observed {
        observe::observe(&self.fleet, &self.operator).await
    }

    /// Plans on what was observed.
    pub fn plan(&self, observed: &Observed, intent: &Intent) -> Plan {
        plan::plan(&self.desired, observed, intent, OffsetDateTime::now_utc())
    }
}

/// Whether the file has these nodes: a name that it does not have is a slip, and nobody is asked for it.
pub fn known(desired: &Desired, replace: &[String]) -> Result<(), Failure> {
    let names = || desired.nodes.iter().map(|node| node.name.as_str());
    let Some(wrong) = replace
        .iter()
        .find(|name| !names().any(|node| node == *name))
    else {
        return Ok(());
    };
    let nearest = names().min_by_key(|name| strsim::damerau_levenshtein(name, wrong));
    Err(Failure::new(format!(
        "--replace {wrong}: the cluster file has no such node"
    ))
    .remedy(format!(
        "did you mean {}? A node that is gone for ever is taken out of the file instead: its member is removed then",
        nearest.unwrap_or_default()
    )))
}

/// An intent with fresh randomness.
pub fn intent(goal: Goal) -> Result<Intent, Failure> {
    let mut nonce = [0u8; 8];
    getrandom::fill(&mut nonce).map_err(|error| Failure::new(format!("no randomness: {error}")))?;
    Ok(Intent {
        goal,
        nonce: hex::encode(nonce),
    })
}
