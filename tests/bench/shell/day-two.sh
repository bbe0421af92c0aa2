#!/bin/bash
# Changes a living cluster over SSH with etcdctl and systemctl: what a careful operator types, from
# a runbook, without waiting longer than etcd makes him wait.
#   day-two.sh PKI NAME=ADDRESS... -- STEP...   the members that live now, and what becomes of them:
#     set VARIABLE=VALUE      of every member, one restart after the other
#     peer-port PORT          of every member, in place
#     join NAME=ADDRESS       a blank host, as a learner first
#     leave NAME              whoever leads hands over before
#     replace NAME            a dead member, whose host is blank again
# Environment: ETCDCTL and that of lib.sh
set -euo pipefail

pki=$1
shift
here=$(dirname -- "$(readlink -f -- "$0")")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
# shellcheck disable=SC2034
initial_state=existing
# shellcheck source=tests/bench/shell/lib.sh
. "$here/lib.sh"

# Addresses of the members by name.
declare -A members
connected=()

endpoints() {
    local name list=
    for name in "${!members[@]}"; do list+=${list:+,}https://${members[$name]}:2379; done
    printf '%s' "$list"
}
ctl() {
    ETCDCTL_API=3 "$ETCDCTL" --cacert "$pki/ca.crt" --cert "$pki/root.crt" --key "$pki/root.key" \
        --command-timeout 5s --endpoints "${at:-$(endpoints)}" "$@"
}
# A line of the member list is ID, status, name, peer URLs, client URLs, whether it is a learner.
id_of() { ctl member list | awk -F ', ' -v name="$1" '$3 == name { print $1 }'; }
# The name of the member that leads.
leader() {
    local name url
    url=$(ctl endpoint status 2>/dev/null | awk -F ', ' '$5 == "true" { print $1 }')
    for name in "${!members[@]}"; do
        if [ "$url" = "https://${members[$name]}:2379" ]; then printf '%s' "$name"; fi
    done
}
all_healthy() {
    local name
    for name in "${!members[@]}"; do healthy "${members[$name]}"; done
}
# Etcd refuses changes until all voters have been connected for five seconds.
patiently() {
    local tries=0
    until "$@" >/dev/null 2>"$work/said"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 150 ]; then
            cat "$work/said" >&2
            return 1
        fi
        sleep 0.1
    done
}
# Makes somebody else lead than this one.
lead_elsewhere() {
    local other
    [ "$(leader)" = "$1" ] || return 0
    for other in "${!members[@]}"; do
        [ "$other" != "$1" ] || continue
        at=https://${members[$1]}:2379 ctl move-leader "$(id_of "$other")" >/dev/null
        return
    done
}
# Whoever does not lead goes first.
in_turn() {
    local last
    last=$(leader)
    printf '%s\n' "${!members[@]}" | sort | grep -vx -- "$last"
    printf '%s\n' "$last"
}
# A backup before a member is removed, from one that does not lead.
backup() {
    local name
    name=$(in_turn | grep -vx -- "$1" | head -n 1)
    at=https://${members[$name]}:2379 ctl snapshot save "$work/before-$1.db" >/dev/null 2>&1
}
remove() {
    patiently ctl member remove "$1" && return
    # An answer that did not arrive may have been a yes.
    if ctl member list | grep -q "^$1, "; then return 1; fi
}

set_variable() {
    local name
    for name in $(in_turn); do
        all_healthy
        lead_elsewhere "$name"
        on "${members[$name]}" "sed -i '/^${1%%=*}=/d' /etc/etcd/etcd.conf
            echo '${1%%=*}=\"${1#*=}\"' >>/etc/etcd/etcd.conf && systemctl restart etcd"
        healthy "${members[$name]}"
    done
}

change_peer_port() {
    local name id
    for name in $(in_turn); do
        all_healthy
        id=$(id_of "$name")
        lead_elsewhere "$name"
        on "${members[$name]}" "sed -i '/PEER_URLS/s/:$peer_port\"/:$1\"/' /etc/etcd/etcd.conf"
        ctl member update "$id" --peer-urls "https://${members[$name]}:$1" >/dev/null
        on "${members[$name]}" 'systemctl restart etcd'
        healthy "${members[$name]}"
    done
    peer_port=$1
}

join() {
    local name=${1%%=*} address=${1#*=} id url
    url=https://$address:$peer_port
    connected+=("$address")
    upload "$address"
    all_healthy
    patiently ctl member add "$name" --learner --peer-urls "$url"
    # shellcheck disable=SC2034
    initial_cluster=$(ctl member list | awk -F ', ' -v new="$name" '{ print ($3 == "" ? new : $3) "=" $4 }' | paste -sd,)
    configure "$name" "$address"
    start "$address"
    id=$(ctl member list | awk -F ', ' -v url="$url" '$4 == url { print $1 }')
    patiently ctl member promote "$id"
    members[$name]=$address
    healthy "$address"
}

leave() {
    local name=$1 address=${members[$1]} id
    all_healthy
    id=$(id_of "$name")
    backup "$name"
    lead_elsewhere "$name"
    unset "members[$name]"
    remove "$id"
    # shellcheck disable=SC2016
    on "$address" 'systemctl disable -q --now etcd
        [ ! -e /var/lib/etcd/member ] || mv /var/lib/etcd/member "/var/lib/etcd/member.$(date +%s)"'
}

replace() {
    local name=$1 address=${members[$1]} id
    unset "members[$name]"
    all_healthy
    id=$(id_of "$name")
    backup "$name"
    remove "$id"
    join "$name=$address"
}

while [ $# -gt 0 ] && [ "$1" != -- ]; do
    members[${1%%=*}]=${1#*=}
    connected+=("${1#*=}")
    shift
done
shift
while [ $# -gt 0 ]; do
    case $1 in
    set) set_variable "$2" ;;
    peer-port) change_peer_port "$2" ;;
    join) join "$2" ;;
    leave) leave "$2" ;;
    replace) replace "$2" ;;
    *)
        echo "day-two.sh: what is $1?" >&2
        exit 2
        ;;
    esac
    shift 2
done
disconnect "${connected[@]}"
