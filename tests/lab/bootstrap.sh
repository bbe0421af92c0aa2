#!/bin/sh
# Installs what the lab and the build need on a fresh Debian machine. Idempotent.
# The rest is `lab setup`; this part comes first because cargo needs protoc to build Quorate.
set -eu

# openssh-server: tests of the transport run an sshd of their own on the loopback.
packages="systemd-container debootstrap iproute2 nftables openssh-client openssh-server e2fsprogs dpkg-dev
    protobuf-compiler libprotobuf-dev libssl-dev zlib1g-dev pkg-config gcc libc6-dev make git curl openssl
    ca-certificates"

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

# What is installed here must not start services of this machine: not now, and sshd not at the next boot either.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get -q update
# shellcheck disable=SC2086
apt-get -qy install --no-install-recommends $missing
case " $missing " in
*" openssh-server "*) systemctl disable -q ssh.service ssh.socket 2>/dev/null || true ;;
esac
