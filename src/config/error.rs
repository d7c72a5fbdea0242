//! Errors while loading settings. Each names the setting and its origin.

use std::fmt;
use std::path::PathBuf;

use super::later::Later;
use super::problem::Problem;

/// The source of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `default.toml`
    Defaults,
    /// `--dev`
    Dev,
    /// `--expose`
    Expose,
    /// A file.
    File(PathBuf),
    /// Environment variables.
    Environment,
    /// Flags.
    CommandLine,
    /// A configuration that a command has made.
    Result,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Defaults => f.write_str("the defaults"),
            Origin::Dev => f.write_str("--dev"),
            Origin::Expose => f.write_str("--expose"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment => f.write_str("the environment"),
            Origin::CommandLine => f.write_str("the command line"),
            Origin::Result => f.write_str("the result"),
        }
    }
}

/// An error while loading settings. The operator has to fix it; nothing is retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read {}: {source}. Check the path and its permissions",
        path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// The text is not valid TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// The source of the text.
        origin: Origin,
        /// Line, column and description of the error.
        message: String,
    },
    /// There is no such setting. It is an error, because a typo must not silently keep a default.
    #[error("{origin}: unknown setting {key}{}", unknown_hint(origin, nearest.as_deref()))]
    UnknownKey {
        /// The source of the setting.
        origin: Origin,
        /// The unknown key.
        key: String,
        /// The most similar known key.
        nearest: Option<String>,
    },
    /// The setting belongs to a feature that this version does not have.
    #[error("{origin}: {key}: {} not part of this version: {}", later.subject, later.instead)]
    Later {
        /// The source of the setting.
        origin: Origin,
        /// The unknown key.
        key: String,
        /// The feature.
        later: Later,
    },
    /// The value has the wrong type or form for this setting.
    #[error("{origin}: {key}: {message}")]
    Value {
        /// The source of the setting.
        origin: Origin,
        /// The setting.
        key: String,
        /// The value and the expected form.
        message: String,
    },
    /// All values have the right form, but some are out of range or don't fit together.
    #[error("{}", problems_text(.0))]
    Invalid(Vec<Problem>),
}

fn unknown_hint(origin: &Origin, nearest: Option<&str>) -> String {
    match (nearest, origin) {
        (Some(nearest), _) => format!("; did you mean {nearest}?"),
        (None, Origin::Environment) => {
            "; unset it, or choose a name that does not begin with CORECAST_. `corecast config \
             default` lists all settings"
                .to_owned()
        }
        (None, _) => "; `corecast config default` lists all settings".to_owned(),
    }
}

fn problems_text(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
