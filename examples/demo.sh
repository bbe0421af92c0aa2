#!/usr/bin/env bash
# Three throwaway systemd hosts on this machine, with real sshd, systemd and etcd, taken from plan to destroy.
# `make demo` builds what it needs and runs it; `lab` and `quorate` must be in PATH. Takes about half a minute.
# Every step is checked; the first that does not do what it should ends the demo with an error.
set -euo pipefail

name=demo-$$
dir=$(mktemp -d)
quorate=$(command -v quorate)
began=$SECONDS

finish() {
    local code=$?
    trap - EXIT
    cd /
    lab down --name "$name" >/dev/null 2>&1 || true
    rm -rf "$dir"
    if [ "$code" = 0 ]; then
        printf '\nThe demo is over after %d s; its hosts are gone.\n' $((SECONDS - began))
    else
        printf '\nDEMO FAILED with %d after %d s; its hosts are gone.\n' "$code" $((SECONDS - began)) >&2
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

say() { printf '\n# %s\n' "$*"; }
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# run CODE COMMAND...: shows the command and what it prints, which is kept in $output, and expects this exit code.
output=
run() {
    local expected=$1 code=0
    shift
    printf '\n$ %s\n' "$*"
    case $1 in
    quorate) set -- lab exec --name "$name" -- "$quorate" "${@:2}" ;;
    etcdctl | env) set -- lab exec --name "$name" -- "$@" ;;
    ssh) set -- lab ssh --name "$name" "${@:2}" ;;
    esac
    "$@" </dev/null >"$dir/.output" 2>"$dir/.errors" || code=$?
    cat "$dir/.output"
    output=$(<"$dir/.output")
    # What quorate warns of is the same every time: once is enough. What goes wrong is always shown.
    if [ "$code" != 0 ] || [[ $* == *validate ]]; then cat "$dir/.errors"; fi
    [ "$code" = "$expected" ] || fail "this ended with $code instead of $expected"
}

# shows TEXT: the last command must have printed this.
shows() { [[ $output == *"$1"* ]] || fail "the output lacks: $1"; }

# Nothing of the demo belongs to the operator who runs it: logs and downloads go where it will be removed.
export XDG_STATE_HOME=$dir/.state XDG_CACHE_HOME=$dir/.cache
unset QUORATE_FILE QUORATE_LAB_NAME

say 'Three hosts of Debian, each with an address, sshd and journal of its own.'
run 0 lab up --hosts 3 --name "$name"

cd "$dir"
version=$(lab binaries 3.5 | cut -f 1)
tarball=$(lab binaries 3.5 | cut -f 2)
sum=$(sha256sum "$tarball" | cut -d ' ' -f 1)
lab cluster-file --name "$name" --etcd "$version" | sed "s|^archive = .*|&\nsha256 = \"$sum\"|" >cluster.toml
cat >>cluster.toml <<'TOML'

[tls]
client = "managed"
peer   = "managed"

[[tls.client_cert]]
name = "root"
TOML
say 'The cluster, as it stands in version control:'
run 0 cat cluster.toml

say 'Is the file in order, and what would happen?'
run 0 quorate validate
run 2 quorate plan --detailed-exitcode
shows '3 members form cluster'

say 'From three bare hosts to a cluster with TLS everywhere.'
run 0 quorate apply --concise --auto-approve
shows 'Apply complete!'
run 0 quorate status
shows '3 of 3 voters healthy'
run 0 quorate plan
shows 'No changes.'

say 'Applications talk to it with the certificates that were issued, and only with those.'
tar -xzf "$tarball" -C "$dir" --strip-components 1 --wildcards '*/etcdctl'
PATH=$dir:$PATH
run 0 cat pki/clients/root.env
# shellcheck disable=SC1091
. ./pki/clients/root.env
run 0 etcdctl put greeting hello
shows OK
run 0 etcdctl get greeting
shows hello
run 1 env -u ETCDCTL_CERT -u ETCDCTL_KEY etcdctl --command-timeout 3s get greeting

say 'Three things go wrong: somebody edits a file, stops a member, and disables a unit.'
run 0 ssh etcd-1 "sed -i s/CLIENT_CERT_AUTH=.true./CLIENT_CERT_AUTH='false'/ /etc/etcd/etcd.conf"
run 0 ssh etcd-2 systemctl stop etcd
run 0 ssh etcd-3 systemctl disable etcd
run 1 quorate status
shows '2 of 3 voters healthy'

say 'The plan names these three, and nothing else.'
run 2 quorate plan --detailed-exitcode
shows 'ETCD_CLIENT_CERT_AUTH'
actions=$(grep -oE '^ +# node\.[a-z0-9.-]+' <<<"$output" | sed 's/.*# //' | sort | paste -sd ' ')
wanted='node.etcd-1.configure node.etcd-2.start node.etcd-3.enable'
[ "$actions" = "$wanted" ] || fail "the plan has $actions instead of $wanted"
run 0 quorate apply --concise --auto-approve
run 0 quorate plan
shows 'No changes.'
run 0 etcdctl get greeting
shows hello

say 'And away with it.'
run 0 quorate destroy --purge-data --concise --auto-approve
shows 'Destroy complete!'
for host in etcd-1 etcd-2 etcd-3; do
    run 0 ssh "$host" 'systemctl is-active etcd; ls -d /etc/etcd /etc/quorate /var/lib/etcd 2>/dev/null; id etcd 2>&1 || true'
    shows inactive
    [[ $output != *'/'* ]] || fail "$host still has $output"
done
