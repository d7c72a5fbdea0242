//! Causes faults in nodes, Redis and the links between them while clients and publishers run,
//! records all observations, and checks that every guarantee of delivery was kept.

mod args;
mod run;
mod cluster;
mod node;
mod redis;
mod process;
mod proxy;
mod ports;
mod clock;
mod site;
mod faults;
mod inject;
mod load;
mod publisher;
mod ingest;
mod http;
mod client;
mod wire;
mod history;
mod soak;
mod checks;
mod report;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use args::{ALL, Args};
use report::Verdict;

/// Exit codes for a broken guarantee and for an inconclusive run.
const EXIT_BROKEN: u8 = 1;
const EXIT_FAILED: u8 = 2;

fn main() -> ExitCode {
    match check(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_BROKEN),
        Err(error) => {
            eprintln!("corecast-checker: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs, checks and reports. Returns whether the result is as expected.
fn check(args: &Args) -> Result<bool> {
    let mut kinds = args.kinds()?;
    if kinds.iter().any(|kind| kind.needs_sites()) && !site::is_entered() {
        let program = std::env::current_exe().context("can't find this program")?;
        let error = site::enter(&program, &std::env::args().skip(1).collect::<Vec<_>>());
        if args.faults != ALL {
            return Err(error);
        }
        eprintln!("left out: faults of links between sites: {error:#}");
        kinds.retain(|kind| !kind.needs_sites());
    }
    // An integer that every JSON parser can represent.
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let temporary = tempfile::tempdir().context("can't make a temporary directory")?;
    let directory = args.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(directory)
        .with_context(|| format!("can't make {}", directory.display()))?;
    let directory = directory.canonicalize().context("can't find the directory again")?;
    eprintln!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start threads")?;
    let (history, load) = runtime.block_on(run::run(args, &kinds, seed, &directory))?;
    let verdict = Verdict::of(&history);
    if args.keep.is_some() {
        report::keep(&history, &directory)?;
    }
    if args.json {
        println!("{}", report::json(seed, &history, &load.counts, &verdict));
    } else {
        print!("{}", report::text(&history, &load.counts, &verdict));
    }
    if !verdict.is_sound() {
        eprintln!("\nrepeat with: {}", args.command(seed));
    }
    Ok(args.expect.as_ref().map_or(verdict.is_sound(), |expected| verdict.fails(expected)))
}
