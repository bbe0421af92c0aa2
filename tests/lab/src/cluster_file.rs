//! An example cluster file for a lab.

use quorate_lab::Lab;

/// The cluster file for all hosts of a lab and a version of etcd that its file server has.
pub(crate) fn render(lab: &Lab, version: &str) -> String {
    let mut text = format!(
        r#"schema = 1

[cluster]
name = "demo"
token = "demo-1"

[etcd]
version = "{version}"

[etcd.install]
method = "archive"
archive = "{url}/etcd-v{{version}}-linux-{{arch}}.tar.gz"

[ssh]
user = "root"
identity = "{identity}"
known_hosts = "{known_hosts}"
"#,
        url = lab.releases_url(),
        identity = lab.identity().display(),
        known_hosts = lab.known_hosts().display(),
    );
    for host in lab.hosts() {
        text.push_str(&format!(
            "\n[[node]]\nname = \"{}\"\nip = \"{}\"\n",
            host.name, host.ip
        ));
    }
    text
}
