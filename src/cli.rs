//! The command line: what each command takes, and errors that name the value and the way out.

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

/// Exit code of a command that did not do what it was asked for. Wrong usage exits with 2, as
/// clap has it.
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
    /// Serve clients until told to stop (SIGTERM drains, a second one ends at once).
    Serve(ServeArgs),
    /// Show or check settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Tell what of this host would stop so many connections, and what mends it.
    Doctor(doctor::DoctorArgs),
    /// Publish a message through the HTTP API.
    Publish(publish::PublishArgs),
    /// Print what is published, one line each, until Ctrl-C.
    Subscribe(subscribe::SubscribeArgs),
}

/// Flags that are settings.
#[derive(Debug, Args)]
struct ServeArgs {
    /// TOML file with settings; `corecast config default` shows them all.
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG")]
    config: Option<PathBuf>,
    /// Open everything, on this host only: for development.
    #[arg(long)]
    dev: bool,
    /// Send messages on /echo back, for protocol test suites. Needs --dev.
    #[arg(long)]
    echo: bool,
    /// Where clients connect; may be given more than once.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where the HTTP API listens.
    #[arg(long, value_name = "ADDR")]
    api_listen: Option<String>,
    /// Threads that serve clients; 0 means one per core.
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// How sockets are driven.
    #[arg(long, value_parser = ["auto", "io_uring", "epoll"])]
    driver: Option<String>,
    /// Redis that joins this node with others, as in redis://127.0.0.1:6379.
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

/// Why a command failed, for the person at the terminal.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The server did not start, or did not stop as it should.
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    /// Whoever reads our output has gone: as for every filter, no failure.
    #[error("nobody reads the output")]
    OutputClosed,
    /// Anything else, in words.
    #[error("{0}")]
    Words(String),
}

impl From<io::Error> for Failure {
    /// Errors of standard output: all others are put into words where they happen.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Words(format!("can't write the output: {error}")),
        }
    }
}

/// Runs the command that the arguments name, and answers with the exit code.
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
    // Before the log's thread starts, for it inherits the mask: a signal must find main alone.
    crate::sys::block_signals();
    // Lines that still wait are written when the guard goes.
    let _log = log::start(&settings.log)?;
    let ready = |report: &crate::server::StartupReport| {
        // Nobody may be reading; the server serves all the same.
        if let Err(failure) = print_line(&server_banner(&settings, report)) {
            tracing::debug!(%failure, "the banner was not printed");
        }
        if let Some(warning) = doctor::warning(&settings, report) {
            tracing::warn!("{warning}");
        }
    };
    Ok(crate::server::run(settings.clone(), ready)?)
}

/// The environment, as far as it is text: no setting is anything else.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// Prints one line on standard output.
fn print_line(line: &str) -> Result<(), Failure> {
    print_line_to(&mut io::stdout(), line)
}

/// Prints one line, at once: whoever pipes it wants it now.
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
