#!/usr/bin/env bash
# Checks everything in this directory: rules, their unit tests, coverage and style of the
# alerts, runbooks, the Alertmanager configuration and its routes. Runs from anywhere, and
# needs promtool and amtool. One line per step; exit status 1 if any step failed.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")"
runbooks=../docs/runbooks
runbook_base=https://github.com/rollcall/rollcall/blob/main/docs/runbooks

for tool in promtool amtool; do
    if ! command -v "$tool" >/dev/null; then
        echo "check.sh: $tool not found: apt-get install prometheus prometheus-alertmanager" >&2
        exit 1
    fi
done

shopt -s nullglob
rule_files=(*.rules.yml *.alerts.yml)
test_files=(tests/*.yml)
if ((${#rule_files[@]} == 0 || ${#test_files[@]} == 0)); then
    echo "check.sh: no rule files or no tests in $PWD" >&2
    exit 1
fi

passed=0
failed=0

# step NAME COMMAND...: runs a command; its output is shown only if it fails.
step() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok    $name"
        passed=$((passed + 1))
    else
        echo "FAIL  $name"
        sed 's/^/      | /' <<<"$output"
        failed=$((failed + 1))
    fi
}

# complain_if TEXT: succeeds if there is nothing to complain about.
complain_if() {
    [[ -z $1 ]] || { printf '%s\n' "$1"; return 1; }
}

# --- What the files say -------------------------------------------------------------------

# One line per alert: name|severity|long|summary|has description|runbook_url. It relies on
# the layout of our files (one key per line); `every rule is understood` guards that.
list_alerts() {
    awk '
        function value(line) {
            sub(/^[^:]*:[ ]*/, "", line)
            gsub(/^["\047]|["\047]$/, "", line)
            return line
        }
        function flush() {
            if (name != "") print name "|" severity "|" long "|" summary "|" description "|" url
            name = severity = long = summary = description = url = ""
        }
        FNR == 1 || /^ *- (name|record|alert):/ { flush() }
        /^ *- alert:/         { name = value($0) }
        /^ *severity:/        { severity = value($0) }
        /^ *long:/            { long = value($0) }
        /^ *summary:/         { summary = value($0) }
        /^ *description: *./  { description = "yes" }
        /^ *runbook_url:/     { url = value($0) }
        END { flush() }
    ' "$@"
}

# One line per expectation of the tests: silent|name, or firing|name|severity|long.
list_tested() {
    awk '
        function value(line) { sub(/^[^:]*:[ ]*/, "", line); return line }
        /^ *(- )?alertname:/          { name = value($0) }
        /^ *exp_alerts: *\[\] *$/     { print "silent|" name }
        /^ *- exp_labels:/            { labels = 1; severity = long = "" }
        labels && /^ *severity:/      { severity = value($0) }
        labels && /^ *long:/          { long = value($0) }
        /^ *exp_annotations:/         { if (severity != "") print "firing|" name "|" severity "|" long
                                        labels = 0; severity = "" }
    ' "$@"
}

alerts=$(list_alerts "${rule_files[@]}")
tested=$(list_tested "${test_files[@]}")
names=$(cut -d'|' -f1 <<<"$alerts" | sort -u)

# --- The steps ----------------------------------------------------------------------------

check_rules() { promtool check rules --lint=all --lint-fatal "$1"; }

# The rules seen by the awk above are those that promtool finds.
check_understood() {
    local theirs ours
    theirs=$(promtool check rules "${rule_files[@]}" | awk '/rules found/ { n += $2 } END { print n + 0 }')
    ours=$(($(wc -l <<<"$alerts") + $(cat "${rule_files[@]}" | grep -c '^ *- record:')))
    [[ $theirs == "$ours" ]] || { echo "promtool finds $theirs rules, this script $ours"; return 1; }
}

check_severity() {
    complain_if "$(awk -F'|' '$2 !~ /^(critical|warning|info|none)$/ {
        print $1 ": severity \"" $2 "\" is none of critical, warning, info, none" }' <<<"$alerts")"
}

check_annotations() {
    complain_if "$(awk -F'|' -v base="$runbook_base" '
        $4 == ""                 { print $1 ": no summary" }
        $4 != "" && $4 !~ /^[A-Z].*\.$/ {
            print $1 ": the summary must begin with a capital and end with a full stop: " $4 }
        $4 ~ /\{\{/              { print $1 ": the summary must be static: " $4 }
        $5 == ""                 { print $1 ": no description" }
        $6 != base "/" $1 ".md"  { print $1 ": runbook_url must be " base "/" $1 ".md, is \"" $6 "\"" }
    ' <<<"$alerts")"
}

check_firing() {
    complain_if "$(awk -F'|' '
        NR == FNR { if ($1 == "firing") seen[$2 "|" $3 "|" $4] = 1; next }
        !($1 "|" $2 "|" $3 in seen) {
            print $1 " (severity " $2 ($3 == "" ? "" : ", long " $3) "): no firing case" }
    ' <(echo "$tested") <(echo "$alerts"))"
}

check_silent() {
    complain_if "$(awk -F'|' '
        NR == FNR { if ($1 == "silent") seen[$2] = 1; next }
        !($1 in seen) { print $1 ": no silent case" }
    ' <(echo "$tested") <(echo "$names"))"
}

# A test that names an alert which does not exist passes whenever it expects silence.
check_tested_exist() {
    complain_if "$(cut -d'|' -f2 <<<"$tested" | sort -u | comm -13 <(echo "$names") - |
        sed 's/$/: tested, but no such alert/')"
}

check_runbooks() {
    local name file
    while read -r name; do
        [[ -s $runbooks/$name.md ]] || { echo "$name: no $runbooks/$name.md"; continue; }
        [[ $(head -n 1 "$runbooks/$name.md") == "# $name" ]] || echo "$name.md: title is not \"# $name\""
        grep -qF "($name.md)" "$runbooks/README.md" || echo "$name: not in $runbooks/README.md"
    done <<<"$names"
    for file in "$runbooks"/*.md; do
        name=$(basename "$file" .md)
        [[ $name == README ]] || grep -qx "$name" <<<"$names" || echo "$file: no such alert"
    done
}

# Labels absent on both sides count as equal, so a rule without a scope mutes strangers.
check_inhibit_scope() {
    complain_if "$(awk '
        function flush() { if (side != "" && !scoped) print "line " at ": " side " without alertname"; side = "" }
        /^[a-z]/                           { flush(); inside = /^inhibit_rules:/ }
        !inside                            { next }
        /^ *(- )?(source|target)_matchers/ { flush(); side = $0; gsub(/[ :-]/, "", side); at = NR; scoped = 0; n++ }
        /^ *- alertname *=/                { scoped = 1 }
        /^ *equal:/                        { flush() }
        END { flush(); if (n == 0) print "no inhibit rules found" }
    ' alertmanager.yml)"
}

# resolve LABELS: the receivers that an alert with these labels reaches.
resolve() {
    # shellcheck disable=SC2086 # labels are separated by spaces
    amtool config routes test --config.file=alertmanager.yml $1 2>/dev/null
}

# expect LABELS RECEIVERS: fails, as amtool does, if they are not the ones reached.
expect() {
    # shellcheck disable=SC2086
    amtool config routes test --config.file=alertmanager.yml --verify.receivers="$2" $1
}

# refuse LABELS RECEIVERS: fails if amtool lets the wrong receivers pass.
refuse() {
    local labels=$1 receivers=$2
    resolve "$labels" >/dev/null || { echo "amtool does not resolve: $labels"; return 1; }
    if expect "$labels" "$receivers" >/dev/null 2>&1; then
        echo "amtool accepts the wrong receivers $receivers for: $labels"
        return 1
    fi
}

check_no_fallthrough() {
    complain_if "$(cut -d'|' -f1,2 <<<"$alerts" | sort -u | while IFS='|' read -r name severity; do
        receiver=$(resolve "alertname=$name severity=$severity")
        [[ -n $receiver && $receiver != default ]] || echo "$name (severity $severity) reaches \"$receiver\""
    done)"
}

# Every receiver is the answer of a positive row, and there are negative rows.
check_matrix() {
    complain_if "$(awk -F'\t' '
        NR == FNR     { if (/^[a-z]/) inside = /^receivers:/
                        if (inside && /^  - name:/) { sub(/.*name: */, ""); gsub(/"/, ""); known[$0] = 1 }
                        next }
        /^#/ || /^$/  { next }
        $1 == "!"     { negative++
                        if (NF != 3) print "line " FNR ": a negative row has three columns"
                        next }
                      { if (NF != 2) print "line " FNR ": a row has two columns"
                        k = split($2, list, ","); for (i = 1; i <= k; i++) used[list[i]] = 1 }
        END { for (r in known) if (!(r in used)) print "no row expects receiver " r
              if (!negative) print "no negative row" }
    ' alertmanager.yml routes.tsv)"
}

for file in "${rule_files[@]}"; do
    step "promtool check rules $file" check_rules "$file"
done
step "promtool check config prometheus.yml" promtool check config prometheus.yml
for file in "${test_files[@]}"; do
    step "promtool test rules $file" promtool test rules "$file"
done

step "every rule is understood by this script" check_understood
step "every alert has a known severity" check_severity
step "every alert has its three annotations" check_annotations
step "every alert and severity has a firing case" check_firing
step "every alert has a silent case" check_silent
step "every tested alert exists" check_tested_exist
step "every alert has a runbook, and the reverse" complain_if "$(check_runbooks)"

step "amtool check-config alertmanager.yml" amtool check-config alertmanager.yml
step "every inhibit rule is scoped by alertname" check_inhibit_scope
step "no alert falls through to the default receiver" check_no_fallthrough
step "the route matrix covers every receiver" check_matrix
while IFS=$'\t' read -r first second third || [[ -n $first ]]; do
    case $first in
        '' | '#'*) ;;
        '!') step "route refused: $second -> $third" refuse "$second" "$third" ;;
        *) step "route: $first -> $second" expect "$first" "$second" ;;
    esac
done <routes.tsv

echo "$passed passed, $failed failed"
((failed == 0))
