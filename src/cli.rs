//! The command line: the arguments of each command, and errors that name the value and a fix.

mod banner;
mod config;
mod doctor;
mod log;
mod publish;
mod subscribe;

pub use banner::server_banner;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Flags, load};

/// Exit code of a command that failed. Wrong usage exits with 2, which is clap's own code.
const EXIT_FAILED: u8 = 1;

/// A WebSocket broadcast server: one message reaches every subscriber, on every core.
#[derive(Debug, Parser)]
#[command(version, after_help = "Try it: corecast serve --dev")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server. SIGTERM drains it; a second SIGTERM stops it at once.
    Serve(ServeArgs),
    /// Show or check settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check whether this host can hold N connections, and show how to fix it if not.
    Doctor(doctor::DoctorArgs),
    /// Publish a message through the HTTP API.
    Publish(publish::PublishArgs),
    /// Print the messages of channels, one per line, until Ctrl-C.
    Subscribe(subscribe::SubscribeArgs),
}

/// Flags that override settings.
#[derive(Debug, Args)]
struct ServeArgs {
    /// TOML file with settings; `corecast config default` prints all of them.
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG")]
    config: Option<PathBuf>,
    /// Development mode: no keys or permissions needed, reachable from this host only.
    #[arg(long)]
    dev: bool,
    /// Serve /echo, which sends every message back, for protocol test suites. Needs --dev.
    #[arg(long)]
    echo: bool,
    /// Address for clients, such as 0.0.0.0:8000; may be given more than once.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Address for the HTTP API and metrics, such as 127.0.0.1:9000.
    #[arg(long, value_name = "ADDR")]
    api_listen: Option<String>,
    /// Number of threads that serve clients; 0 means one per core.
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// How to drive sockets; auto uses io_uring where the host allows it.
    #[arg(long, value_parser = ["auto", "io_uring", "epoll"])]
    driver: Option<String>,
    /// Redis that connects this node with others, such as redis://127.0.0.1:6379.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

impl ServeArgs {
    fn into_flags(self) -> Flags {
        Flags {
            config: self.config,
            dev: self.dev,
            echo: self.echo,
            listen: self.listen,
            api_listen: self.api_listen,
            shards: self.shards,
            driver: self.driver,
            redis: self.redis,
        }
    }
}

/// The error of a failed command, for the terminal.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The server did not start, or did not stop as it should.
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    /// The reader of our output has closed the pipe. This is no failure, as for every filter.
    #[error("the output is closed")]
    OutputClosed,
    /// Any other failure, with its message.
    #[error("{0}")]
    Words(String),
}

impl From<io::Error> for Failure {
    /// Converts an error of standard output. All other errors get their message where they occur.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Words(format!("can't write the output: {error}")),
        }
    }
}

/// Runs the command that the arguments name, and returns the exit code.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve(args),
        Command::Config(command) => config::run(command),
        Command::Doctor(args) => doctor::run(args),
        Command::Publish(args) => publish::run(&args),
        Command::Subscribe(args) => subscribe::run(&args),
    };
    match outcome {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corecast: {failure}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), Failure> {
    let settings = load(&args.into_flags(), environment())?.settings;
    crate::config::check_serve(&settings)?;
    // Before the log's thread starts, because it inherits the mask: only main may get signals.
    crate::sys::block_signals();
    // The guard writes the remaining lines when it is dropped.
    let _log = log::start(&settings.log)?;
    let ready = |report: &crate::server::StartupReport| {
        // A closed standard output must not stop the server.
        if let Err(failure) = print_line(&server_banner(&settings, report)) {
            tracing::debug!(%failure, "could not print the banner");
        }
        if let Some(warning) = doctor::warning(&settings, report) {
            tracing::warn!("{warning}");
        }
    };
    Ok(crate::server::run(settings.clone(), ready)?)
}

/// The variables of the environment that are valid text. All settings are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// Prints one line on standard output.
fn print_line(line: &str) -> Result<(), Failure> {
    print_line_to(&mut io::stdout(), line)
}

/// Prints one line and flushes, because a pipe is expected to deliver it at once.
fn print_line_to(out: &mut dyn io::Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_its_flags() {
        let line = "corecast serve --dev --echo --listen [::1]:1 --listen 127.0.0.1:2 --shards 3";
        let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
        let Command::Serve(args) = cli.command else { panic!("serve") };
        let flags = args.into_flags();
        assert!(flags.dev && flags.echo);
        assert_eq!(flags.listen, ["[::1]:1", "127.0.0.1:2"]);
        assert_eq!(flags.shards, Some(3));
        for wrong in ["corecast", "corecast serve --driver kqueue", "corecast publish a"] {
            let error = Cli::try_parse_from(wrong.split(' ')).expect_err(wrong);
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
