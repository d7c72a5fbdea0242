//! Makes the settings: parsed and checked once, before anything starts.
//!
//! `default.toml` is the only home of defaults: `Settings::default()` parses it, and `load` lays a
//! file, the environment and flags over it.

mod check;
mod environment;
mod load;
mod show;
#[cfg(test)]
mod tests;

pub use check::Problem;
pub use load::{Error, Flags, Loaded, Origin, load};

use crate::settings::Settings;

/// Every setting with its default, commented: what `corecast config default` prints.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// What `--dev` changes in the defaults.
pub const DEV_TOML: &str = include_str!("dev.toml");

impl Default for Settings {
    fn default() -> Settings {
        load::defaults()
    }
}

/// What keeps these settings from being served, though each is valid: a file may be checked before
/// its keys are there, but a server without one is no use to any application.
///
/// # Errors
/// The problems, each with its way out.
pub fn check_serve(settings: &Settings) -> Result<(), Error> {
    let problems = check::serve_problems(settings);
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
}
