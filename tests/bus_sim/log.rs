//! The last steps of a schedule, for those who want to know why it failed.

use std::cell::RefCell;
use std::collections::VecDeque;

use corecast::ids::Moment;

/// Steps that are shown.
const STEPS_MAX: usize = 60;

thread_local! {
    static STEPS: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
    static KEEPS: RefCell<bool> = const { RefCell::new(false) };
}

/// Notes a step. It is written only where it may be read: when one seed is played again.
pub fn log(now: Moment, text: impl FnOnce() -> String) {
    if !KEEPS.with_borrow(|keeps| *keeps) {
        return;
    }
    let line = format!("{:>9.3} ms  {}", now.nanos() as f64 / 1e6, text());
    super::super::sim::scene::trace(|| line.clone());
    STEPS.with_borrow_mut(|steps| {
        steps.push_back(line);
        if steps.len() > STEPS_MAX {
            steps.pop_front();
        }
    });
}

/// Begins to keep steps, or ends it; forgets those that there are.
pub fn keep(keeps: bool) {
    KEEPS.set(keeps);
    STEPS.with_borrow_mut(VecDeque::clear);
}

/// The last steps, a line each.
pub fn last_steps() -> String {
    STEPS.with_borrow(|steps| steps.iter().fold(String::new(), |text, line| text + line + "\n"))
}
