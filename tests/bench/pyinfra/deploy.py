"""An etcd cluster under TLS, for pyinfra: `pyinfra inventory.py deploy.py`."""

from pyinfra import host, inventory
from pyinfra.facts.files import File
from pyinfra.operations import files, server, systemd

data = host.data
BIN, CONFIG, TLS, STATE = "/usr/local/bin", "/etc/etcd", "/etc/etcd/tls", "/var/lib/etcd"

members = {member.name: member.data.address for member in inventory.get_group("etcd")}

server.user(
    name="Create the user",
    user="etcd",
    system=True,
    create_home=False,
    ensure_home=False,
    home="/nonexistent",
    shell="/usr/sbin/nologin",
)
for path, owner, mode in ((CONFIG, "root", "755"), (TLS, "etcd", "750"), (STATE, "etcd", "700")):
    files.directory(name=f"Create {path}", path=path, user=owner, group=owner, mode=mode)

# pyinfra compares nothing inside an archive: the version's own directory says that it is there.
release = f"/opt/etcd-v{data.version}-linux-amd64"
if host.get_fact(File, path=f"{release}/etcd") is None:
    archive = f"/opt/etcd-v{data.version}.tar.gz"
    files.put(name="Upload the archive", src=data.archive, dest=archive)
    server.shell(
        name="Install the binaries",
        commands=[
            f"tar -xzf {archive} -C /opt --no-same-owner && rm {archive} && "
            f"install -m 755 {release}/etcd {release}/etcdctl {release}/etcdutl {BIN}/",
        ],
    )

changes = [
    files.put(name="Install ca.crt", src=f"{data.pki}/ca.crt", dest=f"{TLS}/ca.crt", mode="644"),
]
for stem in ("server", "peer"):
    changes.append(
        files.put(
            name=f"Install {stem}.crt",
            src=f"{data.pki}/{host.name}/{stem}.crt",
            dest=f"{TLS}/{stem}.crt",
            mode="644",
        )
    )
    changes.append(
        files.put(
            name=f"Install {stem}.key",
            src=f"{data.pki}/{host.name}/{stem}.key",
            dest=f"{TLS}/{stem}.key",
            user="etcd",
            group="etcd",
            mode="400",
        )
    )
changes.append(
    files.template(
        name="Write the configuration",
        src="templates/etcd.conf.j2",
        dest=f"{CONFIG}/etcd.conf",
        mode="644",
        member=host.name,
        address=data.address,
        initial_cluster=",".join(f"{name}=https://{at}:2380" for name, at in members.items()),
    )
)
unit = files.put(
    name="Write the unit",
    src="../shell/etcd.service",
    dest="/etc/systemd/system/etcd.service",
    mode="644",
)
systemd.daemon_reload(name="Let systemd read the unit", _if=unit.did_change)

# `systemd.service` would wait for the start, and a member waits for the others, host after host.
server.shell(
    name="Enable and start etcd",
    commands=["systemctl enable -q etcd && systemctl start --no-block etcd"],
    _if=lambda: unit.did_change() or any(change.did_change() for change in changes),
)
health = (
    f"etcdctl --endpoints=https://{data.address}:2379 --cacert={TLS}/ca.crt "
    f"--cert={TLS}/server.crt --key={TLS}/server.key endpoint health"
)
server.shell(
    name="Wait until the member is healthy",
    commands=[f"for try in $(seq 300); do {health} >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1"],
)
