//! The command line: the arguments of each command, and errors that name the value and a fix.

mod api;
mod banner;
mod channels;
mod config;
mod disconnect;
mod doctor;
mod failure;
mod flags;
mod generate;
mod history;
mod info;
mod log;
mod print;
mod publish;
mod subscribe;
mod table;
mod unix_api;

pub use banner::server_banner;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{Flags, check_variables, load, log_format};
use crate::fatal;
use crate::server::StartupReport;
use crate::settings::{LogFormat, Settings};
use failure::Failure;
use flags::{ServeArgs, environment};
use print::print_line;

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
    /// Run the server. SIGTERM drains it; a second SIGTERM stops it immediately.
    Serve(ServeArgs),
    /// Show, check or write settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check whether this host can hold N connections, and show how to fix it if not.
    Doctor(doctor::DoctorArgs),
    /// Publish a message through the HTTP API.
    Publish(publish::PublishArgs),
    /// Print the messages of channels, one per line, until Ctrl-C.
    Subscribe(subscribe::SubscribeArgs),
    /// Show the nodes: version, clients, channels, load.
    Info(info::InfoArgs),
    /// List channels with subscribers.
    Channels(channels::ChannelsArgs),
    /// Show the last publications of a channel.
    History(history::HistoryArgs),
    /// Close the connections of clients.
    Disconnect(disconnect::DisconnectArgs),
    /// Write shell completions and manual pages, for packages.
    #[command(subcommand, hide = true)]
    Generate(generate::GenerateCommand),
}

/// Runs the command that the arguments name, and returns the exit code.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => return run_serve(args),
        Command::Config(command) => config::run(command),
        Command::Doctor(args) => doctor::run(args),
        Command::Publish(args) => call(|| publish::run(&args)),
        Command::Subscribe(args) => call(|| subscribe::run(&args)),
        Command::Generate(subcommand) => generate::run(&subcommand, &Cli::command()),
        Command::Info(args) => call(|| info::run(&args)),
        Command::Channels(args) => call(|| channels::run(&args)),
        Command::History(args) => call(|| history::run(&args)),
        Command::Disconnect(args) => call(|| disconnect::run(&args)),
    };
    match outcome {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corecast: {failure}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs a command that calls a server, unless a variable of the environment is misspelt.
fn call(run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    check_variables(environment())?;
    run()
}

/// Runs the server. Its errors have the format of its log.
fn run_serve(args: ServeArgs) -> ExitCode {
    let flags = args.into_flags();
    let format = log_format(&flags, environment());
    match serve(&flags) {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            fatal::write(format, &failure.to_string());
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn serve(flags: &Flags) -> Result<(), Failure> {
    let settings = load(flags, environment())?.settings;
    crate::config::check_serve(&settings)?;
    // This happens before the log's thread starts, because the thread inherits the mask, and only
    // main may get signals.
    crate::sys::block_signals();
    // The guard writes the remaining lines when it is dropped.
    let _log = log::start(&settings.log)?;
    fatal::report_panics(settings.log.format);
    if flags.redis.as_deref().is_some_and(crate::config::holds_password) {
        tracing::warn!(
            "--redis has a password, and all users of this host can read the command line: set \
             redis.url in the file, or CORECAST_REDIS_URL"
        );
    }
    let ready = |report: &StartupReport| {
        announce(&settings, report);
        if let Some(warning) = doctor::warning(&settings, report) {
            tracing::warn!("{warning}");
        }
    };
    Ok(crate::server::run(settings.clone(), ready)?)
}

/// Tells that the server has started. The banner is for people, so a log in JSON has a line
/// instead.
fn announce(settings: &Settings, report: &StartupReport) {
    match settings.log.format {
        // A closed standard output must not stop the server.
        LogFormat::Text => {
            if let Err(failure) = print_line(&server_banner(settings, report)) {
                tracing::debug!(%failure, "could not print the banner");
            }
        }
        LogFormat::Json => {
            if let Some(note) = banner::note(settings) {
                tracing::warn!("{note}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_its_flags() {
        let line = "corecast serve --dev --echo --listen [::1]:1 --listen 127.0.0.1:2 --shards 1k";
        let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
        let Command::Serve(args) = cli.command else { panic!("serve") };
        let flags = args.into_flags();
        assert!(flags.dev && flags.echo);
        assert_eq!(flags.listen, ["[::1]:1", "127.0.0.1:2"]);
        assert_eq!(flags.shards, Some(1000));
        for wrong in ["corecast", "corecast serve --driver kqueue", "corecast publish a"] {
            let error = Cli::try_parse_from(wrong.split(' ')).expect_err(wrong);
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
