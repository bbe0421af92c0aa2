# Every script that changes something first proves that the lock names its run, and keeps others out while it works.
q_guard() {
  q_run=$1
  # Who can open a lock can hold it.
  mkdir -p -m 0700 /run/quorate
  chmod 0700 /run/quorate
  exec 8>>/run/quorate/work.lock
  chmod 0600 /run/quorate/work.lock
  # The script at work may be of the same run, installing packages.
  if ! flock -w 600 8; then printf 'another script has been at work here for ten minutes, of an earlier run or of this one: wait for it to end\n' >&2; exit 76; fi
  if flock -n /run/quorate/lock true || [ "$(cat /run/quorate/lock.run 2>/dev/null)" != "$1" ]; then
    printf 'this run does not hold the lock any more\n' >&2
    exit 77
  fi
}
