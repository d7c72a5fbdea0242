//! Lines on standard output.

use std::io;

use super::failure::Failure;

/// Prints one line on standard output.
pub(super) fn print_line(line: &str) -> Result<(), Failure> {
    print_line_to(&mut io::stdout(), line)
}

/// Prints one line and flushes, because a pipe is expected to deliver it immediately.
pub(super) fn print_line_to(out: &mut dyn io::Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
