//! Loads a WebSocket broadcast server: opens many connections, publishes, and counts the
//! deliveries. It shares no code with any server.

mod cli;
mod error;
mod failure;
mod fleet;
mod host;
mod kernel;
mod latency;
mod page;
mod process;
mod profile;
mod progress;
mod publish;
mod report;
mod scenario;
mod sequence;
mod stats;
mod sys;
mod target;
mod verdict;
mod wire;

use clap::Parser;
use cli::{Cli, Scenario};
use scenario::{churn, compare, connect, fanout, idle, ladder, slow, storm};
use std::process::ExitCode;
use verdict::Verdict;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // This happens before any thread starts, so that the handler applies to all of them.
    let caught = sys::catch_interrupt().map_err(|error| error::Error::system("take SIGINT", error));
    let verdict = caught.and_then(|()| match &cli.scenario {
        Scenario::Connect(args) => connect::run(args),
        Scenario::Idle(args) => idle::run(args),
        Scenario::Fanout(args) => fanout::run_fanout(args),
        Scenario::Saturate(args) => fanout::run_saturate(args),
        Scenario::Channels(args) => fanout::run_channels(args),
        Scenario::Churn(args) => churn::run(args),
        Scenario::Storm(args) => storm::run(args),
        Scenario::Slow(args) => slow::run(args),
        Scenario::Ladder(args) => ladder::run(args),
        Scenario::Compare(args) => compare::run(args),
        Scenario::Profiles => report::print_profiles(),
    });
    match verdict {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Ok(Verdict::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("corecast-bench: {error}");
            ExitCode::from(2)
        }
    }
}
