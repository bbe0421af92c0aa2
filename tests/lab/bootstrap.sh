#!/bin/sh
# Installs what the lab and the build need on a fresh Debian machine. Idempotent.
# The rest is `lab setup`; this part comes first because cargo needs protoc to build Quorate.
set -eu

packages="systemd-container debootstrap iproute2 nftables openssh-client e2fsprogs dpkg-dev
    protobuf-compiler libprotobuf-dev libssl-dev zlib1g-dev pkg-config gcc make curl"

if [ ! -r /etc/debian_version ]; then
    echo "bootstrap.sh: the lab needs Debian; install by hand: $(echo $packages)" >&2
    exit 1
fi

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    echo "bootstrap.sh: root is needed to install:$missing" >&2
    exit 1
fi

echo "bootstrap.sh: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
# shellcheck disable=SC2086
apt-get -qy install --no-install-recommends $missing
