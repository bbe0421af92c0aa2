set -eu
q_at='starting'
q_lifted=''
q_masked=''
q_policy=/usr/sbin/policy-rc.d
q_stopped=/run/quorate/stopped
# The assertion on the WAL must not stay lifted, whatever ended the script. A member that wrote no WAL would start again
# and again with the facts of an attempt that is over.
q_lower() {
  q_unit=$1 q_dir=$2
  shift 2
  q_left=''
  for q_file in "$@"; do if [ -e "$q_file" ]; then q_left=1; fi; done
  if [ -n "$q_left" ]; then rm -f -- "$@"; systemctl daemon-reload; fi
  if ! q_has_wal "$q_dir"; then
    systemctl disable -q "$q_unit" 2>/dev/null
    systemctl stop "$q_unit"
  fi
}
# What keeps packages from starting a member of their own must not outlive their installation.
q_our_policy() { printf '#!/bin/sh\n# quorate\nexit 101\n'; }
q_is_our_policy() { [ -f "$q_policy" ] && [ ! -L "$q_policy" ] && [ "$(cat -- "$q_policy")" = "$(q_our_policy)" ]; }
q_drop_policy() {
  rm -f -- "$(q_name "$q_policy" new)"
  if q_is_our_policy; then rm -f -- "$q_policy"; fi
}
q_unhinder() {
  q_drop_policy
  if [ -n "$q_masked" ]; then systemctl unmask --runtime -q "$q_masked" || :; fi
  q_masked=''
}
q_end() {
  q_rc=$?
  trap '' TERM HUP INT PIPE
  set +e
  if [ -n "$q_lifted" ]; then eval "q_lower $q_lifted"; fi
  if [ -n "$q_masked" ]; then q_unhinder; fi
  if [ "$q_rc" -ne 0 ]; then printf '%s\n' "quorate: failed to $q_at (status $q_rc)" >&2; fi
  # Of the launcher that brings a script to its host.
  if command -v q_last_words >/dev/null; then q_last_words "$q_rc"; fi
}
trap q_end EXIT
# dash ends on a signal without its EXIT trap.
trap 'exit 143' TERM HUP INT PIPE
q_name() { printf '%s/.%s.quorate-%s' "${1%/*}" "${1##*/}" "$2"; }
q_user() {
  getent group "$1" >/dev/null || groupadd --system "$1"
  id -u "$1" >/dev/null 2>&1 || useradd --system --gid "$1" --no-create-home --home-dir /nonexistent --shell "$(command -v nologin || echo /bin/false)" "$1"
}
q_remove_user() {
  if id -u "$1" >/dev/null 2>&1; then userdel "$1"; fi
  if getent group "$1" >/dev/null; then groupdel "$1"; fi
}
q_directory() { mkdir -p -- "$1"; chown "$3:$4" -- "$1"; chmod "$2" -- "$1"; }
q_remove_directory() { if [ -d "$1" ]; then rmdir --ignore-fail-on-non-empty -- "$1" 2>/dev/null || :; fi; }
# The contents come as base64 on standard input; nothing under the final name changes yet.
q_stage() {
  q_new=$(q_name "$1" new)
  rm -rf -- "$q_new"
  (umask 077; base64 -d >"$q_new")
  chown "$3:$4" -- "$q_new"
  chmod "$2" -- "$q_new"
}
q_put() {
  (for q_path in "$@"; do shift; set -- "$@" "$(q_name "$q_path" new)"; done; sync -- "$@")
  for q_path in "$@"; do mv -fT -- "$(q_name "$q_path" new)" "$q_path"; done
  (for q_path in "$@"; do shift; set -- "$@" "${q_path%/*}/"; done; sync -- "$@")
}
# What keeps a processor busy leaves it to the members. Where the kernel groups by session, only the group's value counts.
q_gently() {
  renice -n 10 -p $$ >/dev/null 2>&1 || :
  { echo 10 >/proc/$$/autogroup; } 2>/dev/null || :
}
q_extract() {
  q_dir=$2/.quorate-unpack
  rm -rf -- "$q_dir"
  mkdir -- "$q_dir"
  tar -xzf "$1" -C "$q_dir" --strip-components=1 --no-same-owner
  for q_binary in etcd etcdctl etcdutl; do
    if [ -f "$q_dir/$q_binary" ]; then
      q_to=$2/$q_binary
      if [ "$3" = staged ]; then q_to=$(q_name "$q_to" staged); fi
      chown root:root -- "$q_dir/$q_binary"
      chmod 0755 -- "$q_dir/$q_binary"
      sync -- "$q_dir/$q_binary"
      mv -fT -- "$q_dir/$q_binary" "$q_to"
    fi
  done
  rm -rf -- "$q_dir"
  sync -- "$2"
}
q_journal() { journalctl -q --no-pager -o cat -n 15 -u "$1" 2>/dev/null | cut -c 1-400 >&2 || :; }
# A job that is queued (behind network-online.target, say) is not a failure yet.
q_start() {
  # From here on what has been moved is in use.
  rm -f "$q_stopped"
  systemctl start --no-block "$1"
  q_tries=0
  while :; do
    q_state=$(systemctl show -p ActiveState -p Job "$1")
    case $q_state in
      *ActiveState=active*|*ActiveState=activating*|*ActiveState=reloading*) return 0 ;;
      *Job=[1-9]*|*ActiveState=deactivating*) q_limit=1200 ;;
      *) q_limit=10 ;;
    esac
    if [ "$q_tries" -ge "$q_limit" ]; then q_journal "$1"; return 70; fi
    q_tries=$((q_tries + 1))
    sleep 0.1
  done
}
# Says for whoever takes a restart back that this run has begun to stop the member.
q_restarting() { printf '%s' "$q_run" >/run/quorate/restarted; }
q_restarted() { [ "$(cat /run/quorate/restarted 2>/dev/null)" = "$q_run" ]; }
# Says also when the process was started last: whoever starts it by hand later uses what has been moved by then.
q_last_start() { systemctl show -p ExecMainStartTimestampMonotonic "$1"; }
q_stop_for_moves() {
  q_restarting
  systemctl stop "$1"
  printf '%s\n%s\n' "$1" "$(q_last_start "$1")" >"$q_stopped"
}
q_is_unused() {
  if [ ! -e "$q_stopped" ]; then return 1; fi
  { read -r q_mover && read -r q_since; } <"$q_stopped" || return 1
  # systemd says 0 of a unit that it has forgotten, started since or not.
  case $q_since in ''|*=0|*=) return 1 ;; esac
  [ "$(q_last_start "$q_mover")" = "$q_since" ]
}
q_has_wal() { for q_file in "$1"/*.wal; do if [ -e "$q_file" ]; then return 0; fi; done; return 1; }
q_assert_no_wal() {
  if q_has_wal "$1"; then printf '%s holds a WAL: a member that has data is not bootstrapped\n' "$1" >&2; return 72; fi
}
q_await_wal() {
  q_tries=0
  until q_has_wal "$1"; do
    q_tries=$((q_tries + 1))
    if [ "$q_tries" -ge 1000 ] || { [ $((q_tries % 16)) -eq 0 ] && [ "$(systemctl show -p NRestarts "$2")" = NRestarts=3 ]; }; then
      q_journal "$2"
      systemctl stop "$2" || :
      return 71
    fi
    sleep 0.03
  done
}
# A mount point cannot be renamed: its contents move into a directory inside it.
q_aside() {
  if [ ! -e "$1" ]; then return 0; fi
  if mountpoint -q -- "$1"; then
    q_into=$1/$(basename -- "$2")
    mkdir -- "$q_into"
    for q_file in "$1"/*; do
      if [ "$q_file" != "$q_into" ] && [ "$(basename -- "$q_file")" != lost+found ]; then mv -- "$q_file" "$q_into/"; fi
    done
  else
    if [ -e "$2" ]; then printf '%s exists already\n' "$2" >&2; return 73; fi
    mv -T -- "$1" "$2"
  fi
  sync -- "$(dirname -- "$1")"
}
q_can_be_renamed() {
  if mountpoint -q -- "$1"; then
    printf '%s is a mount point and cannot be renamed: mount it at %s by hand, or leave it\n' "$1" "${1%/*}" >&2
    return 79
  fi
}
# One directory by two names.
q_is_same() { [ -e "$2" ] && [ "$(stat -Lc %d:%i -- "$1")" = "$(stat -Lc %d:%i -- "$2")" ]; }
# Of a stopped member: what is at $1, by whatever name, goes to $2; $3 is a stamp. On one file system it is a rename. Else
# the original is put out of the way first, and the copy gets its name last, when the original was put aside for good: a
# unit that starts in between finds neither (see src/observed/data.rs for what counts when this is cut off).
q_relocate() {
  q_can_be_renamed "$1"
  if [ ! -e "$1" ]; then printf '%s is not there any more\n' "$1" >&2; return 76; fi
  if q_is_same "$1" "$2"; then return 0; fi
  # What lies at the new place is of an earlier life.
  q_aside "$2" "$2.quorate-$3"
  if q_on_one_mount "$1" "${2%/*}"; then
    mv -T -- "$1" "$2"
    sync -- "${1%/*}" "${2%/*}"
    return 0
  fi
  q_original=${1%/*}/${2##*/}
  q_moving=$q_original.quorate-moving
  q_part=${2%/*}/.quorate-part-${2##*/}
  rm -rf -- "$q_part"-*
  q_room "$1" "${2%/*}"
  if [ "$1" != "$q_moving" ]; then
    mv -T -- "$1" "$q_moving"
    sync -- "${1%/*}"
  fi
  # It may take as long as a poor disk takes, at a MiB a second. In the foreground it ends with the script.
  q_limit=$((600 + q_wants / 1024))
  if ! timeout --foreground -k 5 "$q_limit" cp -a --reflink=auto -- "$q_moving" "$q_part-$3"; then
    rm -rf -- "$q_part-$3"
    printf '%s was not copied to %s within %s s, or not at all\n' "$q_moving" "${2%/*}" "$q_limit" >&2
    return 77
  fi
  # Before coreutils 8.24 it knows no file systems.
  case $(sync --help 2>&1) in *file-system*) sync -f -- "$q_part-$3" ;; *) sync ;; esac
  mv -T -- "$q_moving" "$q_original.quorate-$3"
  sync -- "${1%/*}"
  mv -T -- "$q_part-$3" "$2"
  sync -- "${2%/*}"
}
# Takes back to $1 what went to $2, as far as it had come. A copy that nobody has used is no more than the original.
q_relocate_back() {
  q_part=${2%/*}/.quorate-part-${2##*/}-$3
  if [ -e "$1" ]; then return 0; fi
  if [ -e "$1.quorate-moving" ]; then
    mv -T -- "$1.quorate-moving" "$1"
  elif q_is_twofold "$1" "$2" "$3"; then
    # By the way it came: at any moment one of the two counts.
    if [ ! -e "$q_part" ]; then
      mv -T -- "$2" "$q_part"
      sync -- "${2%/*}"
    fi
    mv -T -- "$1.quorate-$3" "$1"
  else
    # What is inside of something that has not come is not there either.
    if [ -e "$2" ] && [ -d "${1%/*}" ]; then q_relocate "$2" "$1" "$3-undo"; fi
    return 0
  fi
  sync -- "${1%/*}"
  rm -rf -- "$q_part"
}
# Whether the original is there beside a whole copy, by whatever name.
q_is_twofold() {
  if [ ! -e "$1.quorate-$3" ]; then return 1; fi
  [ -e "${2%/*}/.quorate-part-${2##*/}-$3" ] || { [ -e "$2" ] && q_is_unused; }
}
# One file system may be mounted twice, and nothing is renamed from one mount to another.
q_on_one_mount() { [ "$(stat -c '%d %m' -- "$1")" = "$(stat -c '%d %m' -- "$2")" ]; }
q_nearest() {
  q_dir=$1
  while [ ! -d "$q_dir" ]; do q_dir=$(dirname -- "$q_dir"); done
  printf '%s' "$q_dir"
}
# Whether the copies that q_relocate would make fit, and nothing is in the way of a rename: all that are asked for one after the other. What is inside of
# something that moves before comes along with it, and is where that was until then.
q_asked='' q_went_from='' q_went_to='' q_copied='' q_brought=0
q_fits() {
  q_source=$1 q_at=$1 q_more=0 q_fixed=1 q_blocked=1
  if [ -n "$q_went_to" ]; then
    # A copy is no mount point, and what is in its way is set aside with all that is mounted in it.
    case $1 in "$q_went_to"/*) q_source=$q_went_from${1#"$q_went_to"} q_at=$(q_nearest "$q_went_to") q_fixed=$((1 - q_copied)) ;; esac
    case $2 in "$q_went_to"/*) q_blocked=0 ;; esac
    case $q_went_to in "$1"/*) q_more=$q_brought ;; esac
  fi
  if [ ! -e "$q_source" ]; then return 0; fi
  if [ "$q_fixed" = 1 ]; then q_can_be_renamed "$q_source"; fi
  if [ "$q_blocked" = 1 ] && ! q_is_same "$q_source" "$2" && mountpoint -q -- "$2"; then
    printf '%s is a mount point, and data of its own cannot take its place: unmount it, or name another directory\n' "$2" >&2
    return 79
  fi
  q_room_at=$(q_nearest "${2%/*}")
  q_size "$q_source"
  q_kib=$((q_kib + q_more))
  q_went_from=$q_source q_went_to=$2 q_copied=0 q_brought=$q_kib
  if q_on_one_mount "$q_at" "$q_room_at"; then return 0; fi
  q_copied=1
  q_disk=$(stat -c %d -- "$q_room_at")
  q_wants=$((q_kib + 65536))
  for q_other in $q_asked; do
    if [ "${q_other%:*}" = "$q_disk" ]; then q_wants=$((q_wants + ${q_other#*:})); fi
  done
  q_asked="$q_asked $q_disk:$q_kib"
  q_free "$q_room_at"
}
q_fits_back() {
  if [ ! -e "$1" ] && [ ! -e "$1.quorate-moving" ] && ! q_is_twofold "$1" "$2" "$3"; then q_fits "$2" "$1"; fi
}
# Of what is in use some may be gone by the time that it is counted.
q_size() {
  q_kib=$(du -sk -- "$1" 2>/dev/null || :)
  q_kib=${q_kib%%[!0-9]*}
  q_kib=${q_kib:-0}
}
q_room() {
  q_size "$1"
  q_wants=$((q_kib + 65536))
  q_free "$2"
}
q_free() {
  # shellcheck disable=SC2046
  set -- "$1" $(df -Pk -- "$1" | tail -n 1)
  if [ "$5" -lt "$q_wants" ]; then
    printf '%s KiB are free in %s, %s are needed for the data and some room\n' "$5" "$1" "$q_wants" >&2
    return 78
  fi
}
q_purge() {
  if mountpoint -q -- "$1"; then
    find "$1" -mindepth 1 -xdev -delete
  else
    rm -rf --one-file-system -- "$1"
  fi
}
# Of links it is the link that is given away, and what is mounted further in is somebody else's.
# Whose tree it was may still change it: names are looked up from the directory that they are in. What a file system does
# not let go stays; the member says whether it can read it.
q_to_user() { if [ -e "$3" ]; then find "$3" -xdev -execdir chown -h "$1:$2" {} + || :; fi; }
# The directory around it, where it is of the same owner, could not stay with a user that goes either.
q_to_root() {
  if [ ! -e "$1" ]; then return 0; fi
  q_dir=$(dirname -- "$1")
  if [ "$(stat -c %u -- "$q_dir")" = "$(stat -c %u -- "$1")" ]; then chown root:root -- "$q_dir"; fi
  chown -R root:root -- "$1"
  chmod 0700 -- "$1"
}
# What would belong to a bare number is that of whoever gets it next.
q_disown() {
  if [ ! -d "$2" ]; then return 0; fi
  if id -u "$1" >/dev/null 2>&1; then find "$2" -xdev -user "$1" -execdir chown -h root {} + || :; fi
  if getent group "$1" >/dev/null; then find "$2" -xdev -group "$1" -execdir chgrp -h root {} + || :; fi
}
q_keep() {
  for q_path in "$@"; do
    q_old=$(q_name "$q_path" previous)
    if [ -f "$q_path" ] && [ ! -e "$q_old" ]; then cp -pP -- "$q_path" "$q_old.part"; sync -- "$q_old.part"; mv -fT -- "$q_old.part" "$q_old"; fi
  done
}
q_restore() {
  for q_path in "$@"; do
    q_old=$(q_name "$q_path" previous)
    if [ -e "$q_old" ]; then mv -fT -- "$q_old" "$q_path"; fi
  done
}
q_drop_kept() { for q_path in "$@"; do rm -f -- "$(q_name "$q_path" previous)" "$(q_name "$q_path" previous.part)"; done; }
q_drop() {
  for q_path in "$@"; do
    for q_kind in previous previous.part new staged; do rm -f -- "$(q_name "$q_path" "$q_kind")"; done
  done
}
q_sweep() {
  for q_dir in "$@"; do
    for q_file in "$q_dir"/.quorate-*; do if [ -e "$q_file" ]; then rm -rf -- "$q_file"; fi; done
  done
}
q_switch() {
  for q_path in "$@"; do
    q_new=$(q_name "$q_path" staged)
    if [ -e "$q_new" ]; then mv -fT -- "$q_new" "$q_path"; fi
  done
}
# Without repositories it answers even where one of them does not.
q_versionlock() {
  if [ "$1" != apt-get ] && ! "$1" -q --disablerepo='*' versionlock list >/dev/null 2>&1; then
    printf "%s has no versionlock plugin, without which its updates would replace etcd: install the plugin (dnf install 'dnf-command(versionlock)', or yum install yum-plugin-versionlock)\n" "$1" >&2
    return 75
  fi
}
q_hold() {
  q_versionlock "$1"
  q_manager=$1
  shift
  if [ "$q_manager" = apt-get ]; then apt-mark hold "$@" >/dev/null; else "$q_manager" --disablerepo='*' versionlock add "$@" >&2; fi
}
q_release() {
  # A run that was killed may have left it.
  q_drop_policy
  q_manager=$1
  shift
  if [ "$q_manager" = apt-get ]; then apt-mark unhold "$@" >/dev/null || :; else "$q_manager" --disablerepo='*' versionlock delete "$@" >&2 || :; fi
}
# Q19: the package must not start a member of its own, nor be upgraded behind our back.
q_packages() {
  q_manager=$1 q_unit=$2 q_specs='' q_names=''
  shift 2
  export DEBIAN_FRONTEND=noninteractive
  while [ "$#" -ge 2 ]; do
    if [ "$q_manager" = apt-get ]; then
      q_found=$(apt-cache madison "$1" | while IFS='| ' read -r _ q_v _; do
        case " $q_v ${q_v#*:} " in *" $2 "*|*" $2"[-+~]*) printf '%s' "$q_v"; break ;; esac
      done)
      if [ -z "$q_found" ]; then printf 'no version %s of package %s is available: run apt-get update, or set package_version\n' "$2" "$1" >&2; return 74; fi
      q_specs="$q_specs $1=$q_found"
    else
      q_specs="$q_specs $1-$2"
    fi
    q_names="$q_names $1"
    shift 2
  done
  q_versionlock "$q_manager"
  q_masked=$q_unit
  systemctl mask --runtime -q "$q_unit" || :
  if [ "$q_manager" = apt-get ]; then
    # One of ours is of a run that was killed.
    if { [ ! -e "$q_policy" ] && [ ! -L "$q_policy" ]; } || q_is_our_policy; then
      q_new=$(q_name "$q_policy" new)
      q_our_policy >"$q_new"
      chmod 0755 "$q_new"
      sync -- "$q_new"
      mv -fT -- "$q_new" "$q_policy"
    fi
    if [ -n "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ] || [ -n "$(dpkg --audit 2>/dev/null)" ]; then dpkg --force-confold --configure -a >&2; fi
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends --allow-downgrades --allow-change-held-packages -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold $q_specs >&2
  else
    # shellcheck disable=SC2086
    if ! "$q_manager" install -y --setopt=install_weak_deps=False $q_specs >&2; then
      printf 'installing%s failed: "%s list --showduplicates%s" shows which versions there are, "%s versionlock list" which are locked out; set package_version, or mend the repositories\n' "$q_specs" "$q_manager" "$q_names" "$q_manager" >&2
      return 74
    fi
  fi
  # shellcheck disable=SC2086
  q_hold "$q_manager" $q_names
  q_unhinder
  systemctl daemon-reload
}
q_remove_packages() {
  q_release "$@"
  shift
  if [ "$q_manager" = apt-get ]; then
    DEBIAN_FRONTEND=noninteractive apt-get remove -y -q -o DPkg::Lock::Timeout=120 "$@" >&2
  else
    # Like apt-get, it leaves dependencies alone: others may have come to count on them.
    "$q_manager" remove -y --setopt=clean_requirements_on_remove=False "$@" >&2
  fi
}
