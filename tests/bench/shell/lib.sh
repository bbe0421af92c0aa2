# shellcheck shell=bash
# What the scripts of this directory share: how hosts are reached, and how a node is set up.
# Environment: ARCHIVE, IDENTITY, KNOWN_HOSTS; PEER_PORT, 2380 unless told; EXTRA, lines for each etcd.conf.
# Variables: pki, work, here, initial_state; initial_cluster, before a node is configured.
: "${pki:?}" "${work:?}" "${here:?}"
peer_port=${PEER_PORT:-2380}
initial_cluster=

ssh_options=(-F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes
    -o "UserKnownHostsFile=$KNOWN_HOSTS" -i "$IDENTITY"
    -o ControlMaster=auto -o "ControlPath=$work/%h" -o ControlPersist=60)
# shellcheck disable=SC2029
on() { ssh "${ssh_options[@]}" "root@$1" "${@:2}"; }
# Ends the connections to these addresses that were kept.
disconnect() {
    local address
    for address in "$@"; do ssh "${ssh_options[@]}" -O exit "root@$address" 2>/dev/null || :; done
}

await() {
    local job failed=0
    for job in "$@"; do wait "$job" || failed=1; done
    return "$failed"
}

# Files of a node, laid out as they lie on the host.
render() {
    local name=$1 address=$2 root=$work/root-$1
    mkdir -p "$root/etc/etcd/tls" "$root/etc/systemd/system"
    cp "$pki/ca.crt" "$pki/$name"/{server,peer}.{crt,key} "$root/etc/etcd/tls/"
    chmod 644 "$root"/etc/etcd/tls/*.crt
    chmod 400 "$root"/etc/etcd/tls/*.key
    cat >"$root/etc/etcd/etcd.conf" <<CONF
ETCD_NAME="$name"
ETCD_DATA_DIR="/var/lib/etcd"
ETCD_LISTEN_PEER_URLS="https://$address:$peer_port"
ETCD_LISTEN_CLIENT_URLS="https://$address:2379,https://127.0.0.1:2379"
ETCD_ADVERTISE_CLIENT_URLS="https://$address:2379"
ETCD_INITIAL_ADVERTISE_PEER_URLS="https://$address:$peer_port"
ETCD_INITIAL_CLUSTER="$initial_cluster"
ETCD_INITIAL_CLUSTER_TOKEN="demo-1"
ETCD_INITIAL_CLUSTER_STATE="${initial_state:-new}"
ETCD_CERT_FILE="/etc/etcd/tls/server.crt"
ETCD_KEY_FILE="/etc/etcd/tls/server.key"
ETCD_TRUSTED_CA_FILE="/etc/etcd/tls/ca.crt"
ETCD_CLIENT_CERT_AUTH="true"
ETCD_PEER_CERT_FILE="/etc/etcd/tls/peer.crt"
ETCD_PEER_KEY_FILE="/etc/etcd/tls/peer.key"
ETCD_PEER_TRUSTED_CA_FILE="/etc/etcd/tls/ca.crt"
ETCD_PEER_CLIENT_CERT_AUTH="true"
${EXTRA:-}
CONF
    cp "$here/etcd.service" "$root/etc/systemd/system/"
    chmod 644 "$root/etc/etcd/etcd.conf" "$root/etc/systemd/system/etcd.service"
}

upload() {
    on "$1" 'tar -xz -C /usr/local/bin --strip-components=1 --no-same-owner --wildcards "*/etcd" "*/etcdctl" "*/etcdutl"' \
        <"$ARCHIVE"
}

configure() {
    render "$1" "$2"
    tar -c --owner=0 --group=0 -C "$work/root-$1" etc | on "$2" '
        set -e
        id -u etcd >/dev/null 2>&1 || useradd --system --user-group --no-create-home \
            --home-dir /nonexistent --shell /usr/sbin/nologin etcd
        tar -x --no-overwrite-dir -C /
        chown -R etcd:etcd /etc/etcd/tls
        chmod 750 /etc/etcd/tls
        install -d -o etcd -g etcd -m 700 /var/lib/etcd'
}

start() {
    on "$1" 'systemctl daemon-reload && systemctl enable -q etcd && systemctl start --no-block etcd'
}

healthy() {
    local tries=0
    until curl -fsS --max-time 2 --cacert "$pki/ca.crt" --cert "$pki/root.crt" --key "$pki/root.key" \
        "https://$1:2379/health" 2>/dev/null | grep -q '"health":"true"'; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || return 1
        sleep 0.05
    done
}
