//! The standard streams, for output that its reader may have had enough of: `quorate plan | head` is no error.

use std::io::{self, ErrorKind, Write};

use crate::error::Failure;

/// A stream that takes what nobody reads any more for written.
pub struct Out<W>(W);

/// Standard output, with colours as far as it has them.
pub fn stdout() -> Out<anstream::Stdout> {
    Out(anstream::stdout())
}

/// Standard output for what is no text of ours: not a byte of it is changed.
pub fn plain() -> Out<io::Stdout> {
    Out(io::stdout())
}

/// Standard error, with colours as far as it has them.
pub fn stderr() -> Out<anstream::Stderr> {
    Out(anstream::stderr())
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// Prints to standard output.
///
/// # Errors
/// It cannot be written, as where its disk is full.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("standard output cannot be written: {error}")))
}

/// Prints to standard error. Where that cannot be written there is nobody to tell.
pub fn tell(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ends(ErrorKind);

    impl Write for Ends {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        let gone = |kind| {
            let mut out = Out(Ends(kind));
            out.write_all(b"text").and_then(|()| out.flush())
        };
        assert!(gone(ErrorKind::BrokenPipe).is_ok());
        assert!(gone(ErrorKind::StorageFull).is_err());
    }
}
