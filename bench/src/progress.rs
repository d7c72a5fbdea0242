//! A progress bar on standard error, if it is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Redraws per second.
const REDRAWS_PER_SECOND: u8 = 5;
const BAR: &str = "{msg:>12} [{bar:32}] {pos}/{len} {per_sec} {prefix}";

/// The bar of the current activity, if there is one.
#[derive(Default)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    hidden: bool,
}

impl Progress {
    /// Starts to show `verb` ("connected") out of `total`.
    pub(crate) fn begin(&mut self, verb: &'static str, total: u64) {
        self.clear();
        if self.hidden {
            return;
        }
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(verb);
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style.progress_chars("=> "));
        }
        self.bar = Some(bar);
    }

    /// Shows nothing from now on, because two bars would overwrite each other.
    pub(crate) fn hide(&mut self) {
        self.hidden = true;
    }

    /// Shows `count` out of the total.
    pub(crate) fn show(&self, count: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(count);
        }
    }

    /// Shows a remark behind the bar.
    pub(crate) fn remark(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(text);
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Interval at which a controller reads the counters while it waits.
pub(crate) const LOOK: Duration = Duration::from_millis(25);
