//! Round trips of `plan`, counted by the hosts' own sshd.

use crate::Result;
use crate::peers::Bench;
use crate::report::{Report, Row};

const LOUD: &str = "set -e
mkdir -p /etc/ssh/sshd_config.d
echo 'LogLevel DEBUG1' >/etc/ssh/sshd_config.d/bench.conf
systemctl restart ssh
journalctl -q --rotate
journalctl -q --vacuum-time=1s >/dev/null 2>&1";

const QUIET: &str = "rm -f /etc/ssh/sshd_config.d/bench.conf; systemctl restart ssh";

const COUNT: &str = "journalctl -q --sync
journalctl -q -o cat -u ssh | awk '
/Accepted publickey/ { logins++ }
/request exec/ { commands++ }
/server_request_direct_tcpip: originator/ { tunnels++ }
END { print logins + 0, commands + 0, tunnels + 0 }'";

/// Counts logins, commands and tunnels of one `plan` with nothing to do.
pub fn measure(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    bench.on_all(|host| host.run(LOUD).map(drop))?;
    bench.plan()?;
    let mut counts = Vec::new();
    for host in bench.lab.hosts() {
        counts.push(host.run(COUNT)?.trim().to_owned());
    }
    bench.on_all(|host| host.run(QUIET).map(drop))?;
    let shown: Vec<String> = counts.iter().map(|count| count.replace(' ', "/")).collect();
    report.row(Row::plain(
        "round trips of `plan`: logins/commands/tunnels on each host, counted by sshd",
        shown.join(", "),
        "1/1/1",
        counts.iter().all(|count| count == "1 1 1"),
    ));
    Ok(())
}
