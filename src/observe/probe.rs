//! The one command that observes a host: a POSIX shell script that only reads, and answers in tab-separated lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::shell::{word, words};
use crate::desired::model::{Desired, Install};
use crate::observed::certificate::CaFacts;
use crate::observed::data::Place;
use crate::observed::marker;
use crate::plan::fingerprint::sha256;
use crate::runtime::{Content, Layout, POLICY, POLICY_PATH};

/// What to look for on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The unit.
    pub unit: String,
    /// The service user.
    pub user: String,
    /// The server binary.
    pub etcd: String,
    /// Large files: hashed only where inode, size or ctime differ from what is remembered.
    pub large: Vec<String>,
    /// Text files with the digest that is wanted; their contents are sent where theirs differs.
    pub texts: BTreeMap<String, String>,
    /// Certificates: their contents are always sent.
    pub certificates: Vec<String>,
    /// Paths of which only mode, owner and kind are looked at: directories and keys.
    pub others: Vec<String>,
    /// Packages to ask for.
    pub packages: Vec<String>,
    /// Where data is looked for; the file system of the first is asked for.
    pub places: Vec<Place>,
    /// Ports of the member.
    pub ports: [u16; 2],
    /// Digests by path of large files, with the stat they had and the version that etcd printed.
    pub remembered: BTreeMap<String, Remembered>,
    /// The authority that the certificates are checked against.
    pub authority: Option<Arc<CaFacts>>,
}

/// What an earlier probe found out about a large file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Remembered {
    /// Device, inode, size and ctime.
    pub stat: String,
    /// Hex digest.
    pub sha256: String,
    /// `etcd --version`, for the server binary.
    pub version: Option<String>,
}

/// Names of the binaries of a release.
pub const BINARIES: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

impl ProbeSpec {
    /// What to look for on the host of a node.
    pub fn new(
        desired: &Desired,
        layout: &Layout,
        remembered: BTreeMap<String, Remembered>,
        authority: Option<Arc<CaFacts>>,
    ) -> Self {
        let mut spec = Self {
            unit: layout.unit.clone(),
            user: layout.user.clone(),
            etcd: layout.etcd.clone(),
            large: BINARIES
                .iter()
                .map(|name| format!("{}/{name}", layout.bin_dir))
                .collect(),
            texts: BTreeMap::new(),
            certificates: vec![],
            others: layout
                .directories
                .iter()
                .map(|directory| directory.path.clone())
                .collect(),
            packages: match &desired.etcd.install {
                Install::Package { names, .. } if !names.is_empty() => names.clone(),
                Install::Package { .. } => ["etcd", "etcd-server", "etcd-client"]
                    .map(String::from)
                    .to_vec(),
                _ => vec![],
            },
            places: vec![layout.place()],
            ports: [layout.client_port, layout.peer_port],
            remembered,
            authority,
        };
        spec.others.push(layout.start_drop_in.path.clone());
        spec.others
            .push(layout.start_drop_in.environment_path.clone());
        if matches!(desired.etcd.install, Install::Package { .. }) {
            spec.texts.insert(POLICY_PATH.into(), sha256(POLICY));
        }
        for file in &layout.files {
            match &file.content {
                Content::Text(text) => {
                    spec.texts.insert(file.path.clone(), sha256(text));
                }
                Content::Authority | Content::Certificate(_) => {
                    spec.certificates.push(file.path.clone())
                }
                Content::Key(_) => spec.others.push(file.path.clone()),
            }
        }
        spec
    }

    /// The same for those of the places that this does not look at; `None` where there are none.
    pub fn of_others(&self, places: &[Place]) -> Option<Self> {
        let others = places.iter().filter(|place| !self.places.contains(place));
        let places: Vec<Place> = others.cloned().collect();
        (!places.is_empty()).then(|| Self {
            places,
            ..self.clone()
        })
    }

    /// The script.
    pub fn script(&self) -> String {
        let mut s = format!("{FUNCTIONS}{SYSTEM}");
        let _ = writeln!(s, "q_user={}", word(&self.user));
        let paths = self
            .large
            .iter()
            .chain(self.texts.keys())
            .chain(&self.certificates)
            .chain(&self.others);
        let _ = writeln!(
            s,
            "stat --printf='stat\\t%F\\t%a\\t%U\\t%G\\t%s\\t%Z\\t%d:%i:%s:%z\\t%n\\n' -- {} 2>/dev/null",
            words(paths.map(String::as_str))
        );
        for path in &self.large {
            let (stat, sha256, version) = match self.remembered.get(path) {
                Some(known) => (
                    known.stat.as_str(),
                    known.sha256.as_str(),
                    known.version.as_deref().unwrap_or(""),
                ),
                None => ("", "", ""),
            };
            let _ = writeln!(
                s,
                "q_large {} {} {} {} {}",
                word(path),
                word(stat),
                word(sha256),
                word(version),
                u8::from(*path == self.etcd)
            );
        }
        for (path, digest) in &self.texts {
            let _ = writeln!(s, "q_text {} {}", word(path), word(digest));
        }
        for path in &self.certificates {
            let _ = writeln!(s, "q_text {} -", word(path));
        }
        let _ = writeln!(s, "q_marker {}", word(marker::PATH));
        let _ = writeln!(
            s,
            "id -u {} >/dev/null 2>&1 && printf 'user\\t1\\n'",
            word(&self.user)
        );
        let _ = writeln!(s, "q_unit {} {}", word(&self.unit), word(&self.etcd));
        if let Some(first) = self.places.first() {
            let _ = writeln!(s, "q_filesystem {}", word(&first.data_dir));
        }
        s.push_str(&look_for_data(&self.places));
        let _ = writeln!(s, "q_ports {:04X} {:04X}", self.ports[0], self.ports[1]);
        if !self.packages.is_empty() {
            let _ = writeln!(
                s,
                "q_packages {}",
                words(self.packages.iter().map(String::as_str))
            );
        }
        s.push_str("printf 'end\\n'\n");
        s
    }
}

/// Commands that tell which directories in these places may be data.
fn look_for_data(places: &[Place]) -> String {
    let mut s = String::new();
    for place in places {
        let separate = place.separate_wal().unwrap_or_default();
        let _ = writeln!(s, "q_data {} {}", word(&place.data_dir), word(&separate));
    }
    s
}

/// A script that does nothing else.
#[cfg(test)]
pub(crate) fn data_script(places: &[Place]) -> String {
    format!("{FUNCTIONS}{}", look_for_data(places))
}

/// Functions of the script. `set -e` is off: what cannot be read is an answer too.
const FUNCTIONS: &str = r##"set -u
q_b64() { head -c 65536 -- "$1" 2>/dev/null | base64 -w0 2>/dev/null; }
# Whatever that file is, it is not run as root: as nobody or, where only the service user may, as that.
q_version() {
  if [ "$(id -u)" != 0 ]; then timeout 10 "$1" --version </dev/null 2>/dev/null | head -n 1; return; fi
  for who in nobody "$q_user"; do
    uid=$(id -u "$who" 2>/dev/null) && gid=$(id -g "$who" 2>/dev/null) || continue
    if command -v setpriv >/dev/null 2>&1; then
      said=$(timeout 10 setpriv --reuid "$uid" --regid "$gid" --clear-groups "$1" --version </dev/null 2>/dev/null | head -n 1)
    elif command -v runuser >/dev/null 2>&1; then
      said=$(timeout 10 runuser -u "$who" -- "$1" --version </dev/null 2>/dev/null | head -n 1)
    else
      said=$(timeout 10 "$1" --version </dev/null 2>/dev/null | head -n 1)
    fi
    if [ -n "$said" ]; then printf '%s\n' "$said"; return; fi
  done
}
q_large() {
  [ -f "$1" ] && [ ! -L "$1" ] || return 0
  now=$(stat -c '%d:%i:%s:%z' -- "$1")
  if [ "$now" = "$2" ]; then
    sum=$3 version=$4
  else
    sum=$(sha256sum <"$1"); sum=${sum%% *}
    version=
    if [ "$5" = 1 ]; then version=$(q_version "$1"); version=${version##* }; fi
  fi
  printf 'sha\t%s\t%s\n' "$sum" "$1"
  if [ "$5" = 1 ]; then q_etcd_sum=$sum; printf 'version\t%s\t%s\n' "$version" "$1"; fi
}
q_text() {
  [ -f "$1" ] && [ ! -L "$1" ] || return 0
  sum=$(sha256sum <"$1"); sum=${sum%% *}
  printf 'sha\t%s\t%s\n' "$sum" "$1"
  [ "$sum" = "$2" ] || printf 'text\t%s\t%s\n' "$(q_b64 "$1")" "$1"
}
q_marker() { if [ -e "$1" ]; then printf 'marker\t%s\n' "$(q_b64 "$1")"; fi; }
q_property() { printf '%s\n' "$2" | while IFS= read -r line; do case $line in "$1"=*) printf '%s' "${line#*=}" ;; esac; done; }
q_unit() {
  # No here-document: some shells put it into /tmp, which may be full.
  shown=$(systemctl show "$1" -p LoadState -p ActiveState -p SubState -p UnitFileState -p FragmentPath -p DropInPaths -p NeedDaemonReload -p NRestarts -p MainPID -p ExecMainStartTimestamp 2>&1)
  printf '%s\n' "$shown" | while IFS= read -r line; do printf 'unit\t%s\n' "$line"; done
  pid=$(q_property MainPID "$shown") started=$(q_property ExecMainStartTimestamp "$shown")
  [ "${pid:-0}" -gt 0 ] 2>/dev/null || return 0
  [ -r "/proc/$pid/environ" ] || return 0
  printf 'environ\t%s\n' "$(tr '\0' '\n' <"/proc/$pid/environ" | grep '^ETCD_' | base64 -w0)"
  if [ "$(stat -Lc '%d:%i' "/proc/$pid/exe" 2>/dev/null)" = "$(stat -c '%d:%i' -- "$2" 2>/dev/null)" ]; then
    printf 'running\t%s\n' "${q_etcd_sum:-}"
  else
    sum=$(sha256sum <"/proc/$pid/exe" 2>/dev/null); printf 'running\t%s\n' "${sum%% *}"
  fi
  if [ -n "$started" ]; then printf 'started\t%s\n' "$(date -d "$started" +%s 2>/dev/null)"; fi
}
q_filesystem() {
  at=$1
  while [ ! -d "$at" ] && [ "$at" != / ]; do at=$(dirname -- "$at"); done
  printf 'df\t%s\n' "$(df -Pk -- "$at" 2>/dev/null | tail -n 1)"
  printf 'findmnt\t%s\n' "$(findmnt -n -P -o TARGET,FSTYPE,UUID -T "$at" 2>/dev/null | head -n 1)"
}
# What was moved has other names until it has arrived, and of an original that was put aside only the name is asked for.
q_data() {
  for member in "$1"/member "$1"/member.quorate-* "$1"/.quorate-part-member-*; do
    [ -e "$member" ] || continue
    printf 'data\t%s\n' "$member"
    case ${member##*/} in member|member.quorate-moving|.quorate-part-*) q_owner "$member"; q_wals "$member/wal" ;; esac
  done
  if [ -n "$2" ]; then q_wals "$2"; fi
}
q_wals() {
  for wal in "$1" "$1".quorate-* "${1%/*}"/.quorate-part-wal-*; do
    [ -e "$wal" ] || continue
    printf 'data\t%s\n' "$wal"
    q_owner "$wal"
    for file in "$wal"/*.wal; do
      if [ -e "$file" ]; then printf 'wal\t%s\t%s\n' "$(head -c 512 -- "$file" 2>/dev/null | base64 -w0)" "$wal"; break; fi
    done
  done
}
# Data may be older than the user, or was put there by another. What runs can read what it has.
q_owner() {
  if [ "${pid:-0}" -gt 0 ] 2>/dev/null; then return 0; fi
  other=$(find "$1" -xdev ! -user "${q_user:-}" -print -quit 2>/dev/null)
  if [ -n "$other" ]; then printf 'owner\t%s\t%s\n' "$(stat -c '%U (%u)' -- "$other" 2>/dev/null)" "$1"; fi
}
q_ports() {
  for table in /proc/net/tcp /proc/net/tcp6; do
    while read -r _ at _ state _ _ _ _ _ inode _; do
      [ "$state" = 0A ] || continue
      case $at in
        *:"$1"|*:"$2")
          who= ours=0
          if [ "${pid:-0}" -gt 0 ] 2>/dev/null; then
            case $(ls -l "/proc/$pid/fd" 2>/dev/null) in *"socket:[$inode]"*) ours=1 who=etcd ;; esac
          fi
          if [ "$ours" = 0 ]; then
            for p in /proc/[0-9]*; do
              case $(ls -l "$p/fd" 2>/dev/null) in
                *"socket:[$inode]"*) who="$(cat "$p/comm" 2>/dev/null) (process ${p#/proc/})"; break ;;
              esac
            done
          fi
          printf 'listen\t%s\t%s\t%s\n' "${at##*:}" "$ours" "${who:-a process that cannot be told}"
          ;;
      esac
    done <"$table"
  done 2>/dev/null
}
# The one that the system lives by: Debian may have rpm, and Fedora dpkg.
q_packages() {
  if (. /etc/os-release && case " ${ID:-} ${ID_LIKE:-} " in *' debian '*) ;; *) exit 1 ;; esac) 2>/dev/null; then
    dpkg-query -W -f 'package\t${db:Status-Status}\t${Package}\t${Version}\t${db:Status-Want}\n' "$@" 2>/dev/null
  else
    rpm -q --qf 'package\tinstalled\t%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t\n' "$@" 2>/dev/null | grep '^package'
    q_lists=$(sed -n 's/^[[:space:]]*locklist[[:space:]]*=[[:space:]]*//p' /etc/dnf/plugins/versionlock.conf /etc/yum/pluginconf.d/versionlock.conf 2>/dev/null)
    for list in $q_lists /etc/dnf/versionlock.toml; do
      if [ -f "$list" ]; then printf 'locks\t%s\n' "$(q_b64 "$list")"; fi
    done
  fi
}
"##;

/// What it asks of every host.
const SYSTEM: &str = r##"printf 'clock\t%s\n' "$(date +%s%3N)"
printf 'boot\t%s\n' "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
printf 'uid\t%s\n' "$(id -u)"
printf 'arch\t%s\n' "$(uname -s) $(uname -m)"
if [ -d /run/systemd/system ]; then printf 'systemd\t1\n'; fi
(. /etc/os-release 2>/dev/null && printf 'os\t%s\t%s\t%s\n' "${ID:-}" "${VERSION_ID:-}" "${ID_LIKE:-}")
for tool in base64 sha256sum stat flock findmnt systemctl timeout mktemp tar gzip apt-get dnf yum; do
  if [ -n "$(command -v "$tool")" ]; then printf 'tool\t%s\n' "$tool"; fi
done
"##;
