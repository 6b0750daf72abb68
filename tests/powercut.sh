#!/usr/bin/env bash
# Power cuts on a file system of our own: the kill test of tests/crash, but at the moment of the end
# ext4 drops everything that was not synced (its shutdown ioctl without a flush of the journal), and
# is mounted again before the next start. Needs root, a loop device, ext4, and python3 for the ioctl.
#
#   tests/powercut.sh [ROUNDS]    120 by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() {
    echo "power cut: skipped: $1"
    exit 0
}

((EUID == 0)) || skip "needs root"
command -v mkfs.ext4 >/dev/null || skip "needs mkfs.ext4 (e2fsprogs)"
command -v python3 >/dev/null || skip "needs python3"

work=$(mktemp -d)
mounted=$work/mounted
# The program that the test calls: it cuts the power, and brings it back.
cat >"$work/power" <<END
#!/usr/bin/env bash
set -euo pipefail
case \$1 in
    cut) exec python3 -c 'import fcntl, os, struct, sys
place = os.open("$mounted", os.O_RDONLY)
sys.stdin.readline()
fcntl.ioctl(place, 0x8004587d, struct.pack("I", 2))' ;;
    restore)
        umount "$mounted"
        mount -o loop "$work/image" "$mounted" ;;
esac
END
chmod +x "$work/power"
trap 'umount "$mounted" 2>/dev/null || true; rm -rf "$work"' EXIT

truncate -s 1G "$work/image"
mkfs.ext4 -qF "$work/image"
mkdir "$mounted"
mount -o loop "$work/image" "$mounted" 2>/dev/null || skip "no loop device can be mounted"
"$work/power" cut </dev/null 2>/dev/null || skip "ext4 here cannot be shut down"
"$work/power" restore

CRASH_ROUNDS=${1:-120} CRASH_DIR=$mounted CRASH_CUT=$work/power RUST_BACKTRACE=0 \
    cargo test ${POWERCUT_PROFILE:+--profile "$POWERCUT_PROFILE"} --locked --all-features \
    --test crash -- --nocapture kill
