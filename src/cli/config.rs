//! `corecast config`: prints the defaults, checks a file, prints the effective settings, and writes
//! a first configuration.

mod import;
mod init;
mod output;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::flags::{ServeArgs, environment};
use super::print::print_line;
use crate::config::{DEFAULT_TOML, Flags, check_serve, load};

/// The subcommands of `config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print all settings with their defaults and explanations.
    Default,
    /// Check a file together with the environment, as `serve` would read them.
    Check(CheckArgs),
    /// Print the effective settings from file, environment and flags, without secrets.
    Show(ShowArgs),
    /// Write a first configuration, with explanations and a random key.
    Init(init::InitArgs),
    /// Turn a configuration of Centrifugo into one of Corecast.
    Import(import::ImportArgs),
}

/// Arguments of `config check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// TOML file to check.
    file: PathBuf,
    /// Check it with the defaults of `serve --dev`.
    #[arg(long)]
    dev: bool,
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Print JSON instead of TOML.
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Init(args) => init::run(&args),
        ConfigCommand::Import(args) => import::run(&args),
        ConfigCommand::Default => print_line(DEFAULT_TOML.trim_end()),
        ConfigCommand::Check(args) => {
            let name = args.file.display().to_string();
            let flags = Flags { config: Some(args.file), dev: args.dev, ..Flags::default() };
            let loaded = load(&flags, environment())?;
            print_line(&format!("{name} is valid"))?;
            // Keys often come from an environment that is missing here, so this is no error.
            match check_serve(&loaded.settings) {
                Ok(()) => Ok(()),
                Err(missing) => print_line(&format!("`serve` would still refuse it: {missing}")),
            }
        }
        ConfigCommand::Show(args) => {
            let loaded = load(&args.serve.into_flags(), environment())?;
            let text = if args.json { loaded.shown_json() } else { loaded.shown() };
            print_line(text.trim_end())
        }
    }
}
