//! Memory of `plan` with many hosts.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::peers::Bench;
use crate::report::{Report, Row};

const BUDGET_KIB: u64 = 64 * 1024;
const FIRST_PORT: usize = 20000;

/// The largest resident set of `quorate plan` with `nodes` nodes. They share the lab's three hosts:
/// each node has a session, a probe and a TLS channel to a member of its own all the same, since the
/// members listen on a port for every node.
pub fn measure(bench: &Bench<'_>, nodes: usize, report: &mut Report) -> Result<()> {
    let hosts = bench.lab.hosts();
    let ports = FIRST_PORT..FIRST_PORT + nodes;
    bench.on_all(|host| {
        let urls: String = ports
            .clone()
            .map(|port| format!(",https://{}:{port}", host.ip))
            .collect();
        host.run(&format!(
            "set -e\n\
             sed -i '/^ETCD_LISTEN_CLIENT_URLS/s#\"$#{urls}\"#' /etc/etcd/etcd.conf\n\
             mkdir -p /etc/ssh/sshd_config.d\n\
             echo 'MaxStartups 200' >/etc/ssh/sshd_config.d/bench.conf\n\
             systemctl restart ssh\n\
             systemctl restart etcd"
        ))
        .map(drop)
    })?;
    let mut text = bench.cluster_head();
    for (number, port) in ports.enumerate() {
        let host = &hosts[number % hosts.len()];
        let _ = write!(
            text,
            "\n[[node]]\nname = \"node-{number:03}\"\nip = \"{}\"\nclient_port = {port}\npeer_port = {}\n\
             data_dir = \"/var/lib/etcd-{number}\"\n",
            host.ip,
            port + 10000
        );
    }
    let file = bench.file("many.toml");
    fs::write(&file, text)?;
    let mut command = bench.quorate(&file, &["plan", "--json"])?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(fs::File::create(bench.file("many.json"))?)
        .stderr(fs::File::create(bench.file("many.err"))?)
        .spawn()?;
    let peak = watch(&mut child)?;
    let answered = fs::read_to_string(bench.file("many.json"))?;
    if !answered.contains("node-000") {
        let said = fs::read_to_string(bench.file("many.err"))?;
        return Err(format!("plan with {nodes} nodes says nothing of them: {said}").into());
    }
    report.row(Row::plain(
        &format!(
            "largest resident set of `plan` with {nodes} nodes, TLS, on {} hosts",
            hosts.len()
        ),
        format!("{:.1} MiB", peak as f64 / 1024.0),
        "≤ 64 MiB",
        peak <= BUDGET_KIB,
    ));
    Ok(())
}

/// The kernel's own high-water mark, in KiB, read until the end.
fn watch(child: &mut Child) -> Result<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        if let Ok(text) = fs::read_to_string(&status) {
            // Until it executes the program the process is a shell, which has one thread.
            let shell = text.lines().any(|line| line == "Threads:\t1");
            let mark = text.lines().find_map(|line| {
                line.strip_prefix("VmHWM:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse::<u64>()
                    .ok()
            });
            if let (false, Some(mark)) = (shell, mark) {
                peak = peak.max(mark);
            }
        }
        thread::sleep(Duration::from_millis(3));
    }
    if peak == 0 {
        return Err("the program was never seen running".into());
    }
    Ok(peak)
}
