//! The program `corecast`: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

/// Connections come and go on every core at once; mimalloc keeps a heap for each thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corecast::cli::run()
}
