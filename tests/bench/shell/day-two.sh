#!/bin/bash
# Changes a living cluster over SSH with etcdctl and systemctl: what a careful operator types, from
# a runbook, without waiting longer than etcd makes him wait.
#   day-two.sh PKI rolling NAME=ADDRESS...             an option of all members changes
#   day-two.sh PKI members NAME=ADDRESS... -- STEP...  members come (+NAME=ADDRESS) and go (-NAME);
#                                                      the first are those that live now
# Environment: ARCHIVE, IDENTITY, KNOWN_HOSTS, ETCDCTL
set -euo pipefail

pki=$1 what=$2
shift 2
here=$(dirname -- "$(readlink -f -- "$0")")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
initial_cluster=
initial_state=existing
# shellcheck source=tests/bench/shell/lib.sh
. "$here/lib.sh"

# Addresses of the members by name.
declare -A members
say() { printf '%s %s\n' "$EPOCHREALTIME" "$*"; }

endpoints() {
    local name list=
    for name in "${!members[@]}"; do list+=${list:+,}https://${members[$name]}:2379; done
    printf '%s' "$list"
}
ctl() {
    ETCDCTL_API=3 "$ETCDCTL" --cacert "$pki/ca.crt" --cert "$pki/root.crt" --key "$pki/root.key" \
        --command-timeout 5s --endpoints "${at:-$(endpoints)}" "$@"
}
# The line of a member: ID, status, name, peer URLs, client URLs, whether it is a learner.
line_of() { ctl member list | awk -F ', ' -v name="$1" '$3 == name'; }
id_of() { line_of "$1" | cut -d, -f1; }
# The name of the member that leads.
leader() {
    local name
    for name in "${!members[@]}"; do
        if at=https://${members[$name]}:2379 ctl endpoint status -w fields 2>/dev/null |
            awk -F ' : ' '/"MemberID"/ { id = $2 } /"Leader"/ { leads = $2 } END { exit id != leads }'; then
            printf '%s' "$name"
            return
        fi
    done
    return 1
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

rolling() {
    local name last
    last=$(leader)
    for name in $(printf '%s\n' "${!members[@]}" | sort | grep -vx "$last") "$last"; do
        all_healthy
        lead_elsewhere "$name"
        say "restart $name"
        on "${members[$name]}" "echo 'ETCD_SNAPSHOT_COUNT=\"$RANDOM\"' >>/etc/etcd/etcd.conf && systemctl restart etcd"
        healthy "${members[$name]}"
    done
}

join() {
    local name=${1%%=*} address=${1#*=} id
    say "prepare $name"
    upload "$address"
    all_healthy
    say "add $name"
    patiently ctl member add "$name" --learner --peer-urls "https://$address:2380"
    initial_cluster=$(ctl member list | awk -F ', ' -v new="$name" '{ print ($3 == "" ? new : $3) "=" $4 }' | paste -sd,)
    configure "$name" "$address"
    start "$address"
    say "promote $name"
    id=$(ctl member list | awk -F ', ' -v url="https://$address:2380" '$4 == url { print $1 }')
    patiently ctl member promote "$id"
    members[$name]=$address
    healthy "$address"
}

leave() {
    local name=$1 address=${members[$1]} id
    id=$(id_of "$name")
    if at=https://$address:2379 ctl endpoint health >/dev/null 2>&1; then
        all_healthy
        # Longer than five seconds after the last one joined.
        sleep 6
        lead_elsewhere "$name"
    fi
    unset "members[$name]"
    say "remove $name"
    patiently ctl member remove "$id"
    on "$address" 'systemctl disable -q --now etcd
        [ ! -e /var/lib/etcd/member ] || mv /var/lib/etcd/member "/var/lib/etcd/member.$(date +%s)"'
}

while [ $# -gt 0 ] && [ "$1" != -- ]; do
    members[${1%%=*}]=${1#*=}
    shift
done
case $what in
rolling) rolling ;;
members)
    shift
    for step in "$@"; do
        case $step in
        +*) join "${step#+}" ;;
        -*) leave "${step#-}" ;;
        esac
    done
    ;;
esac
say end
