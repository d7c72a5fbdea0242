//! `corecast config`: the defaults, a check of a file, and the settings in force.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, ServeArgs, environment, print_line};
use crate::config::{DEFAULT_TOML, Flags, check_serve, load};

/// What can be done with settings.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting with its default, commented.
    Default,
    /// Check a file and the environment, as `serve` would read them.
    Check(CheckArgs),
    /// Print the settings that file, environment and flags make, without secrets.
    Show(ShowArgs),
}

/// Arguments of `config check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file.
    file: PathBuf,
    /// Check it as for `serve --dev`.
    #[arg(long)]
    dev: bool,
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Print JSON rather than TOML.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Default => print_line(DEFAULT_TOML.trim_end()),
        ConfigCommand::Check(args) => {
            let name = args.file.display().to_string();
            let flags = Flags { config: Some(args.file), dev: args.dev, ..Flags::default() };
            let loaded = load(&flags, environment())?;
            print_line(&format!("{name} is fine"))?;
            // Keys often come by an environment that is not here: their absence is no error.
            match check_serve(&loaded.settings) {
                Ok(()) => Ok(()),
                Err(missing) => print_line(&format!("before it can be served: {missing}")),
            }
        }
        ConfigCommand::Show(args) => {
            let loaded = load(&args.serve.into_flags(), environment())?;
            let text = if args.json { loaded.shown_json() } else { loaded.shown() };
            print_line(text.trim_end())
        }
    }
}
