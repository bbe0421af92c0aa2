//! What somebody does to a host by hand, behind the program's back.

/// One such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// A line in the configuration that changes nothing.
    Comment,
    /// Modes and owners.
    Modes,
    /// The unit is not enabled.
    Disabled,
    /// The marker is gone.
    Marker,
    /// An option in the configuration, and the member runs with it.
    Option,
    /// The configuration is gone.
    Configuration,
    /// The unit's file is gone.
    Unit,
    /// The member is stopped.
    Stopped,
    /// The unit is masked, and the member stopped.
    Masked,
    /// Both certificates of the member are gone, with their keys.
    Leaves,
    /// A key is gone, its certificate is not.
    Key,
    /// The programs are gone; the member runs on.
    Programs,
}

/// Such as no member minds.
const HARMLESS: &[Drift] = &[Drift::Comment, Drift::Modes, Drift::Disabled];

/// Such as may take a member away, at once or with its next start.
const HARMFUL: &[Drift] = &[
    Drift::Option,
    Drift::Configuration,
    Drift::Unit,
    Drift::Stopped,
    Drift::Masked,
    Drift::Marker,
    Drift::Leaves,
    Drift::Key,
    Drift::Programs,
];

impl Drift {
    /// One for a host that may lose its member, or one for a host that may not.
    pub fn draw(rng: &mut fastrand::Rng, tls: bool, harmful: bool) -> Self {
        let kinds = if harmful { HARMFUL } else { HARMLESS };
        loop {
            let drift = kinds[rng.usize(0..kinds.len())];
            if tls || !matches!(drift, Self::Leaves | Self::Key) {
                return drift;
            }
        }
    }

    /// What is typed on the host.
    pub fn script(self) -> &'static str {
        match self {
            Self::Comment => "echo '# edited' >>/etc/etcd/etcd.conf",
            Self::Modes => "chmod 0666 /etc/etcd/etcd.conf; chmod 0755 /var/lib/etcd",
            Self::Disabled => "systemctl disable -q etcd",
            Self::Marker => "rm -f /etc/quorate/marker.json",
            Self::Option => {
                "echo 'ETCD_SNAPSHOT_COUNT=\"777\"' >>/etc/etcd/etcd.conf; systemctl restart --no-block etcd"
            }
            Self::Configuration => "rm -f /etc/etcd/etcd.conf",
            Self::Unit => "rm -f /etc/systemd/system/etcd.service; systemctl daemon-reload",
            Self::Stopped => "systemctl stop --no-block etcd",
            Self::Masked => {
                "systemctl stop --no-block etcd; ln -sf /dev/null /etc/systemd/system/etcd.service; systemctl daemon-reload"
            }
            Self::Leaves => "rm -f /etc/etcd/tls/*.crt /etc/etcd/tls/*.key",
            Self::Key => "rm -f /etc/etcd/tls/peer.key",
            Self::Programs => "rm -f /usr/local/bin/etcd /usr/local/bin/etcdctl",
        }
    }
}
