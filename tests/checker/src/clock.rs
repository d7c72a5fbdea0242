//! A wall clock that can be set wrong, for servers that are started with it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Source of the preloaded library. The end-to-end tests use it as well.
const SOURCE: &str = include_str!("../../e2e/harness/clock.c");

/// One clock and its offset.
#[derive(Debug)]
pub(crate) struct Clock {
    offset: std::fs::File,
    /// The first words of the command of a process that uses this clock.
    pub(crate) prefix: Vec<String>,
}

impl Clock {
    /// Builds a clock with the right time in `directory`.
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

    /// Sets the clock ahead by this number of seconds.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn step_to(&self, seconds: i64) -> Result<()> {
        let bytes = seconds.to_ne_bytes();
        self.offset.write_all_at(&bytes, 0).context("can't set the clock")
    }
}
