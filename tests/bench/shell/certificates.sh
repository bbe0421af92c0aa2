#!/bin/bash
# Makes an authority, per node a server and a peer certificate, and a client certificate for root.
#   certificates.sh DIRECTORY NAME=ADDRESS...
set -euo pipefail

directory=$1
shift
mkdir -p "$directory"
cd "$directory"
umask 077

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# leaf NAME COMMON-NAME EXTENSIONS
leaf() {
    key "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$2" |
        openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 15)" -days 365 \
            -extfile <(printf '%s\n' 'basicConstraints=critical,CA:FALSE' \
                'keyUsage=critical,digitalSignature' "$3") -out "$1.crt" 2>/dev/null
}

key ca.key
openssl req -x509 -new -key ca.key -subj '/CN=etcd authority' -days 3650 \
    -addext 'keyUsage=critical,keyCertSign,cRLSign' -out ca.crt

for node in "$@"; do
    name=${node%%=*} address=${node#*=}
    mkdir -p "$name"
    names="subjectAltName=DNS:$name,DNS:localhost,IP:$address,IP:127.0.0.1"
    leaf "$name/server" "$name" "extendedKeyUsage=serverAuth,clientAuth
$names" &
    leaf "$name/peer" "$name" "extendedKeyUsage=serverAuth,clientAuth
$names" &
done
leaf root root 'extendedKeyUsage=clientAuth' &
wait
