#!/usr/bin/env bash
# Gets the Consul clients that the live tests run, at versions that are written down:
#
#   install.sh FOLDER PYTHON    into FOLDER, and into the environment of PYTHON
#
# One that cannot be had is not an error: FOLDER/<client>.missing says why, and the live tests say
# so and count it. What is there already is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=$2
PATH=$PATH:/usr/local/go/bin

# Runs what gets a client, unless it was got by the same text before.
get() {
    local client=$1 wanted=$2
    if [[ $(cat "$folder/$client.ready" 2>/dev/null) == "$wanted" ]]; then
        return
    fi
    rm -f "$folder/$client.ready" "$folder/$client.missing"
    # In a shell of its own, for `errexit` is off in what stands behind `if`.
    if "$BASH" -euo pipefail -c "$(declare -f "get_$client"); get_$client" >"$folder/$client.log" 2>&1; then
        echo "$wanted" >"$folder/$client.ready"
    else
        { grep -v '^ *$' "$folder/$client.log" || echo "for no reason it tells"; } |
            tail -1 >"$folder/$client.missing"
        echo "install.sh: no client $client: $(<"$folder/$client.missing")" >&2
    fi
}

# The client, what its tests need, and its source, for its tests are only there.
get_python() {
    "$python" -m pip install -q "$py_consul" aiohttp packaging pytest pytest-asyncio pytest-xdist
    "$python" -m pip download -q --no-deps --no-binary :all: -d "$folder" "$py_consul"
    rm -rf "$folder/py_consul"
    mkdir "$folder/py_consul"
    tar -xzf "$folder"/py_consul-*.tar.gz -C "$folder/py_consul" --strip-components=1
}

get_node() {
    rm -rf "$folder/node"
    mkdir "$folder/node"
    cp "$here"/node/* "$folder/node"
    npm ci --prefix "$folder/node" --no-audit --no-fund --ignore-scripts
}

# The client's own tests wait for the certificates of Consul's service mesh, and for two seconds,
# each time they start a server: their way of starting one is made to do without.
get_go() {
    rm -rf "$folder/go"
    mkdir "$folder/go"
    cp "$here"/go/* "$folder/go"
    cd "$folder/go"
    go mod download || GOSUMDB=off go mod download
    export GOSUMDB=off
    cp -r "$(go list -m -f '{{.Dir}}' github.com/hashicorp/consul/sdk)" sdk
    chmod -R u+w sdk
    sed -i -e '/WaitForActiveCARoot(t testing.TB) {/s/$/ return/' \
        -e '/waitForAPI() error {/,/^}/ {
            s/retry.TwoSeconds()/\&retry.Timer{Timeout: 30 * time.Second, Wait: 25 * time.Millisecond}/
            s/failed = false/return nil/
        }' sdk/testutil/server.go
    go mod edit -replace github.com/hashicorp/consul/sdk=./sdk
    local api=github.com/hashicorp/consul/api
    go build -o client .
    go test -c -vet=off -o api.test $api
    go test -c -vet=off -o watch.test $api/watch
}

get_prometheus() {
    rm -rf "$folder/prometheus"
    mkdir "$folder/prometheus"
    cd "$here/prometheus"
    go build -o "$folder/prometheus/discover" . || GOSUMDB=off go build -o "$folder/prometheus/discover" .
}

export folder here python PATH
export py_consul=py-consul==1.8.0

get python "$py_consul $(declare -f get_python)"
get node "$(cat "$here"/node/*) $(declare -f get_node)"
get prometheus "$(cat "$here"/prometheus/*) $(declare -f get_prometheus)"
get go "$(cat "$here"/go/*) $(declare -f get_go)"
