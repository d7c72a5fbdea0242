//! The program `corecast`. All its code is in the library, so that tests can use it.

use std::process::ExitCode;

/// mimalloc has a heap for each thread, so shards that open and close connections do not contend.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corecast::cli::run()
}
