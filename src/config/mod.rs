//! Loads the settings. They are parsed and checked once, before anything starts.
//!
//! All defaults are in `default.toml`: `Settings::default()` parses it, and `load` merges a file,
//! the environment and flags over it.

mod centrifugo;
mod check;
mod check_access;
mod environment;
mod error;
pub mod import;
mod keys;
mod later;
mod load;
mod log_format;
mod problem;
mod secrets;
mod show;
#[cfg(test)]
mod tests;
mod value_files;

pub use error::{Error, Origin};
pub use later::Later;
pub use load::{DEFAULT_TOML, DEV_TOML, Flags, Loaded, check_variables, load};
pub use log_format::log_format;
pub use problem::Problem;
pub use secrets::holds_password;

use crate::settings::Settings;

impl Default for Settings {
    fn default() -> Settings {
        load::defaults()
    }
}

/// Checks whether a server may start with these settings. A file without keys is valid, because
/// they may come from the environment, but a server without keys is useless.
///
/// # Errors
/// The problems, each with a fix.
pub fn check_serve(settings: &Settings) -> Result<(), Error> {
    let problems = check::serve_problems(settings);
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
}
