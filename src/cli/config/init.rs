//! `corecast config init`: writes a first configuration with a key of its own.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::output::{Existing, write_private};
use crate::cli::failure::Failure;
use crate::cli::print::print_line;
use crate::sys::random_bytes;

/// Arguments of `config init`.
#[derive(Debug, Args)]
pub(in crate::cli) struct InitArgs {
    /// File to write.
    #[arg(default_value = "corecast.toml")]
    file: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
}

/// The configuration. `{key}` stands for the key of the API.
const TEMPLATE: &str = include_str!("init.toml");

/// Writes the file, and prints the next steps.
pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    write_private(&args.file, &configuration()?, existing)?;
    let file = args.file.display();
    print_line(&format!(
        "wrote {file}, which only you can read, because it has a key for the API\n\n\
         Start the server:   corecast serve --config {file}\n\
         Watch a channel:    corecast subscribe news:today\n\
         Publish a message:  CORECAST_API_KEY=KEY corecast publish news:today Hello\n\n\
         KEY is the one in {file}."
    ))
}

fn configuration() -> Result<String, Failure> {
    let bytes: [u8; 32] = random_bytes().map_err(|error| Failure::Words(error.to_string()))?;
    let mut key = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String can't fail.
        write!(key, "{byte:02x}").ok();
    }
    Ok(TEMPLATE.replace("{key}", &key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, check_serve, load};

    #[test]
    fn a_server_starts_with_the_first_configuration_and_its_key_is_new() {
        let (text, other) = (configuration().expect("a key"), configuration().expect("a key"));
        assert_ne!(text, other);
        let path = std::env::temp_dir().join(format!("corecast-init-{}.toml", std::process::id()));
        std::fs::write(&path, &text).expect("a temporary file");
        let loaded = load(&Flags { config: Some(path.clone()), ..Flags::default() }, []);
        std::fs::remove_file(&path).expect("it is there");
        let settings = loaded.expect("valid").settings;
        assert_eq!(check_serve(&settings).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(settings.api.keys[0].len(), 64);
        assert!(settings.channel.namespaces.resolve("news:today").is_ok());
    }
}
