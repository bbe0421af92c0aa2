//! sha256 while bytes go by.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

const CHUNK: usize = 64 * 1024;

/// Why a copy stopped.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The source failed.
    Read(io::Error),
    /// The target failed.
    Write(io::Error),
    /// The source holds more than it may.
    TooLarge,
}

/// Hex digest of a few bytes.
pub(super) fn of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Copies everything, at most `largest` bytes, and returns hex digest and size.
pub(super) fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    largest: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(String, u64), CopyError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut done: u64 = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        done += count as u64;
        if done > largest {
            return Err(CopyError::TooLarge);
        }
        hasher.update(chunk);
        to.write_all(chunk).map_err(CopyError::Write)?;
        progress(done);
    }
    Ok((hex::encode(hasher.finalize()), done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_hashes() {
        let mut to = Vec::new();
        let (digest, size) = copy(&mut &b"abc"[..], &mut to, 3, &mut |_| {}).expect("copied");
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!((digest, size), (of(b"abc"), 3));
        assert_eq!(to, b"abc");
    }

    #[test]
    fn stops_at_the_bound() {
        let copied = copy(&mut io::repeat(0), &mut io::sink(), 1 << 20, &mut |_| {});
        assert!(matches!(copied, Err(CopyError::TooLarge)), "{copied:?}");
    }
}
