//! A bar on standard error while something long runs, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Redraws per second, and how often the scenario counts.
const REDRAWS_PER_SECOND: u8 = 5;
const BAR: &str = "{msg:>12} [{bar:32}] {pos}/{len} {per_sec} {prefix}";

/// The bar of what is being done at the moment, if anything is.
#[derive(Default)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    hidden: bool,
}

impl Progress {
    /// Begins to show `verb` ("connected") out of `total`.
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

    /// Shows nothing from now on: two bars would write over each other.
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

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// How often a controller looks at the counters while it waits.
pub(crate) const LOOK: Duration = Duration::from_millis(25);
