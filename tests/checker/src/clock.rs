//! A wall clock that is wrong, for the servers that are started with it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The library that is preloaded, which the end-to-end tests use as well.
const SOURCE: &str = include_str!("../../e2e/harness/clock.c");

/// One clock, and how far it is off.
#[derive(Debug)]
pub(crate) struct Clock {
    offset: std::fs::File,
    /// What the command of whoever lives by this clock begins with.
    pub(crate) prefix: Vec<String>,
}

impl Clock {
    /// Builds one that is right, in `directory`.
    ///
    /// # Errors
    /// If there is no compiler, or the directory can't be written.
    pub(crate) fn build(directory: &Path) -> Result<Clock> {
        let at = |name: &str| directory.join(name);
        std::fs::write(at("clock.c"), SOURCE).context("can't write the clock's source")?;
        let built = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([at("clock.so"), at("clock.c")])
            .status();
        if !built.context("can't start `cc`")?.success() {
            bail!("the clock can't be built: see above");
        }
        let offset = std::fs::File::create(at("clock")).context("can't write the clock")?;
        let (library, file) = (at("clock.so"), at("clock"));
        let prefix = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("WRONG_CLOCK={}", file.display()),
        ];
        let clock = Clock { offset, prefix };
        clock.step_to(0)?;
        Ok(clock)
    }

    /// Puts it so many seconds ahead of the true time.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn step_to(&self, seconds: i64) -> Result<()> {
        let bytes = seconds.to_ne_bytes();
        self.offset.write_all_at(&bytes, 0).context("can't set the clock")
    }
}
