//! What can go wrong between us and an etcd member.

use super::error::TunnelError;

/// A failed call. `ambiguous` says that the change may have been made all the same, and has to be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {call}: {kind}{}", if *.ambiguous { " (it may have taken effect all the same)" } else { "" })]
pub struct EtcdError {
    /// Name of the node.
    pub node: String,
    /// Which call, such as `member add`.
    pub call: &'static str,
    /// Why.
    pub kind: EtcdErrorKind,
    /// Whether the change may have been made.
    pub ambiguous: bool,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdErrorKind {
    /// No answer in time.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// The member does not answer.
    #[error("the member is not available: {0}")]
    Unavailable(String),
    /// Authentication or permission is missing.
    #[error("permission denied: {0}")]
    PermissionDenied(String),
    /// One side does not accept the other's certificate.
    #[error("the TLS certificate is rejected: {0}")]
    CertificateRejected(String),
    /// The member follows no leader.
    #[error("the member has no leader")]
    NoLeader,
    /// etcd refuses a membership change while members are not connected well (long enough).
    #[error(
        "etcd calls the cluster unhealthy: not every voter has been connected for some seconds"
    )]
    UnhealthyCluster,
    /// The tunnel does not open, nor does the direct connection where sshd forbids tunnels.
    #[error("{tunnel}{}", .direct.as_ref().map_or_else(String::new, |reason| format!("; and directly: {reason}")))]
    Tunnel {
        /// Why no tunnel.
        tunnel: TunnelError,
        /// Why no direct connection either.
        direct: Option<String>,
    },
    /// The endpoint or the certificates cannot be used.
    #[error("{0}")]
    Settings(String),
    /// A local file cannot be written, or what arrived is damaged.
    #[error("{0}")]
    Snapshot(String),
    /// Any other answer, with its gRPC code.
    #[error("{message} ({code})")]
    Other {
        /// gRPC code.
        code: String,
        /// etcd's words.
        message: String,
    },
}

impl EtcdErrorKind {
    /// Judges a gRPC status. The second value says whether a change may have been made.
    pub(super) fn of_status(status: &tonic::Status, tls: bool) -> (Self, bool) {
        use tonic::Code;
        let message = status.message();
        let said = |words: &str| message.contains(words);
        if said("etcdserver: unhealthy cluster") {
            return (Self::UnhealthyCluster, false);
        }
        if said("etcdserver: no leader") {
            return (Self::NoLeader, false);
        }
        let denied = matches!(
            status.code(),
            Code::PermissionDenied | Code::Unauthenticated
        ) || said("user name is empty")
            || said("invalid auth token")
            || said("authentication failed");
        if denied {
            return (Self::PermissionDenied(message.to_owned()), false);
        }
        // From here on an answer of etcd's own is definite unless it is about time or an end.
        let own = message.starts_with("etcdserver:");
        let interrupted = ["timed out", "leader changed", "server stopped", "stopped"]
            .into_iter()
            .any(said);
        if own && !interrupted {
            let other = Self::Other {
                code: format!("{:?}", status.code()),
                message: message.to_owned(),
            };
            return (other, false);
        }
        if own {
            return (Self::Unavailable(message.to_owned()), true);
        }
        let reason = root_cause(status, message);
        if let Some(certificates) = about_certificates(&reason) {
            return (Self::CertificateRejected(certificates), false);
        }
        match status.code() {
            Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::Internal
            | Code::DeadlineExceeded => (Self::Unavailable(explain(reason, tls)), true),
            code => (
                Self::Other {
                    code: format!("{code:?}"),
                    message: reason,
                },
                false,
            ),
        }
    }

    /// Judges a connection that did not come about.
    pub(super) fn of_transport(error: &(dyn std::error::Error + 'static), tls: bool) -> Self {
        let reason = root_cause(error, &error.to_string());
        match about_certificates(&reason) {
            Some(certificates) => Self::CertificateRejected(certificates),
            None => Self::Unavailable(explain(reason, tls)),
        }
    }
}

/// rustls' words: an alert is the member's verdict on our certificate, the rest is ours on its.
fn about_certificates(reason: &str) -> Option<String> {
    if reason.contains("alert: CertificateRequired") {
        return Some("the member wants a client certificate".into());
    }
    let alerts = [
        "BadCertificate",
        "UnknownCA",
        "CertificateUnknown",
        "CertificateExpired",
    ];
    if let Some(alert) = alerts
        .into_iter()
        .find(|alert| reason.contains(&format!("alert: {alert}")))
    {
        return Some(format!(
            "the member does not accept our client certificate ({alert})"
        ));
    }
    let ours = ["certificate", "UnknownIssuer", "NotValidForName"];
    ours.into_iter()
        .any(|words| reason.contains(words))
        .then(|| reason.to_owned())
}

/// What a plain interruption may mean.
fn explain(reason: String, tls: bool) -> String {
    let hung_up = [
        "connection closed",
        "roken pipe",
        "reset",
        "eof",
        "close_notify",
    ];
    if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
        return "it does not speak TLS, although its URL says https".into();
    }
    if !hung_up.into_iter().any(|words| reason.contains(words)) {
        return reason;
    }
    if tls {
        format!("it closed the connection: {reason}")
    } else {
        format!("it closed the connection, perhaps because it speaks TLS: {reason}")
    }
}

/// The innermost cause: what is around it says "transport error" at best.
fn root_cause(error: &(dyn std::error::Error + 'static), outermost: &str) -> String {
    let mut text = outermost.to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::{Code, Status};

    #[test]
    fn answers_are_told_apart() {
        let of = |code, message: &str| EtcdErrorKind::of_status(&Status::new(code, message), false);
        assert_eq!(
            of(Code::Unavailable, "etcdserver: unhealthy cluster"),
            (EtcdErrorKind::UnhealthyCluster, false)
        );
        assert_eq!(
            of(Code::Unavailable, "etcdserver: no leader"),
            (EtcdErrorKind::NoLeader, false)
        );
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: request timed out"),
            (EtcdErrorKind::Unavailable(_), true)
        ));
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: leader changed"),
            (EtcdErrorKind::Unavailable(_), true)
        ));
        assert!(matches!(
            of(Code::NotFound, "etcdserver: member not found"),
            (EtcdErrorKind::Other { .. }, false)
        ));
        assert!(matches!(
            of(Code::InvalidArgument, "etcdserver: user name is empty"),
            (EtcdErrorKind::PermissionDenied(_), false)
        ));
        assert!(matches!(
            of(Code::Unknown, "transport error"),
            (EtcdErrorKind::Unavailable(_), true)
        ));
        assert!(matches!(
            of(Code::Unknown, "received fatal alert: CertificateRequired"),
            (EtcdErrorKind::CertificateRejected(_), false)
        ));
    }
}
