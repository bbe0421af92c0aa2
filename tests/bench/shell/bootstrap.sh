#!/bin/bash
# Bootstraps an etcd cluster under TLS over SSH: what one writes by hand who wants it fast.
# Everything that can goes on at once: certificates here, one connection per host that everything
# else shares, the archive unpacked while it arrives.
#   bootstrap.sh PKI-DIRECTORY NAME=ADDRESS...
# Environment: SHA256 and that of lib.sh; ALSO, nodes that get certificates and nothing else
set -euo pipefail

pki=$1
shift
here=$(dirname -- "$(readlink -f -- "$0")")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# shellcheck source=tests/bench/shell/lib.sh
. "$here/lib.sh"

for node in "$@"; do
    initial_cluster+=${initial_cluster:+,}${node%%=*}=https://${node#*=}:2380
done

# Connections, certificates and the archive's digest do not need each other.
jobs=()
for node in "$@"; do on "${node#*=}" true & jobs+=($!); done
# shellcheck disable=SC2086
"$here/certificates.sh" "$pki" "$@" ${ALSO:-} & jobs+=($!)
sha256sum --check --quiet <<<"$SHA256  $ARCHIVE" & jobs+=($!)
await "${jobs[@]}"

jobs=()
for node in "$@"; do
    upload "${node#*=}" & jobs+=($!)
    configure "${node%%=*}" "${node#*=}" & jobs+=($!)
done
await "${jobs[@]}"

jobs=()
for node in "$@"; do start "${node#*=}" & jobs+=($!); done
await "${jobs[@]}"

jobs=()
for node in "$@"; do healthy "${node#*=}" & jobs+=($!); done
await "${jobs[@]}"

disconnect "${@#*=}"
