#!/usr/bin/env bash
# Runs all tests, and installs what they need before: on a machine with a Rust toolchain and
# access to Debian's packages, PyPI and crates.io (for the clients of Consul also to npm and Go's
# module proxy: what cannot be had is skipped, and said), this is the only command. Runs from anywhere,
# as often as you like; what is installed already is left alone. Stops at the first failure.
#
#   tests/run.sh            everything
#   tests/run.sh --install  only install what is needed
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=target/live-venv
clients=target/live-clients
began=$SECONDS

# One set of features for every cargo command, so that nothing is compiled twice.
features=(--locked --all-features)

heading() {
    printf '\n=== [%3d s] %s\n' $((SECONDS - began)) "$1"
}

# --- Installing ---------------------------------------------------------------------------

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "run.sh: needs root (or sudo) once, to run: $*" >&2
        return 1
    fi
}

# Names the Debian packages whose programs are missing.
missing_packages() {
    local program package
    while read -r program package; do
        PATH=$PATH:/usr/sbin:/usr/local/go/bin command -v "$program" >/dev/null || echo "$package"
    done <<'END'
cc gcc
cc libc6-dev
nginx nginx-light
redis-server redis-server
etcd etcd-server
prometheus prometheus
promtool prometheus
prometheus-alertmanager prometheus-alertmanager
amtool prometheus-alertmanager
prometheus-blackbox-exporter prometheus-blackbox-exporter
python3 python3
dig bind9-dnsutils
curl curl
node nodejs
npm npm
go golang-go
setpriv util-linux
strace strace
valgrind valgrind
mkfs.ext4 e2fsprogs
END
    # Debian keeps the part of Python that makes environments in a package of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# Installs packages without starting their services, now or at the next boot: the tests start the
# programs themselves, on ports that are free, and a service would hold the usual ones. The body is
# a subshell, so that its trap takes the ban on starting back whatever happens.
install_packages() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    if [[ -d /run/systemd/system ]]; then
        for package in "$@"; do
            # The units that differ in name from their package.
            case $package in
                nginx-light) unit=nginx ;;
                etcd-server) unit=etcd ;;
                *) unit=$package ;;
            esac
            as_root systemctl disable -q "$unit" 2>/dev/null || true
        done
    fi
)

install_all() {
    local packages component
    mapfile -t packages < <(missing_packages | sort -u)
    if ((${#packages[@]})); then
        install_packages "${packages[@]}"
    fi
    if ! "$venv/bin/python" -c 'import grpc, grpc_health' 2>/dev/null; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install -q 'grpcio>=1.60' 'grpcio-health-checking>=1.60'
    fi
    tests/live/clients/install.sh "$clients" "$venv/bin/python"
    for component in rustfmt clippy; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
    done
}

# --- Testing ------------------------------------------------------------------------------

heading "install what the tests need"
install_all
[[ ${1-} != --install ]] || exit 0

heading "format"
cargo fmt --all -- --check

heading "lints"
cargo clippy "${features[@]}" --all-targets -- -D warnings

heading "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc "${features[@]}" --no-deps

heading "unit and integration tests"
cargo test "${features[@]}" --lib --bins --test it

heading "planted bugs still apply"
tests/mutants.sh --check

heading "what survives: kills, power cuts, failing and full disks"
RUST_BACKTRACE=0 cargo test "${features[@]}" --test crash -- --nocapture --test-threads 1
tests/powercut.sh 15

heading "rules, runbooks and routing (promtool, amtool)"
alerts/check.sh

heading "dashboards"
python3 dashboards/check.py

heading "live stage (nginx, Redis, etcd, gRPC, Prometheus, Alertmanager, blackbox exporter)"
RUST_BACKTRACE=0 cargo test "${features[@]}" --test live the_daemon -- --nocapture

heading "clients of Consul (py-consul, Node.js, Go, Prometheus' discovery, curl)"
RUST_BACKTRACE=0 cargo test "${features[@]}" --test live clients_of_consul -- --nocapture

heading "demo"
DEMO_BINARY=$PWD/target/debug/rollcall DEMO_HTTP_PORT=28500 DEMO_GRPC_PORT=28502 \
    DEMO_WEB_PORT=28081 DEMO_CACHE_PORT=28379 DEMO_PROMETHEUS_PORT=28090 \
    DEMO_ALERTMANAGER_PORT=28093 DEMO_PAGER_PORT=28094 deploy/demo/run.sh --once

heading "systemd unit"
tests/unit.sh "$PWD/target/debug/rollcall"

heading "container image"
PROFILE=fast tests/image.sh

heading "what a probe costs, in instructions and system calls"
optimised=(target/image/cargo/*/fast/rollcall)
if [[ ! -x ${optimised[0]} ]]; then
    # There was no image to be built here.
    cargo build --locked --profile fast
    optimised=(target/fast/rollcall)
fi
tests/cost.sh "${optimised[0]}"

# A client that could not be had is told once more at the end.
for missing in "$clients"/*.missing; do
    [[ ! -e $missing ]] || heading "NOT TESTED: client $(basename "$missing" .missing): $(<"$missing")"
done

heading "all tests passed"
