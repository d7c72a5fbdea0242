//! Loads a WebSocket broadcast server: opens many connections, publishes, and counts what arrives.
//! It shares no code with any server and speaks only the wire.

mod cli;
mod error;
mod failure;
mod fleet;
mod latency;
#[cfg_attr(not(test), expect(dead_code, reason = "scenarios have no pages yet"))]
mod page;
mod process;
mod progress;
mod publish;
mod report;
mod scenario;
mod sequence;
mod sys;
mod target;
mod wire;

use clap::Parser;
use cli::{Cli, Scenario};
use scenario::{Verdict, connect, fanout, idle};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before any thread starts, so that none is without it.
    let caught = sys::catch_interrupt().map_err(|error| error::Error::system("take SIGINT", error));
    let verdict = caught.and_then(|()| match &cli.scenario {
        Scenario::Connect(args) => connect::run(args),
        Scenario::Idle(args) => idle::run(args),
        Scenario::Fanout(args) => fanout::run(args),
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
