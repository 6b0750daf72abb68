#!/usr/bin/env bash
# What a plain HTTP probe costs the program itself, counted and not timed: the instructions of the
# whole daemon (schedule, probe, judge, metrics, registry) by callgrind, and its system calls by
# strace. The same fleet is run twice, the second time asked ten times as often; the difference is
# what its further probes took. Both programs are held to one CPU, where nginx goes first whenever it
# can: the answers of a tick are then there when rollcall is next, as from targets quicker than a tick,
# and what the host of a virtual machine does meanwhile changes no count. Fails if a figure is more than a twentieth above the
# one recorded here, so raise them only with a reason, and lower them when they fall.
#
#   tests/cost.sh PROGRAM      an optimised build of rollcall
#
# Needs nginx (who is probed), valgrind and strace.
set -euo pipefail
export LC_ALL=C

# Measured with the binary of the image (musl, fast profile); with glibc it is a twenty-fifth less.
# The goals are 12,000 and 11, better 8,000 and 10.
readonly INSTRUCTIONS=10000
readonly SYSCALLS=8

readonly program=$1
readonly CHECKS=200 SELDOM=2000 OFTEN=200 SECONDS_EACH=15
readonly PORT=28571 API=28570
work=$(mktemp -d)
# The last of the CPUs that may be used.
cpu=$(taskset --cpu-list --pid $$ | sed 's/.*[^0-9]//')
readonly cpu
nginx=
trap '[[ -z $nginx ]] || kill "$nginx" 2>/dev/null || true; rm -rf "$work"' EXIT

export PATH=$PATH:/usr/sbin

# A tick of 50 ms puts as many probes into one wake as 10,000 a second put into one of 5 ms: under
# callgrind no more than a tenth of that can be run.
configuration() {
    local n
    echo "listen: { http: \"127.0.0.1:$API\", grpc: \"127.0.0.1:0\" }"
    echo "scheduler: { tick: 50ms, max_in_flight_per_host: 10000, max_tripwires: 0 }"
    echo "services:"
    echo "- name: cost"
    echo "  checks: [{ http: { path: /health }, interval: $1ms, timeout: 150ms, allow_fast_interval: true }]"
    echo "  instances:"
    for ((n = 0; n < CHECKS; n++)); do echo "  - { id: i$n, address: 127.0.0.1, port: $PORT }"; done
}

# run NAME INTERVAL COMMAND…: runs rollcall so under a command; sets `probes` to how many it made.
run() {
    local name=$1 interval=$2
    shift 2
    configuration "$interval" >"$work/$name.yml"
    : >"$work/access.log"
    taskset --cpu-list "$cpu" chrt --idle 0 \
        timeout --signal TERM --kill-after 60 "$SECONDS_EACH" "$@" "$program" run \
        --config "$work/$name.yml" --data-dir "$work/$name" --log-filter warn \
        >"$work/$name.out" 2>&1 || [[ $? == 124 ]] || { cat "$work/$name.out"; return 1; }
    sleep 0.5
    probes=$(wc -l <"$work/access.log")
}

# marginal WHAT BOUND COUNTED_SELDOM COUNTED_OFTEN: says and judges the difference.
marginal() {
    awk -v what="$1" -v bound="$2" -v a="$3" -v b="$4" -v pa="$seldom" -v pb="$often" 'BEGIN {
        cost = (b - a) / (pb - pa)
        printf "%s: %.1f a probe (recorded: %s), of %d probes\n", what, cost, bound, pb - pa
        exit !(pb - pa > 1000 && cost > 0 && cost <= bound * 1.05)
    }'
}

cat >"$work/nginx.conf" <<END
daemon off; worker_processes 1; pid $work/nginx.pid; error_log $work/error.log;
events { worker_connections 4096; }
http { access_log $work/access.log; server { listen 127.0.0.1:$PORT; location / { return 200 ok; } } }
END
taskset --cpu-list "$cpu" nginx -c "$work/nginx.conf" &
nginx=$!
failed=0

instructions() { sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p' "$work/$1.out"; }
callgrind=(valgrind --tool=callgrind --callgrind-out-file=/dev/null)
count_instructions() {
    run seldom "$SELDOM" "${callgrind[@]}"
    seldom=$probes
    run often "$OFTEN" "${callgrind[@]}"
    often=$probes
    marginal instructions "$INSTRUCTIONS" "$(instructions seldom)" "$(instructions often)"
}
# What else this machine does can starve rollcall, but never make it cheaper.
count_instructions || count_instructions || count_instructions ||
    { echo "cost.sh: FAIL  instructions" >&2; failed=1; }

calls() { awk '$1 ~ /^[0-9.]+$/ && $NF != "total" { sum += $4 } END { print sum }' "$work/calls.$1"; }
run calls-seldom "$SELDOM" strace --follow-forks --summary-only --output="$work/calls.seldom"
seldom=$probes
run calls-often "$OFTEN" strace --follow-forks --summary-only --output="$work/calls.often"
often=$probes
marginal "system calls" "$SYSCALLS" "$(calls seldom)" "$(calls often)" ||
    { echo "cost.sh: FAIL  system calls" >&2; failed=1; }
exit "$failed"
