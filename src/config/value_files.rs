//! Files with the values of settings. A variable whose name ends in `_FILE` names one, because
//! credentials of systemd and secrets of containers are files.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::limits::SECRET_FILE_BYTES_MAX;

/// Ending of a variable that names a file, as part of a setting's name.
const SUFFIX: &str = "_file";

/// A setting and its value, as text.
pub(super) struct Variable {
    /// The setting, as `section.key`.
    pub dotted: String,
    /// The value.
    pub text: String,
}

impl Variable {
    /// Returns the setting that the variable means, with its value, which may be in a file. `known`
    /// are all settings.
    ///
    /// # Errors
    /// A message, if the file can't be read or is too long.
    pub(super) fn resolved(self, known: &[String]) -> Result<Variable, String> {
        match self.dotted.strip_suffix(SUFFIX).map(str::to_owned) {
            Some(setting) if names_a_file(&self.dotted, known) => {
                Ok(Variable { dotted: setting, text: read(Path::new(&self.text))? })
            }
            _ => Ok(self),
        }
    }
}

/// Whether a variable names a file with the value of one of the settings `known`.
pub(super) fn names_a_file(dotted: &str, known: &[String]) -> bool {
    let is_known = |key: &str| known.iter().any(|one| one == key);
    dotted.strip_suffix(SUFFIX).is_some_and(is_known) && !is_known(dotted)
}

/// Returns the content of a file, without the white space around it, because editors end files with
/// a line break.
fn read(path: &Path) -> Result<String, String> {
    let named = |error: std::io::Error| {
        format!("can't read {}: {error}. Check the path and its permissions", path.display())
    };
    let mut text = String::new();
    let file = File::open(path).map_err(named)?;
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(named)?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!(
            "{} is longer than {SECRET_FILE_BYTES_MAX} bytes, the maximum for a single setting",
            path.display()
        ));
    }
    Ok(text.trim().to_owned())
}
