//! Writing to the standard output, whose reader may go away at any time.

use std::io::{self, Write};

/// Writes all of `text` to the standard output.
///
/// A reader that has gone away is no error: it has read what it wanted.
///
/// # Errors
///
/// What the system says otherwise, such as a full disk.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
