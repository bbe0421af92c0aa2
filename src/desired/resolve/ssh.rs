//! `[ssh]` merged with the `ssh` table of a node.

use std::net::IpAddr;
use std::time::Duration;

use super::{Paths, values};
use crate::desired::diagnostic::Sink;
use crate::desired::file::ssh::Ssh as Table;
use crate::desired::model::Ssh;
use crate::desired::read::At;

/// Checks the cluster's table by itself: what is wrong in it is wrong even where every node overrides it.
pub(crate) fn check_shared(table: &Table, paths: &Paths<'_>, sink: &mut Sink) {
    let nowhere = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    merge(Some(table), None, nowhere, paths, sink);
    if let Some(host) = &table.host {
        sink.error("key of a node", &host.span)
            .label("`host` belongs to the `ssh` table of a node: every node has its own");
    }
}

/// The cluster's table with the node's over it. Errors of the cluster's would come once for each node;
/// the sink drops repetitions.
pub(crate) fn merge(
    shared: Option<&Table>,
    own: Option<&Table>,
    ip: IpAddr,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<Ssh> {
    fn pick<'t, T>(
        shared: Option<&'t Table>,
        own: Option<&'t Table>,
        key: impl Fn(&'t Table) -> Option<&'t T>,
    ) -> Option<&'t T> {
        own.and_then(&key).or_else(|| shared.and_then(&key))
    }
    let mut good = true;
    // Keeps `None` of an absent key apart from that of a wrong one.
    fn checked<T>(given: bool, value: Option<T>, good: &mut bool) -> Option<T> {
        *good &= !given || value.is_some();
        value
    }

    let host = match own.and_then(|t| t.host.as_ref()) {
        None => Some(ip.to_string()),
        Some(host) => word(host, "bad host", sink),
    };
    let host = checked(true, host, &mut good);
    let port = pick(shared, own, |t| t.port.as_ref());
    let port = checked(
        port.is_some(),
        port.and_then(|p| values::port(p, sink)),
        &mut good,
    );
    let user = pick(shared, own, |t| t.user.as_ref());
    let user = checked(
        user.is_some(),
        user.and_then(|u| word(u, "bad user", sink)),
        &mut good,
    );
    let identity = pick(shared, own, |t| t.identity.as_ref());
    let identity = checked(
        identity.is_some(),
        identity.and_then(|p| values::local_path(p, paths, sink)),
        &mut good,
    );
    let known_hosts = pick(shared, own, |t| t.known_hosts.as_ref());
    let known_hosts = checked(
        known_hosts.is_some(),
        known_hosts.and_then(|p| values::local_path(p, paths, sink)),
        &mut good,
    );
    let passphrase = pick(shared, own, |t| t.passphrase.as_ref());
    let passphrase = checked(
        passphrase.is_some(),
        passphrase.and_then(|s| values::secret(s, paths, sink)),
        &mut good,
    );
    let sudo_password_table = pick(shared, own, |t| t.sudo_password.as_ref());
    let sudo_password = checked(
        sudo_password_table.is_some(),
        sudo_password_table.and_then(|s| values::secret(s, paths, sink)),
        &mut good,
    );
    let sudo = pick(shared, own, |t| t.sudo.as_ref()).is_some_and(|s| s.value);
    if let (Some(password), false) = (sudo_password_table.filter(|_| !ip.is_unspecified()), sudo) {
        sink.warning("unused key", &password.key)
            .label("commands do not run through sudo")
            .help("write sudo = true, or leave the password out");
    }
    let jump = pick(shared, own, |t| t.jump.as_ref());
    let jump = checked(
        jump.is_some(),
        jump.and_then(|j| self::jump(j, sink)),
        &mut good,
    );
    let connect_timeout = match pick(shared, own, |t| t.connect_timeout.as_ref()) {
        None => Some(Duration::from_secs(10)),
        Some(at) => values::duration(at, sink),
    };
    good.then_some(())?;
    Some(Ssh {
        host: host?,
        port,
        user,
        identity,
        passphrase,
        sudo,
        sudo_password,
        jump,
        known_hosts,
        connect_timeout: connect_timeout?,
    })
}

/// A user or host: nothing that a shell, a URL or OpenSSH's own syntax could take for something else.
fn word(at: &At<String>, what: &'static str, sink: &mut Sink) -> Option<String> {
    let good = is_word(&at.value);
    if !good {
        sink.error(what, &at.span).label("expected a single word");
    }
    good.then(|| at.value.clone())
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && !text.starts_with('-')
        && !text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "@/\\'\"`$;&|<>(){}!#,".contains(c))
}

/// `[user@]host[:port]`; the host may be an IPv6 address in brackets.
fn jump(at: &At<String>, sink: &mut Sink) -> Option<String> {
    let text = at.value.as_str();
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        match bracketed.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(""))),
            None => ("", None),
        }
    } else {
        match rest.split_once(':') {
            // More than one colon without brackets is an IPv6 address.
            Some((_, more)) if more.contains(':') => (rest, None),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let good = user.is_none_or(is_word)
        && is_word(host)
        && (is_v6 || !host.contains([':', '[', ']']))
        && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p != 0));
    if !good {
        let error = sink
            .error("bad jump host", &at.span)
            .label("expected [user@]host[:port]");
        if text.contains(',') {
            error.help(
                "one jump host is supported; put longer chains into ~/.ssh/config of the jump host",
            );
        }
    }
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts() {
        let ok = |text: &str| {
            jump(
                &At {
                    value: text.to_owned(),
                    span: 0..0,
                },
                &mut Sink::default(),
            )
            .is_some()
        };
        for good in [
            "bastion",
            "ops@bastion.example.com:2222",
            "10.0.0.1",
            "[2001:db8::1]:22",
            "me@[::1]",
            "::1",
        ] {
            assert!(ok(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a,b",
            "@x",
            "x@",
            "host:0",
            "host:x",
            "[::1",
            "[::1]22",
            "-oProxyCommand=x",
            "a:1:2",
        ] {
            assert!(!ok(bad), "{bad}");
        }
    }
}
