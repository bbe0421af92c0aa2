//! Deliberate bugs, each a fault of one line, which the search in `tests/pure/explore` has to find: a check that cannot
//! fail proves nothing.
//!
//! They exist only under the feature `sabotage`, which is never released. Without it [`on`] is a constant `false`, and
//! the compiler leaves nothing of them.

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A member is restarted whatever the quorum is.
    RestartWithoutMargin,
    /// Nobody is asked again right before a member is stopped.
    StopUnasked,
    /// Nobody is asked right before a member is stopped once more to take something back.
    UndoUnasked,
    /// Half of the voters count as a quorum.
    QuorumOffByOne,
    /// A member that does not answer counts as healthy.
    SilentIsHealthy,
    /// Every gate passes at once.
    GateAlwaysPasses,
    /// Disruptive steps run side by side.
    TwoStepsAtOnce,
    /// A failed action on a member freezes nothing.
    FailureFreezesNothing,
    /// A lost lock changes nothing.
    LockLossIgnored,
    /// What fails is taken back without the lock.
    UndoWithoutLock,
    /// Members are added with a vote.
    VoterInsteadOfLearner,
    /// The membership changes as soon as its voters answer.
    ChangeUnsettled,
    /// The membership changes while voters are down.
    ChangeUnhealthy,
    /// Removals are not checked again.
    RemovalUnchecked,
    /// Members are removed by name.
    RemovalByName,
    /// Data is set aside before its member is removed.
    SetAsideBeforeRemoval,
    /// Hosts that leave are stopped though their members stay.
    StopBeforeRemoval,
    /// A data directory without data counts as that of a rebuilt host.
    MissingMountIsBlank,
    /// Bootstraps start over instead of going on.
    FreshNonce,
    /// Who is unreachable is removed.
    UnreachableIsGone,
    /// New members are added before half-way ones are finished.
    HalfWayLast,
    /// Changes of the membership do not wait for each other.
    UnorderedSteps,
    /// A failed member stays while its replacement comes.
    FailedStays,
    /// Markers forget who cannot leave yet.
    LeaverForgotten,
    /// Markers forget who leaves before its host is clean.
    RecordBeforeClean,
    /// Hosts that join are taken for those of a bootstrap.
    JoiningIsBlank,
    /// Members are not among the facts that steer a plan.
    MembersDoNotSteer,
    /// A destroy deletes data without being told to.
    DestroyPurges,
    /// Nobody asks whether the others can dial a member at its new address.
    AddressUnheard,
    /// A member half-way to its new address waits for its turn.
    HalfWayAddressWaits,
    /// Directories move while their member runs.
    MoveWhileRunning,
    /// The WAL moves before the rest of the data.
    WalFirst,
    /// Members are removed though no snapshot was saved.
    SnapshotUnneeded,
}

/// Whether a bug is there.
#[cfg(not(feature = "sabotage"))]
pub const fn on(_: Bug) -> bool {
    false
}

#[cfg(feature = "sabotage")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether a bug is there, on this thread.
    pub fn on(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }

    /// Puts a bug there, or none, on this thread.
    pub fn set(bug: Option<Bug>) {
        BUG.set(bug);
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{on, set};
