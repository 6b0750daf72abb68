//! The `rollcall` command.

use std::process::ExitCode;

// Tasks move between threads, and what one allocates another frees: glibc's allocator takes a lock for
// that, musl's for everything.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rollcall::cli::main()
}
