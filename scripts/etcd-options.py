#!/usr/bin/env python3
"""Writes src/etcd/options/MINOR.txt from etcd's source: `scripts/etcd-options.py ETCD_CLONE`.

Reads the flag definitions of every released patch of each minor, so that an option's first and last
patch are known. The tables are also checked against the --help of real binaries by tests/pure/etcd_options.rs.
"""
import re
import subprocess
import sys
from pathlib import Path

CLONE = sys.argv[1]
OUT = Path(__file__).resolve().parent.parent / "src/etcd/options"
MINORS = ["3.4", "3.5", "3.6", "3.7"]
SOURCES = ["etcdmain/config.go", "server/etcdmain/config.go", "server/embed/config.go"]

GO_KINDS = {
    "Bool": "bool", "Int": "int", "Int64": "int", "Uint": "uint", "Uint64": "uint",
    "Duration": "duration", "String": "string", "Float64": "float",
}
# What Go's type does not tell. A size is a number of bytes; a retention is a duration or a number.
KINDS = {
    "quota-backend-bytes": "size",
    "max-request-bytes": "size",
    "max-concurrent-streams": "uint",
    "auto-compaction-mode": "enum:periodic|revision",
    "auto-compaction-retention": "retention",
    "log-level": "enum:debug|info|warn|error|panic|fatal",
    "log-format": "enum:json|console",
    "metrics": "enum:basic|extensive",
    "tls-min-version": "enum:TLS1.2|TLS1.3",
    "tls-max-version": "enum:TLS1.2|TLS1.3",
    "backend-bbolt-freelist-type": "enum:array|map",
    "experimental-backend-bbolt-freelist-type": "enum:array|map",
    "initial-cluster-state": "enum:new|existing",
    "discovery-fallback": "enum:exit|proxy",
    "proxy": "enum:off|readonly|on",
    "bcrypt-cost": "uint:4..31",
    "feature-gates": "list",
}
LOGGER = {"3.4": "enum:zap|capnslog"}
V2_DEPRECATION = {
    "3.5": "enum:not-yet|write-only|write-only-drop-data|gone",
    "3.6": "enum:write-only|write-only-skip-check|write-only-drop-data|gone",
    "3.7": "enum:write-only|write-only-skip-check|write-only-drop-data|gone",
}
# Read only while a member has no WAL.
BOOTSTRAP = re.compile(r"^(initial-(advertise-peer-urls|cluster.*)|discovery.*)$")
NOT_OPTIONS = {"version", "help", "h"}


def git(*args):
    return subprocess.run(["git", "-C", CLONE, *args], capture_output=True, text=True)


def kind(name, go, minor):
    if name == "logger":
        return LOGGER.get(minor, "enum:zap")
    if name == "v2-deprecation":
        return V2_DEPRECATION[minor]
    if name in KINDS:
        return KINDS[name]
    if go in GO_KINDS:
        return GO_KINDS[go]
    return "list"


def flags(tag, minor):
    found = {}
    for source in SOURCES:
        shown = git("show", f"{tag}:{source}")
        if shown.returncode != 0:
            continue
        text = re.sub(r"^\s*//.*$", "", shown.stdout, flags=re.M)
        for go, name in re.findall(r'fs\.(\w+?)Var\(\s*&?[\w.()]+,\s*"([a-z0-9-]+)"', text):
            found[name] = kind(name, go, minor)
        for name in re.findall(r'fs\.Var\(\s*(?:flags\.\w+\([^"]*?(?:"[^"]*"[^"]*?)*?\)|[\w.]+),\s*"([a-z0-9-]+)"', text):
            found[name] = kind(name, "Var", minor)
        if 'AddFlag(fs, "feature-gates")' in text or "AddFlag(fs, ServerFeatureGateFlagName)" in text:
            found["feature-gates"] = "list"
    for name in NOT_OPTIONS:
        found.pop(name, None)
    return found


def main():
    for minor in MINORS:
        tags = [t for t in git("tag", "-l", f"v{minor}.*").stdout.split() if re.fullmatch(r"v\d+\.\d+\.\d+", t)]
        patches = sorted(int(t.rsplit(".", 1)[1]) for t in tags)
        per_patch = {p: flags(f"v{minor}.{p}", minor) for p in patches}
        names = sorted(set().union(*per_patch.values()))
        lines = [
            f"# Options of etcd {minor}, {minor}.{patches[0]} to {minor}.{patches[-1]}; written by scripts/etcd-options.py.",
            "# name kind [bootstrap] [since=first patch] [until=last patch]",
        ]
        for name in names:
            has = [p for p in patches if name in per_patch[p]]
            words = [name, per_patch[has[-1]][name]]
            if BOOTSTRAP.match(name):
                words.append("bootstrap")
            if has[0] != patches[0]:
                words.append(f"since={minor}.{has[0]}")
            if has[-1] != patches[-1]:
                words.append(f"until={minor}.{has[-1]}")
            lines.append(" ".join(words))
        (OUT / f"{minor}.txt").write_text("\n".join(lines) + "\n")
        print(minor, len(names), "options", len(patches), "patches", file=sys.stderr)


main()
