#!/usr/bin/env bash
# Plants one bug after the other (tests/mutants/*.patch) in a copy of the code, and sees whether the
# worlds (src/scheduler/tests/world.rs) find it. Prints a table; fails if fewer than 95 of 100 are
# found. Runs from anywhere; takes a quarter of a minute a bug.
#
#   tests/mutants.sh               all of them
#   tests/mutants.sh 07 12         these
#   tests/mutants.sh --check       only whether every patch still applies
#
# MUTANT_SEEDS worlds are tried at most for each (default 200).
set -euo pipefail
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.."

patches=(tests/mutants/*.patch)
if [[ ${1-} == --check ]]; then
    for patch in "${patches[@]}"; do
        git apply --check "$patch" || { echo "mutants.sh: $patch does not apply" >&2; exit 1; }
    done
    echo "${#patches[@]} planted bugs apply"
    exit 0
fi
if (($#)); then
    patches=()
    for number in "$@"; do patches+=(tests/mutants/"$number"-*.patch); done
fi

scratch=$PWD/target/mutants
mkdir -p "$scratch"
export CARGO_TARGET_DIR=$scratch/target CARGO_PROFILE_DEV_DEBUG=0 RUST_BACKTRACE=0
export WORLD_SEEDS=${MUTANT_SEEDS:-200}

# A copy of what is tracked, without all tests but the scheduler's: they need not be compiled.
fresh() {
    local file
    git ls-files -z --cached --others --exclude-standard -- ':!tests/mutants' |
        xargs -0 cp --parents -t "$scratch"
    patch --silent --directory="$scratch" -p1 <"$1"
    while IFS= read -r -d '' file; do
        case ${file#"$scratch/"} in
            src/scheduler.rs | src/scheduler/tests*) continue ;;
        esac
        perl -0pi -e 's/#\[cfg\(test\)\]\n((?:pub(?:\([a-z]+\))? )?mod (?:tests|testing)\b)/#[cfg(any())]\n$1/g' "$file"
    done < <(grep -rlZ 'cfg(test)' "$scratch/src")
}

found=0
printf '| planted bug | found | by |\n|---|---|---|\n'
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    fresh "$PWD/$patch"
    log=$scratch/$name.log
    (cd "$scratch" && cargo test --quiet --all-features --lib --no-run) >"$log" 2>&1 ||
        { echo "mutants.sh: $name does not compile: $log" >&2; exit 1; }
    if (cd "$scratch" && timeout 300 cargo test --quiet --all-features --lib \
        scheduler::tests::world::no_world) >"$log" 2>&1; then
        printf '| %s | **no** | |\n' "$name"
    else
        if by=$(grep -m1 -E '^seed [0-9]+ ' "$log"); then
            found=$((found + 1))
            printf '| %s | yes | %s |\n' "$name" "$by"
        else
            printf '| %s | **no** | no seed is named: %s |\n' "$name" "$log"
        fi
    fi
done
printf '\n%d of %d found\n' "$found" "${#patches[@]}"
((found * 100 >= ${#patches[@]} * 95))
