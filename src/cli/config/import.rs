//! `corecast config import`: turns a configuration of Centrifugo into one of Corecast.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Existing, write_private};
use crate::cli::failure::Failure;
use crate::cli::print::print_line;
use crate::cli::table::visible;
use crate::config::import::{Format, Imported, import};
use crate::limits::IMPORT_BYTES_MAX;

/// Arguments of `config import`.
#[derive(Debug, Args)]
#[command(after_help = "Standard error gets a note for each setting that has no equivalent, and \
    says what to do about it.\nExit code: 0 if the file could be read, 1 if not, 2 for wrong \
    usage.")]
pub(in crate::cli) struct ImportArgs {
    /// Configuration of Centrifugo 5 or 6: a .json, .toml, .yaml or .yml file.
    file: PathBuf,
    /// Write to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output file if it exists.
    #[arg(long, requires = "output")]
    force: bool,
}

/// Prints the configuration, and the notes on standard error.
pub(super) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let text = read(&args.file).map_err(Failure::Words)?;
    let imported = format_of(&args.file).and_then(|format| import(&text, format));
    let imported = imported.map_err(|error| Failure::Words(format!("{shown}: {error}")))?;
    let text = format!(
        "# Imported from {shown} by `corecast config import`. `corecast config default` explains \
         all\n# settings.\n\n{}",
        imported.text.trim_end()
    );
    match &args.output {
        None => print_line(&text)?,
        Some(path) => {
            let existing = if args.force { Existing::Replace } else { Existing::Keep };
            write_private(path, &format!("{text}\n"), existing)?;
        }
    }
    eprintln!("{}", report(&imported));
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        format!("can't read {shown}: {error}. Check the path and its permissions")
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > IMPORT_BYTES_MAX {
        return Err(format!(
            "{shown} has {bytes} bytes, and a configuration at most {IMPORT_BYTES_MAX}"
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn format_of(path: &Path) -> Result<Format, String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(Format::Json),
        Some("toml") => Ok(Format::Toml),
        Some("yaml" | "yml") => Ok(Format::Yaml),
        _ => Err("the name must end in .json, .toml, .yaml or .yml".to_owned()),
    }
}

/// The notes and problems, one paragraph each.
fn report(imported: &Imported) -> String {
    let mut out = String::new();
    if !imported.notes.is_empty() {
        out.push_str("Settings that are different, or have no equivalent:\n");
    }
    for note in &imported.notes {
        let keys = note.keys.iter().map(|key| visible(key)).collect::<Vec<_>>().join(", ");
        out.push_str(&format!("- {keys}: {}\n", visible(&note.text)));
    }
    if !imported.problems.is_empty() {
        out.push_str("\n`serve` would refuse the result:\n");
    }
    for problem in &imported.problems {
        out.push_str(&format!("- {}\n", visible(problem)));
    }
    if out.is_empty() {
        out.push_str("Every setting has an equivalent.\n");
    }
    out.pop();
    out
}
