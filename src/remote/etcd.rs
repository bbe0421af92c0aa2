//! One etcd member, through its host's SSH session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, GetOptions, MemberAddOptions};

use super::etcd_error::{EtcdError, EtcdErrorKind};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::etcd::{Member, MemberStatus};

/// For Status, lists and other reads.
const READ: Duration = Duration::from_secs(5);
/// For what goes through raft.
const CHANGE: Duration = Duration::from_secs(12);
/// For hashing the key space, which takes its time on large ones.
const HASH: Duration = Duration::from_secs(60);

/// Hash of the key space at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// Revision up to which history is compacted: hashes compare only under the same one.
    pub compact_revision: i64,
    /// Revision of the answering member.
    pub revision: i64,
}

/// A client of exactly one member: etcd-client itself has no fail-over, and the answers of Status
/// are the member's own. Keeps the SSH session open.
#[derive(Clone)]
pub struct EtcdClient {
    pub(super) node: String,
    pub(super) client: Client,
    pub(super) tls: bool,
    /// Why the last connection did not come about.
    pub(super) failed: Arc<Mutex<Option<EtcdErrorKind>>>,
    pub(super) first: MemberStatus,
}

impl std::fmt::Debug for EtcdClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdClient")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl EtcdClient {
    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The status that [`EtcdClient::connect`] got.
    #[must_use]
    pub fn first_status(&self) -> &MemberStatus {
        &self.first
    }

    /// Bounds and judges a call. `changes` says whether it changes anything.
    async fn call<T>(
        &self,
        call: &'static str,
        limit: Duration,
        changes: bool,
        answer: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, EtcdError> {
        let (kind, open) = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                // Without a connection nothing was sent.
                match self
                    .failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take()
                {
                    Some(kind) => (kind, false),
                    None => judge(&error, self.tls),
                }
            }
            Err(_) => (
                EtcdErrorKind::Timeout {
                    seconds: limit.as_secs(),
                },
                true,
            ),
        };
        Err(EtcdError {
            node: self.node.clone(),
            call,
            kind,
            ambiguous: changes && open,
        })
    }

    /// What the member says of itself. Works without quorum.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn status(&self) -> Result<MemberStatus, EtcdError> {
        let mut client = self.client.clone();
        let status = self.call("status", READ, false, client.status()).await?;
        Ok(member_status(&status))
    }

    /// The membership as this member knows it, which may be behind. Not answered by learners.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn member_list(&self) -> Result<Vec<Member>, EtcdError> {
        let mut client = self.client.clone();
        let list = self
            .call("member list", READ, false, client.member_list())
            .await?;
        Ok(members(list.members()))
    }

    /// The membership of now: a linearizable read comes first, behind which the member's own view
    /// cannot lie. Needs quorum.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn member_list_linearizable(&self) -> Result<Vec<Member>, EtcdError> {
        let mut client = self.client.clone();
        let options = GetOptions::new().with_count_only();
        self.call(
            "linearizable read",
            READ,
            false,
            client.get("quorate/barrier", Some(options)),
        )
        .await?;
        self.member_list().await
    }

    /// Hash of the key space up to `revision`; 0 is the newest.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn hash_kv(&self, revision: i64) -> Result<KvHash, EtcdError> {
        let mut client = self.client.clone();
        let answer = self
            .call("hash", HASH, false, client.hash_kv(revision))
            .await?;
        Ok(KvHash {
            hash: answer.hash(),
            compact_revision: answer.compact_version(),
            revision: answer
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision),
        })
    }

    /// Adds a member and returns its line of the membership.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn member_add(
        &self,
        peer_urls: &[String],
        learner: bool,
    ) -> Result<Member, EtcdError> {
        let mut client = self.client.clone();
        let options = learner.then(|| MemberAddOptions::new().with_is_learner());
        let answer = self
            .call(
                "member add",
                CHANGE,
                true,
                client.member_add(peer_urls, options),
            )
            .await?;
        answer.member().map(member).ok_or_else(|| EtcdError {
            node: self.node.clone(),
            call: "member add",
            kind: EtcdErrorKind::Other {
                code: "Ok".into(),
                message: "the answer names no member".into(),
            },
            ambiguous: true,
        })
    }

    /// Removes a member by ID.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn member_remove(&self, id: MemberId) -> Result<(), EtcdError> {
        let mut client = self.client.clone();
        self.call("member remove", CHANGE, true, client.member_remove(id.0))
            .await
            .map(drop)
    }

    /// Changes the peer URLs of a member.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn member_update(&self, id: MemberId, peer_urls: &[String]) -> Result<(), EtcdError> {
        let mut client = self.client.clone();
        self.call(
            "member update",
            CHANGE,
            true,
            client.member_update(id.0, peer_urls),
        )
        .await
        .map(drop)
    }

    /// Makes a learner a voter; through the leader only.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn member_promote(&self, id: MemberId) -> Result<(), EtcdError> {
        let mut client = self.client.clone();
        self.call("member promote", CHANGE, true, client.member_promote(id.0))
            .await
            .map(drop)
    }

    /// Hands leadership to another voter; through the leader only.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn move_leader(&self, to: MemberId) -> Result<(), EtcdError> {
        let mut client = self.client.clone();
        self.call("move leader", CHANGE, true, client.move_leader(to.0))
            .await
            .map(drop)
    }

    /// The value of a key, read linearizably.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, EtcdError> {
        let mut client = self.client.clone();
        let answer = self.call("get", READ, false, client.get(key, None)).await?;
        Ok(answer.kvs().first().map(|pair| pair.value().to_vec()))
    }

    /// Writes a key.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError> {
        let mut client = self.client.clone();
        self.call("put", CHANGE, true, client.put(key, value, None))
            .await
            .map(drop)
    }

    pub(super) fn raw(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn judged(&self, call: &'static str, error: &etcd_client::Error) -> EtcdError {
        EtcdError {
            node: self.node.clone(),
            call,
            kind: judge(error, self.tls).0,
            ambiguous: false,
        }
    }
}

pub(super) fn judge(error: &etcd_client::Error, tls: bool) -> (EtcdErrorKind, bool) {
    match error {
        etcd_client::Error::GRpcStatus(status) => EtcdErrorKind::of_status(status, tls),
        etcd_client::Error::TransportError(cause) => {
            (EtcdErrorKind::of_transport(cause, tls), true)
        }
        other => (
            EtcdErrorKind::Other {
                code: "client".into(),
                message: other.to_string(),
            },
            true,
        ),
    }
}

pub(super) fn member_status(status: &etcd_client::StatusResponse) -> MemberStatus {
    let header = status.header();
    MemberStatus {
        cluster_id: ClusterId(header.map_or(0, etcd_client::ResponseHeader::cluster_id)),
        member_id: MemberId(header.map_or(0, etcd_client::ResponseHeader::member_id)),
        leader: MemberId(status.leader()),
        raft_term: status.raft_term(),
        raft_index: status.raft_index(),
        raft_applied_index: status.raft_applied_index(),
        version: status.version().to_owned(),
        db_size: status.db_size(),
        db_size_in_use: status.raft_used_db_size(),
        is_learner: status.is_learner(),
        errors: status.errors().to_vec(),
    }
}

fn members(list: &[etcd_client::Member]) -> Vec<Member> {
    list.iter().map(member).collect()
}

fn member(member: &etcd_client::Member) -> Member {
    Member {
        id: MemberId(member.id()),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        is_learner: member.is_learner(),
    }
}
