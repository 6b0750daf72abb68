# What can be done here. `just` lists it; tests/run.sh does all of the checks.

default:
    @just --list

# Format the code.
fmt:
    cargo fmt

# Everything the compiler can say.
lint:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# Unit and integration tests.
test:
    cargo test --lib --bins --test it --all-features

# All tests, also those with real services; installs what they need.
all:
    tests/run.sh

# Rewrite what is generated: docs/metrics.md, docs/configuration.md, snapshots.
update:
    UPDATE_EXPECT=1 cargo test --lib --test it --all-features

# Licences, sources and duplicate versions of dependencies.
deny:
    cargo deny check bans licenses sources

# The benchmarks; see docs/performance.md.
bench:
    cargo bench --profile fast --bench compare
    cargo bench --profile fast --bench protocols
    cargo bench --profile fast --bench registry
    cargo bench --profile fast --bench detection
    cargo bench --profile fast --bench exposition
    cargo bench --profile fast --bench load
    cargo bench --profile fast --bench wheel

# A thousand kills and a hundred power cuts; see docs/performance.md.
crash:
    CRASH_ROUNDS=1000 cargo test --profile fast --all-features --test crash -- --nocapture kill
    POWERCUT_PROFILE=fast tests/powercut.sh 120

# Ten thousand worlds; see docs/testing.md.
worlds seeds="10000":
    WORLD_SEEDS={{seeds}} cargo test --profile fast --all-features --lib scheduler::tests::world

# Whether the worlds find the bugs planted by tests/mutants; see docs/testing.md.
mutants:
    tests/mutants.sh
