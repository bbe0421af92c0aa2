//! What can befall a host besides losing its power.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::{net, sys};

/// etcd's peer port.
pub const PEER_PORT: u16 = 2380;

/// Which of a host's packets are lost, silently and in both directions unless said otherwise.
/// Traffic of the host with itself never is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of them.
    All,
    /// Those that come in: what the host says is still heard.
    Incoming,
    /// Those that go out: the host still hears.
    Outgoing,
    /// TCP from and to these ports, wherever they are; `Ports(vec![PEER_PORT])` parts an etcd
    /// member from its peers, while its clients and SSH still reach it.
    Ports(Vec<u16>),
    /// Those from and to these addresses.
    Hosts(Vec<Ipv4Addr>),
}

impl Cut {
    /// The nftables rules, as a table that replaces the one before.
    fn rules(&self) -> String {
        let drop_if = |condition: String| format!("oifname \"lo\" accept\n{condition} drop\n");
        let (input, output) = match self {
            Self::All => (drop_if(String::new()), drop_if(String::new())),
            Self::Incoming => (drop_if(String::new()), String::new()),
            Self::Outgoing => (String::new(), drop_if(String::new())),
            Self::Ports(ports) => {
                let ports = set(ports);
                let rule = format!("tcp dport {ports} drop\ntcp sport {ports}");
                (drop_if(rule.clone()), drop_if(rule))
            }
            Self::Hosts(hosts) => {
                let hosts = set(hosts);
                (
                    drop_if(format!("ip saddr {hosts}")),
                    drop_if(format!("ip daddr {hosts}")),
                )
            }
        };
        let input = input.replace("oifname", "iifname");
        format!(
            "table inet lab\ndelete table inet lab\ntable inet lab {{\n\
             chain incoming {{ type filter hook input priority -300; policy accept;\n{input}}}\n\
             chain outgoing {{ type filter hook output priority -300; policy accept;\n{output}}}\n\
             }}\n"
        )
    }
}

fn set<T: ToString>(members: &[T]) -> String {
    let members: Vec<_> = members.iter().map(T::to_string).collect();
    format!("{{ {} }}", members.join(", "))
}

impl Host {
    /// Stops all processes of the host, as if it hung: connections stay open, nothing answers.
    pub fn freeze(&self) -> Result<()> {
        if !self.is_on() {
            return Err(Error::host(
                &self.name,
                "is off, so that it cannot be frozen",
            ));
        }
        self.cgroup()?.freeze(true)
    }

    /// Lets the processes of a frozen host go on.
    pub fn thaw(&self) -> Result<()> {
        self.cgroup()?.freeze(false)
    }

    /// Loses packets of the host until [`Host::heal`], also over a power loss; a second cut
    /// takes the place of the first.
    pub fn partition(&self, cut: &Cut) -> Result<()> {
        sys::write(&self.cut_file(), cut.rules())?;
        self.apply_partition()
    }

    /// Ends a partition.
    pub fn heal(&self) -> Result<()> {
        let _ = fs::remove_file(self.cut_file());
        self.nft("table inet lab\ndelete table inet lab\n")
    }

    pub(crate) fn apply_partition(&self) -> Result<()> {
        match fs::read_to_string(self.cut_file()) {
            Ok(rules) => self.nft(&rules),
            Err(_) => Ok(()),
        }
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let namespace = self.namespace();
        if !net::namespace_path(&namespace).exists() {
            return Ok(());
        }
        let mut command = net::program_in(&namespace, &["nft", "-f", "-"]);
        sys::run_with_input(&mut command, rules.as_bytes()).map(drop)
    }

    fn cut_file(&self) -> PathBuf {
        self.dir().join("cut.nft")
    }

    /// Fills the file system of a directory: that of a data disk (see [`Host::add_data_disk`]),
    /// else a small one that is laid over the directory, with its owner and mode, and hides what
    /// is in it. Every write to it then fails with "No space left on device".
    pub fn fill_disk(&self, path: &str) -> Result<()> {
        let output = self.exec_with_input(FILL, &[path], b"")?;
        if output.success() {
            return Ok(());
        }
        Err(Error::host(
            &self.name,
            format!("filling {path}: {}", output.stderr.trim()),
        ))
    }

    /// Undoes [`Host::fill_disk`].
    pub fn drain_disk(&self, path: &str) -> Result<()> {
        let output = self.exec_with_input(DRAIN, &[path], b"")?;
        if output.success() {
            return Ok(());
        }
        Err(Error::host(
            &self.name,
            format!("draining {path}: {}", output.stderr.trim()),
        ))
    }
}

const FILL: &str = r#"set -e
mountpoint -q "$1" || mount -t tmpfs -o "size=1m,mode=$(stat -c %a "$1"),uid=$(stat -c %u "$1"),gid=$(stat -c %g "$1")" lab-full "$1"
cat /dev/zero > "$1/.lab-filler" 2>/dev/null || true
# A file system holds blocks back for its own needs and gives them out bit by bit.
piece=0
while [ $piece -lt 1000 ]; do
    sync -f "$1"
    dd if=/dev/zero bs=1 count=1 conv=fsync of="$1/.lab-filler-$piece" 2>/dev/null || exit 0
    piece=$((piece + 1))
done
df "$1" >&2
exit 1
"#;

const DRAIN: &str = r#"set -e
rm -f "$1"/.lab-filler*
if [ "$(findmnt -n -o SOURCE --mountpoint "$1")" = lab-full ]; then umount "$1"; fi
"#;

#[cfg(test)]
mod tests {
    use super::{Cut, PEER_PORT};

    #[test]
    fn one_way_cuts_leave_the_other_way_open() {
        let rules = Cut::Incoming.rules();
        assert!(rules.contains("chain incoming { type filter hook input priority -300; policy accept;\niifname \"lo\" accept\n drop\n}"), "{rules}");
        assert!(
            rules.contains(
                "chain outgoing { type filter hook output priority -300; policy accept;\n}"
            ),
            "{rules}"
        );
    }

    #[test]
    fn ports_are_cut_as_source_and_as_destination() {
        let rules = Cut::Ports(vec![PEER_PORT]).rules();
        assert_eq!(
            rules
                .matches("tcp dport { 2380 } drop\ntcp sport { 2380 } drop")
                .count(),
            2,
            "{rules}"
        );
    }
}
