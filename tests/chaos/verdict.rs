//! What must hold after a round, as others than the program see it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_lab::{Host, Lab, releases};
use quorate_writers::{Census, Endpoint, Run, check};

use crate::cluster::{Cluster, Node};
use crate::operator::Operator;

/// Everything that is wrong, in words.
pub fn judge(
    lab: &Lab,
    operator: &Operator,
    cluster: &Cluster,
    endpoints: &[Endpoint],
    run: &Run,
    census: &mut Census,
) -> Vec<String> {
    let mut wrong = Vec::new();
    match check(lab, endpoints, run) {
        Ok(findings) => wrong.extend(findings.iter().map(ToString::to_string)),
        Err(error) => wrong.push(error.to_string()),
    }
    // Nothing of the rounds before has gone either.
    let prefixes: BTreeSet<&str> = census
        .0
        .keys()
        .map(String::as_str)
        .chain([run.prefix.as_str()])
        .collect();
    match Census::take(lab, &endpoints[0], prefixes) {
        Ok(now) => {
            wrong.extend(
                now.fewer_than(census)
                    .into_iter()
                    .map(|what| format!("keys are gone: {what}")),
            );
            *census = now;
        }
        Err(error) => wrong.push(error.to_string()),
    }
    match membership(lab, operator, cluster) {
        Ok(members) => {
            let wanted = wanted(cluster);
            if members != wanted {
                wrong.push(format!(
                    "the members are {members:#?}, and the file asks for {wanted:#?}"
                ));
            }
        }
        Err(error) => wrong.push(error),
    }
    for node in &cluster.nodes {
        wrong.extend(host(&lab.hosts()[node.host], node, cluster));
    }
    wrong
}

/// Peer URLs, client URLs and whether it is a learner, by name.
type Members = BTreeMap<String, (Vec<String>, Vec<String>, bool)>;

fn wanted(cluster: &Cluster) -> Members {
    let member = |node: &Node| {
        (
            vec![node.peer_url(cluster.tls)],
            vec![node.url(cluster.tls)],
            false,
        )
    };
    cluster
        .nodes
        .iter()
        .map(|node| (node.name.clone(), member(node)))
        .collect()
}

fn membership(lab: &Lab, operator: &Operator, cluster: &Cluster) -> Result<Members, String> {
    let release = releases::find(&releases::tested()).map_err(|error| error.to_string())?;
    let mut command = lab
        .command(release.dir.join("etcdctl"))
        .map_err(|error| error.to_string())?;
    command
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", cluster.nodes[0].url(cluster.tls));
    if cluster.tls {
        command
            .env("ETCDCTL_CACERT", operator.path("pki/ca.crt"))
            .env("ETCDCTL_CERT", operator.path("pki/clients/writer.crt"))
            .env("ETCDCTL_KEY", operator.path("pki/clients/writer.key"));
    }
    command.args(["member", "list", "-w", "json"]);
    let output = command.output().map_err(|error| error.to_string())?;
    let list: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("etcdctl member list: {error}: {output:?}"))?;
    let words = |value: &serde_json::Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words
            .filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect()
    };
    let members = list["members"]
        .as_array()
        .ok_or("etcdctl lists no members")?;
    Ok(members
        .iter()
        .map(|member| {
            let name = member["name"].as_str().unwrap_or_default().to_owned();
            let learner = member["isLearner"].as_bool().unwrap_or_default();
            (
                name,
                (
                    words(&member["peerURLs"]),
                    words(&member["clientURLs"]),
                    learner,
                ),
            )
        })
        .collect())
}

/// What is wrong on a host: its unit, the environment of its member, and what was left lying about.
fn host(host: &Host, node: &Node, cluster: &Cluster) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ask = |script: &str| match host.run(script) {
        Ok(answer) => answer,
        Err(error) => {
            wrong.push(error.to_string());
            String::new()
        }
    };
    let unit = ask("systemctl show etcd -p ActiveState -p UnitFileState --value");
    let environment =
        ask("tr '\\0' '\\n' </proc/$(systemctl show etcd -p MainPID --value)/environ");
    let left = ask(
        "find /usr/local/bin /etc/etcd /etc/quorate /etc/systemd/system /var/lib /var/cache /run/systemd/system /srv \
         -xdev -name '*quorate-*' ! -name '*.service' ! -name 'member.quorate-[!m]*' ! -name 'wal.quorate-[!m]*' 2>/dev/null || :",
    );
    if unit != "active\nenabled\n" {
        wrong.push(format!(
            "{}: etcd.service is {}",
            node.name,
            unit.trim().replace('\n', ", ")
        ));
    }
    let mut settings = cluster.settings.clone();
    settings.extend(node.settings.clone());
    settings.insert("name".into(), node.name.clone());
    settings.insert("data-dir".into(), node.data_dir.into());
    if let Some(wal_dir) = node.wal_dir {
        settings.insert("wal-dir".into(), format!("{wal_dir}/wal"));
    }
    for (name, value) in settings {
        let name = name.to_uppercase().replace('-', "_");
        let line = format!("ETCD_{name}={}", value.trim_matches('"'));
        if !environment.lines().any(|found| found == line) {
            wrong.push(format!("{}: runs without {line}", node.name));
        }
    }
    if node.wal_dir.is_none() && environment.contains("ETCD_WAL_DIR=") {
        wrong.push(format!("{}: runs with a directory for the WAL", node.name));
    }
    if !left.is_empty() {
        wrong.push(format!("{}: left lying about: {left}", node.name));
    }
    wrong
}

/// What is wrong on a host whose node has left: everything but data that was moved aside is gone.
pub fn left_on(host: &Host) -> Option<String> {
    let script = "ls -d /etc/quorate /etc/etcd /usr/local/bin/etcd* /etc/systemd/system/etcd.service* \
                  /run/systemd/system/etcd.service* /var/lib/etcd/member /srv/etcd/member /srv/wal/wal 2>/dev/null
        find /usr/local/bin /etc/systemd/system /var/lib /var/cache /srv -xdev -name '*quorate-*' \
            ! -name '*.service' ! -name 'member.quorate-[!m]*' ! -name 'wal.quorate-[!m]*' 2>/dev/null
        pgrep -x etcd; :";
    match host.run(script) {
        Ok(left) if left.is_empty() => None,
        Ok(left) => Some(format!(
            "{}: left by a node that has left: {left}",
            host.name
        )),
        Err(error) => Some(error.to_string()),
    }
}
