//! `corecast generate`: shell completions and manual pages, made from the command line itself, so
//! that packages can't ship outdated ones. The command is hidden because its users are packages.

use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};
use clap_complete::Shell;

use super::failure::Failure;
use super::print::print_line;

/// Name of the program, which is also the name of its package.
const NAME: &str = env!("CARGO_PKG_NAME");

/// The subcommands of `generate`.
#[derive(Debug, Subcommand)]
pub(super) enum GenerateCommand {
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write one manual page for each command.
    Man {
        /// Existing directory for the pages.
        directory: PathBuf,
    },
}

/// Runs a subcommand. `cli` is the command line that is described.
pub(super) fn run(subcommand: &GenerateCommand, cli: &Command) -> Result<(), Failure> {
    match subcommand {
        GenerateCommand::Completions { shell } => print_line(completions(*shell, cli).trim_end()),
        GenerateCommand::Man { directory } => write_man_pages(cli, directory),
    }
}

/// Returns the completions as the text of a script.
fn completions(shell: Shell, cli: &Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(cli), NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Returns `cli` without hidden commands, which completions would otherwise suggest.
fn visible(cli: &Command) -> Command {
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let about = cli.get_about().cloned().unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    Command::new(NAME).version(version).about(about).subcommands(commands)
}

fn write_man_pages(cli: &Command, directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(visible(cli), directory).map_err(|error| {
        let directory = directory.display();
        Failure::Words(format!("can't write manual pages to {directory}: {error}"))
    })
}
