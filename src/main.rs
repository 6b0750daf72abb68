//! The `rollcall` command.

use std::process::ExitCode;

// Less memory than glibc's, which keeps a heap for each thread, and less time; musl's is slow under
// threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rollcall::cli::main()
}
