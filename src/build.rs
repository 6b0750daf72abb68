//! What this binary is.

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build said so by `ROLLCALL_REVISION`.
pub const REVISION: &str = match option_env!("ROLLCALL_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The lowest version of Rust it builds with.
pub const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Version, revision and Rust version, as `rollcall_build_info` shows them.
pub const LABELS: [&str; 3] = [VERSION, REVISION, RUST_VERSION];
