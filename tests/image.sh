#!/usr/bin/env bash
# Builds the image of the Dockerfile and proves what docs/operation.md says about it: the binary is
# static, there is nothing else to run, and the daemon works as nobody, on a read-only root, with
# one writable volume.
#
# Needs root, Rust with its musl target and a C compiler; installs buildah if apt-get has it. Asks
# no registry of images: the builder image is a stand-in, an empty root under which this machine's
# own compilers are mounted. The Dockerfile is the one that is shipped, built with PROFILE=dev for
# speed unless the environment names another.
# What cargo made is kept in target/image, so a second run is quick.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly builder=docker.io/library/rust:1.95-alpine
readonly image=localhost/rollcall:test
readonly keep=$PWD/target/image
readonly profile=${PROFILE:-dev}
work=
daemon=

say() { printf '%s\n' "$*"; }
die() { say "image.sh: $*" >&2; exit 1; }
skip() { say "image.sh: SKIPPED: $*"; exit 0; }

passed=0
ok() { say "ok    $*"; passed=$((passed + 1)); }

# is NAME ACTUAL EXPECTED
is() { [[ $2 == "$3" ]] || die "FAIL  $1: expected '$3', found '$2'"; ok "$1: $2"; }

# A storage of its own: images and containers of the machine are neither seen nor touched.
tool() {
    local command=$1 attempt
    shift
    for attempt in 1 2 3 4 5; do
        if buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$command" "$@" \
            2>"$work/complaint"; then
            break
        fi
        # Before it does anything it seals a copy of its own program in memory, and now and then the
        # kernel refuses that because a page of it is in use.
        if ((attempt == 5)) || ! grep -q 'sealing memfd copy: Device or resource busy' "$work/complaint"; then
            cat "$work/complaint" >&2
            return 1
        fi
        sleep 1
    done
    cat "$work/complaint" >&2
}

# youngest PROCESS: its child's child and so on: below the shells, the process that matters.
youngest() {
    local process=$1 children
    while children=$(cat "/proc/$process/task/$process/children" 2>/dev/null) && [[ -n $children ]]; do
        process=${children%% *}
    done
    echo "$process"
}

cleanup() {
    local status=$?
    if [[ -n $daemon ]]; then kill -KILL "$(youngest "$daemon")" 2>/dev/null || true; fi
    if [[ -n $work ]]; then
        tool rm --all >/dev/null 2>&1 || true
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- What is needed ------------------------------------------------------------------------

install() {
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

command -v buildah >/dev/null || install buildah || skip "buildah is not here and cannot be installed"
[[ $EUID == 0 ]] || die "needs root, to mount the image and to change to the daemon's user"
for need in curl:curl readelf:binutils ip:iproute2 setpriv:util-linux; do
    command -v "${need%:*}" >/dev/null || install "${need#*:}" || die "needs ${need%:*}"
done

target=$(uname -m)-unknown-linux-musl
command -v cargo >/dev/null || die "needs a Rust toolchain"
sysroot=$(rustc --print sysroot)
readonly cargo_home=${CARGO_HOME:-$HOME/.cargo}
[[ -d $sysroot/lib/rustlib/$target ]] || rustup target add "$target" || die "needs the Rust target $target"
cargo fetch --quiet --locked --target "$target"

mkdir -p "$keep/cargo"
work=$(mktemp -d --tmpdir="$keep")
# The daemon's user has to reach what is below.
chmod 0755 "$work"

# --- The stand-in for the builder image, and the image ---------------------------------------

mkdir -p "$work"/builder/root/{usr,tmp,etc/alternatives,opt/rust,opt/cargo/registry}
for directory in bin sbin lib lib64; do
    ln -s "usr/$directory" "$work/builder/root/$directory"
done
cat >"$work/builder/Dockerfile" <<'STANDIN'
FROM scratch
COPY root/ /
ENV PATH=/opt/rust/bin:/usr/bin:/bin CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true CARGO_TERM_COLOR=never
STANDIN
tool bud --quiet --isolation chroot --tag "$builder" "$work/builder" >/dev/null

say "building the image"
SECONDS=0
tool bud --isolation chroot --pull-never --tag "$image" \
    --build-arg PROFILE="$profile" --build-arg REVISION=image-test \
    --volume /usr:/usr:ro \
    --volume /etc/alternatives:/etc/alternatives:ro \
    --volume "$sysroot:/opt/rust:ro" \
    --volume "$cargo_home/registry:/opt/cargo/registry:ro" \
    --volume "$keep/cargo:/src/target" \
    . >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; die "FAIL  the image does not build"; }
ok "the image builds, in $SECONDS s"

# --- What is in it -----------------------------------------------------------------------------

# inspect FIELD: of the image's configuration, lists separated by blanks.
inspect() { tool inspect --type image --format "{{range .OCIv1.Config.$1}}{{.}} {{end}}" "$image"; }

is "user" "$(tool inspect --type image --format '{{.OCIv1.Config.User}}' "$image")" 65532:65532
is "entrypoint" "$(inspect Entrypoint)" "/rollcall "
is "command" "$(inspect Cmd)" "run --data-dir /data "
is "volumes" "$(tool inspect --type image --format '{{.OCIv1.Config.Volumes}}' "$image")" "map[/data:{}]"
is "ports" "$(tool inspect --type image --format '{{.OCIv1.Config.ExposedPorts}}' "$image")" \
    "map[8500/tcp:{} 8502/tcp:{}]"

container=$(tool from --pull-never "$image")
mounted=$(tool mount "$container")
is "files, and so no shell" "$(cd "$mounted" && find . -mindepth 1 -printf '%p %U:%G %m\n' | sort | tr '\n' ' ')" \
    "./data 65532:65532 700 ./rollcall 0:0 755 "
is "dynamic loader" "$(readelf --program-headers "$mounted/rollcall" | grep -c INTERP)" 0
is "shared libraries" "$(readelf --dynamic "$mounted/rollcall" | grep -c NEEDED)" 0
ok "version, in the container: $(tool run --isolation chroot "$container" -- /rollcall --version)"
say "size  $(du -h --apparent-size "$mounted/rollcall" | cut -f1), profile $profile"

# --- How it runs ---------------------------------------------------------------------------------

# What a container engine makes of the image with a read-only root and one volume: mount points,
# and namespaces of its own for files, processes and network.
readonly root=$work/root data=$work/data
mkdir -m 0755 "$root"
cp -a "$mounted/." "$root"
mkdir -p "$root/dev" "$root/etc" "$root/proc"
chmod 0755 "$root"
mkdir -m 0700 "$data"
chown 65532:65532 "$data"

# contained COMMAND...: runs it there, as the image's user, without any capability. 10.0.0.1 stands
# for the address at which others see the container.
contained() {
    # shellcheck disable=SC2016 # expanded inside
    unshare --mount --net --pid --fork --kill-child=KILL -- bash -c '
        set -e
        root=$1 data=$2
        shift 2
        ip link set lo up
        ip address add 10.0.0.1/32 dev lo
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
        mount --bind "$data" "$root/data"
        exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
            chroot --userspec=65532:65532 --groups= "$root" "$@"
    ' contained "$root" "$data" "$@"
}

# ask URL: from inside.
ask() {
    nsenter --target "$pid" --net curl --silent --show-error --fail --max-time 5 --noproxy '*' "$1"
}

# start COMMAND...: in the background, until it is ready.
start() {
    local i
    contained "$@" >"$work/daemon.log" 2>&1 &
    daemon=$!
    for ((i = 0; i < 300; i++)); do
        pid=$(youngest "$daemon")
        if ask http://127.0.0.1:8500/-/ready >/dev/null 2>&1; then
            # Whose name space it was may have been one of the shells on the way.
            pid=$(youngest "$daemon")
            return
        fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/daemon.log"
    die "FAIL  the daemon does not get ready: $*"
}

stop() {
    local status=0
    kill -TERM "$pid"
    wait "$daemon" || status=$?
    daemon=
    [[ $status == 0 ]] || cat "$work/daemon.log"
    is "exit code after TERM" "$status" 0
}

status_of() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }

# shellcheck disable=SC2046 # the command is a list of words
start $(inspect Entrypoint) $(inspect Cmd)
is "ready" "$(ask http://127.0.0.1:8500/-/ready)" "rollcall is ready"
is "user of the process" "$(status_of Uid):$(status_of Gid)" 65532:65532
is "capabilities" "$(status_of CapPrm) $(status_of CapEff)" "0000000000000000 0000000000000000"
is "no new privileges" "$(status_of NoNewPrivs)" 1
revision=$(ask http://127.0.0.1:8500/metrics | sed -n 's/^rollcall_build_info{.*revision="\([^"]*\)".*/\1/p')
is "revision" "$revision" image-test

# Not even root can write there: it is the mount, not only the daemon's rights.
inside() { nsenter --target "$pid" --mount -- "$@"; }
if inside touch "$root/file" 2>/dev/null; then die "FAIL  the root is writable"; fi
ok "the root is read-only"
inside touch "$root/data/file" || die "FAIL  /data is not writable"
inside rm "$root/data/file"

stop
saved=$(cd "$data" && find . -mindepth 1 -type f -user 65532 | sort | tr '\n' ' ')
[[ -n $saved ]] || die "FAIL  nothing was written to /data"
ok "written to /data: $saved"

status=0
contained /rollcall run --data-dir /elsewhere >"$work/daemon.log" 2>&1 || status=$?
is "exit code where it may not write" "$status" 1
grep -q /elsewhere "$work/daemon.log" || { cat "$work/daemon.log"; die "FAIL  it does not say where"; }

# As deploy/compose runs it, open to other containers, with its own binary as the health check.
mkdir "$root/etc/rollcall"
cp deploy/compose/rollcall.yml "$root/etc/rollcall"
start /rollcall run --config /etc/rollcall/rollcall.yml --data-dir /data
is "ready, from outside" "$(ask http://10.0.0.1:8500/-/ready)" "rollcall is ready"
nsenter --target "$pid" --net "$root/rollcall" probe http://127.0.0.1:8500/-/ready >/dev/null ||
    die "FAIL  the health check of deploy/compose"
ok "the health check of deploy/compose"
stop

say "$passed passed"
