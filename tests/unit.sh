#!/usr/bin/env bash
# Proves deploy/systemd: the unit is well-formed and scores 1.5 or better in `systemd-analyze
# security`, its configuration is valid, and under a systemd of its own the daemon starts, reloads,
# survives a hang through the watchdog, and stops in order, with every restriction in force.
#
#   tests/unit.sh [BINARY]      by default target/debug/rollcall, built first
#
# Needs root; installs systemd and systemd-container if apt-get has them. The systemd boots in a
# container over a copy-on-write view of this machine's root, without network; nothing remains.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly unit=deploy/systemd/rollcall.service configuration=deploy/systemd/rollcall.yml
# In tenths, as systemd-analyze takes it.
readonly most_exposure=15
readonly machine=rollcall-trial-$$
work=

say() { printf '%s\n' "$*"; }
die() { say "unit.sh: $*" >&2; exit 1; }
skip() { say "unit.sh: SKIPPED: $*"; exit 0; }
passed=0
ok() { say "ok    $*"; passed=$((passed + 1)); }

# What systemd-nspawn leaves behind: control groups below our own, if they are empty, and a folder.
sweep() {
    local controllers own group
    while IFS=: read -r _ controllers own; do
        for group in /sys/fs/cgroup{,/unified,"/${controllers#name=}"}"${own%/}"/{payload,supervisor}; do
            [[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
    done </proc/self/cgroup
    rmdir "/run/systemd/nspawn/propagate/$machine" 2>/dev/null || true
}

cleanup() {
    local status=$?
    if [[ -n $work ]]; then
        sweep
        umount --quiet "$work/top/root" 2>/dev/null || true
        umount --quiet "$work/top" 2>/dev/null || true
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

install() {
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

command -v systemd-analyze >/dev/null || install systemd || skip "systemd-analyze cannot be installed"
if (($# == 0)); then
    cargo build --quiet --locked
    binary=target/debug/rollcall
else
    binary=$1
fi
work=$(mktemp -d)

# --- On paper ----------------------------------------------------------------------------------

# The unit names a binary that is not installed here; any other will do for the form.
sed 's#/usr/bin/rollcall#/bin/true#' "$unit" >"$work/rollcall.service"
systemd-analyze verify --man=no "$work/rollcall.service" || die "FAIL  $unit is not well-formed"
ok "the unit is well-formed"
score=$(systemd-analyze security --offline=true --threshold="$most_exposure" "$unit" | tail -n 1) ||
    die "FAIL  ${score:-no score}"
ok "${score#*[>→] }"
"$binary" validate --strict "$configuration" >/dev/null || die "FAIL  $configuration is not valid"
ok "the configuration is valid"

# --- At work -----------------------------------------------------------------------------------

command -v systemd-nspawn >/dev/null || install systemd-container ||
    skip "the rest: systemd-container cannot be installed ($passed passed)"
command -v curl >/dev/null || install curl || die "needs curl"
[[ $EUID == 0 ]] || die "needs root, to boot a container"

mkdir "$work/top" "$work/out"
mount -t tmpfs tmpfs "$work/top"
mkdir "$work/top/upper" "$work/top/work" "$work/top/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/top/upper,workdir=$work/top/work" overlay "$work/top/root"
readonly root=$work/top/root
command install -m 0755 "$binary" "$root/usr/bin/rollcall"
command install -D -m 0644 "$configuration" "$root/etc/rollcall/rollcall.yml"
command install -m 0644 "$unit" "$root/etc/systemd/system/rollcall.service"

# Only what is named here is started: nothing that this machine has enabled.
cat >"$root/etc/systemd/system/trial.target" <<'UNIT'
[Unit]
Requires=sysinit.target dbus.service trial.service
UNIT
cat >"$root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
After=sysinit.target dbus.service
[Service]
Type=oneshot
ExecStart=/bin/bash /out/trial.sh
ExecStopPost=/bin/bash -c 'journalctl -b -o cat -u rollcall >/out/journal; systemctl --force --force poweroff'
UNIT

cat >"$work/out/trial.sh" <<'TRIAL'
set -euo pipefail
exec >/out/results 2>&1
configuration=/etc/rollcall/rollcall.yml
fail() { echo "FAIL  $*"; exit 1; }
is() { [[ $2 == "$3" ]] || fail "$1: expected '$3', found '$2'"; echo "ok    $1: $2"; }
property() { systemctl show --value --property "$1" rollcall; }
ask() { curl --silent --show-error --fail --max-time 5 "http://127.0.0.1:8500$1"; }
metric() { ask /metrics | awk -v name="$1" '$1 == name { print $2 }'; }
of_process() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$(property MainPID)/status"; }
# within SECONDS COMMAND...: waits until it succeeds.
within() {
    local i limit=$1
    shift
    for ((i = 0; i < limit * 5; i++)); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.2
    done
    fail "not within $limit s: $*"
}

systemctl start rollcall
is "ready as soon as systemd says so" "$(ask /-/ready)" "rollcall is ready"
user=$(of_process Uid)
((user >= 61184 && user <= 65519)) || fail "no dynamic user: $user"
echo "ok    dynamic user: $user"
is "capabilities" "$(of_process CapPrm) $(of_process CapBnd)" "0000000000000000 0000000000000000"
is "no new privileges" "$(of_process NoNewPrivs)" 1
is "system calls are filtered" "$(of_process Seccomp)" 2
# This machine may not allow as many as the unit asks for.
allowed=$(cat /proc/sys/fs/nr_open)
[[ $(ulimit -Hn) == unlimited ]] || ((allowed <= $(ulimit -Hn))) || allowed=$(ulimit -Hn)
is "open files" "$(metric process_max_fds)" "$((allowed < 1048576 ? allowed : 1048576))"
well() { ask '/v1/health/service/rollcall?passing' | grep -q '"ServiceID": *"rollcall"'; }
within 30 well
echo "ok    a probe succeeds under all restrictions"

before=$(metric rollcall_config_last_reload_success_timestamp_seconds)
sleep 1.1
systemctl reload rollcall
later() { [[ $(metric rollcall_config_last_reload_success_timestamp_seconds) != "$before" ]]; }
within 5 later
echo "ok    reloads"
cp "$configuration" /tmp/good.yml
echo 'nonsense: 1' >>"$configuration"
systemctl reload rollcall
refused() { [[ $(metric rollcall_config_last_reload_successful) == 0 ]]; }
within 5 refused
is "after a bad configuration" "$(property ActiveState)" active
cp /tmp/good.yml "$configuration"

# A daemon that hangs. Two seconds, so that nobody has to wait for thirty.
mkdir -p /etc/systemd/system/rollcall.service.d
printf '[Service]\nWatchdogSec=2\n' >/etc/systemd/system/rollcall.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart rollcall
sleep 5
is "restarts of a daemon that is well" "$(property NRestarts)" 0
kill -STOP "$(property MainPID)"
restarted() { [[ $(property NRestarts) == 1 && $(property ActiveState) == active ]]; }
within 30 restarted
is "restarts after it hung" "$(property NRestarts)" 1
is "ready again" "$(ask /-/ready)" "rollcall is ready"

SECONDS=0
systemctl stop rollcall
is "result of stopping" "$(property Result) $(property ExecMainStatus)" "success 0"
((SECONDS <= 15)) || fail "stopping took $SECONDS s"
[[ -s /var/lib/rollcall/state.json ]] || fail "no state in /var/lib/rollcall: $(ls -lR /var/lib/rollcall/)"
is "state, kept for the next start" "$(stat -c %a /var/lib/private/rollcall)" 700

echo 'nonsense: 1' >>"$configuration"
systemctl reset-failed
if systemctl start rollcall 2>/dev/null; then fail "it starts with a bad configuration"; fi
sleep 3
is "a bad configuration" "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)" "failed 2 0"
echo done
TRIAL

# Its own console is of no interest; what it says of the daemon is in the results and the journal.
# In a process namespace that ends with this script, whatever becomes of it.
boot=(--quiet --directory="$root" --machine="$machine" --link-journal=no --register=no
    --private-network --bind="$work/out:/out" --console=pipe)
# Without a systemd here there is nobody to ask for a control group.
[[ -d /run/systemd/system ]] || boot+=(--keep-unit)
timeout --kill-after=5 180 unshare --pid --fork --kill-child=KILL --mount-proc -- \
    systemd-nspawn "${boot[@]}" --boot systemd.unit=trial.target >"$work/console" 2>&1 </dev/null || true
if [[ ! -e $work/out/results ]]; then
    cat "$work/console"
    skip "the rest: systemd does not boot in a container here ($passed passed)"
fi
grep -v '^done$' "$work/out/results" || true
if [[ $(tail -n 1 "$work/out/results") != 'done' ]]; then
    tail -n 30 "$work/out/journal" "$work/console" || true
    die "FAIL  the trial under systemd"
fi
say "$((passed + $(grep -c '^ok' "$work/out/results"))) passed"
