//! Files that commands write: readable by their owner alone, because they hold keys.

use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::cli::failure::Failure;

/// What happens to a file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It stays, and the command fails.
    Keep,
    /// It is replaced.
    Replace,
}

/// Writes a file with mode 0600.
///
/// # Errors
/// The file exists and must stay, or can't be written. The message says what to do.
pub(super) fn write_private(path: &Path, text: &str, existing: Existing) -> Result<(), Failure> {
    let shown = path.display();
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match existing {
        Existing::Keep => options.create_new(true),
        Existing::Replace => options.create(true).truncate(true),
    };
    let failed = |error: std::io::Error| {
        Failure::Words(match error.kind() {
            ErrorKind::AlreadyExists => {
                format!("{shown} exists already: choose another name, or replace it with --force")
            }
            _ => format!("can't write {shown}: {error}. Check the path and its permissions"),
        })
    };
    let mut file = options.open(path).map_err(failed)?;
    // The mode above is only for a new file.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_stays_unless_it_may_be_replaced() {
        let name = format!("corecast-output-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "old").expect("a temporary file");
        let error = write_private(&path, "new", Existing::Keep).expect_err("it exists");
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("it stays"), "old");
        write_private(&path, "new", Existing::Replace).expect("it may be replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("it was written"), "new");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(&path).expect("it is there");
        let nowhere = write_private(Path::new("/nowhere/x"), "", Existing::Keep);
        assert!(nowhere.expect_err("no directory").to_string().contains("/nowhere/x"));
    }
}
