#!/usr/bin/env bash
# rollcall on real targets, with Prometheus and Alertmanager, on this machine and for this machine
# only: everything listens on 127.0.0.1, lives in target/demo, and ends with this script.
#
#   deploy/demo/run.sh           until Ctrl-C
#   deploy/demo/run.sh --once    shows a failure from the probe to the alert and ends (2 minutes)
#
# Needs a Rust toolchain. What else is missing (nginx, Redis, Prometheus, Alertmanager) is installed
# with apt-get, and Debian's own services of these are not started.
#
# Environment:
#
#   DEMO_BINARY             a rollcall that is built already
#   DEMO_HTTP_PORT          8500    rollcall: HTTP
#   DEMO_GRPC_PORT          8502    rollcall: gRPC
#   DEMO_WEB_PORT           18081   the first of the three web servers; takes the two after it too
#   DEMO_CACHE_PORT         18084   Redis
#   DEMO_PROMETHEUS_PORT    9090    Prometheus
#   DEMO_ALERTMANAGER_PORT  9093    Alertmanager
#   DEMO_PAGER_PORT         9099    where Alertmanager sends its notifications
set -euo pipefail

readonly http=${DEMO_HTTP_PORT:-8500} grpc=${DEMO_GRPC_PORT:-8502}
readonly web=${DEMO_WEB_PORT:-18081} cache=${DEMO_CACHE_PORT:-18084} # web: the first of three
readonly prometheus=${DEMO_PROMETHEUS_PORT:-9090} alertmanager=${DEMO_ALERTMANAGER_PORT:-9093}
readonly pager=${DEMO_PAGER_PORT:-9099} # where Alertmanager sends its notifications

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly state=${CARGO_TARGET_DIR:-$PWD/target}/demo
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }
title() { printf '\n--- %s\n' "$*"; }
die() { say "demo: $*" >&2; exit 1; }

once=
case ${1-} in
    '') ;;
    --once) once=yes ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
    *) say "usage: deploy/demo/run.sh [--once]" >&2; exit 2 ;;
esac

# --- Stopping ------------------------------------------------------------------------------------

declare -A process=() # of what was started, by name
started='' policy=''

cleanup() {
    local status=$? name pid tries
    trap - EXIT
    trap '' INT TERM
    [[ -z $policy ]] || "${as_root[@]}" rm -f "$policy"
    # Nothing of another demo's.
    [[ -n $started ]] || exit "$status"
    for name in "${!process[@]}"; do kill -TERM "${process[$name]}" 2>/dev/null || true; done
    # These go to the background by themselves, and you may have started them again.
    for pid in "$state"/nginx/*.pid; do
        [[ ! -s $pid ]] || kill -TERM "$(cat "$pid")" 2>/dev/null || true
    done
    ((${#process[@]} == 0)) || wait "${process[@]}" 2>/dev/null || true
    # Each removes its file as it ends.
    for ((tries = 0; tries < 50; tries++)); do
        compgen -G "$state/nginx/*.pid" >/dev/null || break
        sleep 0.1
    done
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# launch NAME COMMAND...: in a session of its own, so that Ctrl-C reaches this script alone.
launch() {
    local name=$1
    shift
    setsid "$@" >"$state/$name.log" 2>&1 </dev/null &
    process[$name]=$!
}

# within SECONDS WHAT COMMAND...: waits until it succeeds and nothing has died meanwhile.
within() {
    local limit=$1 what=$2 name end=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        for name in "${!process[@]}"; do
            kill -0 "${process[$name]}" 2>/dev/null ||
                { tail -n 20 "$state/$name.log" >&2; die "$name has ended; see above"; }
        done
        ((SECONDS < end)) || die "not within $limit s: $what; logs are in $state"
        sleep 0.2
    done
}

# --- What is needed --------------------------------------------------------------------------------

as_root=()
((EUID == 0)) || as_root=(sudo)

packages=() units=()
# need COMMAND PACKAGE [UNIT]
need() {
    command -v "$1" >/dev/null && return
    packages+=("$2")
    units+=(${3:+"$3"})
}
need cc gcc
need cc libc6-dev
need curl curl
need nginx nginx-light nginx
need redis-server redis-server redis-server
need prometheus prometheus prometheus
need prometheus-alertmanager prometheus-alertmanager prometheus-alertmanager

if ((${#packages[@]} > 0)); then
    command -v apt-get >/dev/null || die "needs ${packages[*]}, and there is no apt-get to install them"
    say "installing ${packages[*]}"
    # Debian starts a service as soon as it is installed, unless this file objects.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 0755 "$policy"
    fi
    "${as_root[@]}" apt-get update -qq >/dev/null || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
    [[ -z $policy ]] || "${as_root[@]}" rm -f "$policy"
    policy=
    # Nor at the next boot.
    if ((${#units[@]} > 0)) && command -v systemctl >/dev/null; then
        "${as_root[@]}" systemctl --quiet disable "${units[@]}" 2>/dev/null || true
    fi
fi

# free VARIABLE PORT
free() {
    if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then
        die "port $2 is taken; name another by $1=PORT"
    fi
}
free DEMO_HTTP_PORT "$http"
free DEMO_GRPC_PORT "$grpc"
for i in 0 1 2; do free DEMO_WEB_PORT $((web + i)); done
free DEMO_CACHE_PORT "$cache"
free DEMO_PROMETHEUS_PORT "$prometheus"
free DEMO_ALERTMANAGER_PORT "$alertmanager"
free DEMO_PAGER_PORT "$pager"

if [[ -n ${DEMO_BINARY-} ]]; then
    rollcall=$DEMO_BINARY
else
    command -v cargo >/dev/null || die "needs a Rust toolchain: https://rustup.rs"
    say "building rollcall (a few minutes the first time)"
    cargo build --quiet --locked --profile fast
    rollcall=${CARGO_TARGET_DIR:-$PWD/target}/fast/rollcall
fi
readonly rollcall
export ROLLCALL_HTTP_ADDR=127.0.0.1:$http

# --- Starting ----------------------------------------------------------------------------------------

# adapt FILE: to the ports of this run; all at once, for one may be another's default.
adapt() {
    sed -E -e 's/\b(8500|8502|1808[1-4]|9093|9099)\b/@\1@/g' \
        -e "s/@8500@/$http/g; s/@8502@/$grpc/g; s/@18084@/$cache/g" \
        -e "s/@18081@/$web/g; s/@18082@/$((web + 1))/g; s/@18083@/$((web + 2))/g" \
        -e "s/@9093@/$alertmanager/g; s/@9099@/$pager/g" "$1"
}

# nginx_configuration NAME PORT LOCATIONS
nginx_configuration() {
    cat <<NGINX
pid $state/nginx/$1.pid;
error_log $state/nginx/$1.log;
events {}
http {
    access_log off;
    client_body_temp_path $state/nginx/temp;
    proxy_temp_path $state/nginx/temp;
    fastcgi_temp_path $state/nginx/temp;
    uwsgi_temp_path $state/nginx/temp;
    scgi_temp_path $state/nginx/temp;
    log_format notification '\$time_iso8601 \$request_uri';
    server {
        listen 127.0.0.1:$2;
        default_type text/plain;
        $3
    }
}
NGINX
}

# serve NAME: starts the web server of that name. Its first log is the one before its own is read.
serve() { nginx -e "$state/nginx/$1.log" -c "$state/nginx/$1.conf"; }

# Held by everything that is started from here on.
mkdir -p "$(dirname "$state")"
exec 9>"$state.lock"
flock --nonblock 9 || die "a demo runs in $state already, or something of it still does"
rm -rf "$state"
started=yes
mkdir -p "$state"/{nginx,prometheus,alertmanager}
for i in 1 2 3; do
    nginx_configuration "web-$i" $((web + i - 1)) \
        "location = /healthz { return 200 'well\n'; } location / { return 200 'This is web-$i.\n'; }" \
        >"$state/nginx/web-$i.conf"
    serve "web-$i"
done
nginx_configuration pager "$pager" \
    "location / { access_log $state/notifications.log notification; return 200; }" \
    >"$state/nginx/pager.conf"
serve pager
launch redis redis-server --bind 127.0.0.1 --port "$cache" --save '' --dir "$state"

adapt deploy/demo/rollcall.yml >"$state/rollcall.yml"
launch rollcall "$rollcall" run --config "$state/rollcall.yml" --data-dir "$state/data"

# The shipped rules and routes; only asked more often, so that you see something soon.
cp alerts/*.rules.yml alerts/*.alerts.yml "$state/prometheus"
adapt alerts/prometheus.yml |
    sed -E 's/(scrape_interval|evaluation_interval): .*/\1: 5s/; s/(scrape_timeout): .*/\1: 4s/' \
        >"$state/prometheus/prometheus.yml"
launch prometheus prometheus --config.file="$state/prometheus/prometheus.yml" \
    --storage.tsdb.path="$state/prometheus/data" --log.level=warn \
    --web.listen-address="127.0.0.1:$prometheus" --web.external-url="http://127.0.0.1:$prometheus"
adapt alerts/alertmanager.yml >"$state/alertmanager/alertmanager.yml"
launch alertmanager prometheus-alertmanager --config.file="$state/alertmanager/alertmanager.yml" \
    --storage.path="$state/alertmanager" --log.level=warn --cluster.listen-address= \
    --web.listen-address="127.0.0.1:$alertmanager" \
    --web.external-url="http://127.0.0.1:$alertmanager"

fetch() { curl --silent --show-error --fail --max-time 5 "$@"; }
count() { fetch "http://127.0.0.1:$http/v1/health/state/$1" | { grep -o '"CheckID"' || true; } | wc -l; }
all_well() { (($(count any) > 1 && $(count any) == $(count passing))); }
query() { promtool query instant "http://127.0.0.1:$prometheus" "$1"; }
finds() { query "$1" | grep -q '=>'; }

say "waiting until all is well"
within 30 "rollcall is ready" fetch "http://127.0.0.1:$http/-/ready"
within 30 "all checks pass" all_well
within 30 "Prometheus is ready" fetch "http://127.0.0.1:$prometheus/-/ready"
within 30 "Alertmanager is ready" fetch "http://127.0.0.1:$alertmanager/-/ready"
within 60 "Prometheus sees rollcall" finds 'up{job="rollcall"} == 1'

title "rollcall ls"
"$rollcall" ls

# --- Showing -----------------------------------------------------------------------------------------

readonly stop_it="kill \$(cat $state/nginx/web-2.pid)"
start_it="$(command -v nginx) -e $state/nginx/web-2.log -c $state/nginx/web-2.conf"

if [[ -n $once ]]; then
    title "one of three web servers dies: $stop_it"
    launch watch "$rollcall" watch web
    sleep 1
    kill "$(cat "$state/nginx/web-2.pid")"
    within 20 "web-2 is critical" grep -q 'web/web-2 .*-> critical' "$state/watch.log"

    title "rollcall watch web"
    cat "$state/watch.log"
    title "rollcall ls --status critical"
    "$rollcall" ls --status critical
    title "who may be sent requests: curl 'http://127.0.0.1:$http/v1/health/service/web?passing'"
    fetch "http://127.0.0.1:$http/v1/health/service/web?passing" | grep -oE '"ID": ?"web-[0-9]"'

    alert='ALERTS{alertname="RollcallTargetDown",target="web-2"}'
    title "the alert is pending; a minute later it fires"
    within 30 "the alert is pending" finds "$alert"
    query "$alert"
    within 120 "the alert fires" finds "${alert%\}},alertstate=\"firing\"}"
    query "${alert%\}},alertstate=\"firing\"}"
    at_alertmanager() {
        amtool alert query --alertmanager.url="http://127.0.0.1:$alertmanager" target=web-2 |
            grep RollcallTargetDown
    }
    within 30 "Alertmanager has the alert" at_alertmanager
    title "amtool alert query"
    amtool alert query --alertmanager.url="http://127.0.0.1:$alertmanager"

    title "half a minute later somebody is told: $state/notifications.log"
    within 60 "a ticket is opened" grep -q ' /ticket$' "$state/notifications.log"
    cat "$state/notifications.log"

    title "web-2 comes back: $start_it"
    serve web-2
    within 20 "web-2 is passing" grep -q 'web/web-2 .*critical -> passing' "$state/watch.log"
    tail -n 1 "$state/watch.log"
    within 20 "all checks pass" all_well
    title "rollcall ls"
    "$rollcall" ls
    exit 0
fi

# Debian's Prometheus has the older pages only.
alerts=http://127.0.0.1:$prometheus/alerts
fetch --output /dev/null "$alerts" 2>/dev/null || alerts=http://127.0.0.1:$prometheus/classic/alerts

cat <<TEXT

--- Everything runs. To look at:

  the API of rollcall                 http://127.0.0.1:$http/
  its metrics                         http://127.0.0.1:$http/metrics
  the rules of alerts/, in Prometheus $alerts
  what fires, at Alertmanager         amtool alert --alertmanager.url=http://127.0.0.1:$alertmanager
                                      (RollcallWatchdog always does: it proves the path)
  whom Alertmanager has notified      $state/notifications.log

Grafana is not in Debian. Where you have it: deploy/grafana/provisioning loads the dashboards of
dashboards/, with http://127.0.0.1:$prometheus as data source.

--- Three things to try, in another terminal:

1. Let a web server die, and bring it back:

     $rollcall watch --http-addr 127.0.0.1:$http
     $stop_it
     $start_it

2. Leave it dead for a minute and see RollcallTargetDown fire:

     $alerts

3. Ask as clients of Consul ask, for the instances that pass:

     curl 'http://127.0.0.1:$http/v1/health/service/web?passing'

Ctrl-C stops everything.
TEXT
trap 'say; exit 0' INT TERM
set +e
wait -n -p ended "${process[@]}"
for name in "${!process[@]}"; do
    [[ ${process[$name]} != "${ended-}" ]] || { tail -n 20 "$state/$name.log" >&2; die "$name has ended; see above"; }
done
