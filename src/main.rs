//! The `rollcall` command.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
// musl's own allocator is slow under threads.
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rollcall::cli::main()
}
