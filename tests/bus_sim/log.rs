//! The last steps of a schedule, to explain a failure.

use std::cell::RefCell;
use std::collections::VecDeque;

use corecast::ids::Moment;

/// Number of steps that are printed.
const STEPS_MAX: usize = 60;

thread_local! {
    static STEPS: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
    static KEEPS: RefCell<bool> = const { RefCell::new(false) };
}

/// Records a step. The text is only created while one seed is replayed.
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

/// Starts or stops recording, and forgets recorded steps.
pub fn keep(keeps: bool) {
    KEEPS.set(keeps);
    STEPS.with_borrow_mut(VecDeque::clear);
}

/// Returns the last steps, one line each.
pub fn last_steps() -> String {
    STEPS.with_borrow(|steps| steps.iter().fold(String::new(), |text, line| text + line + "\n"))
}
