//! Files of the authority's directory: written whole or not at all, never through a symbolic link.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use secrecy::zeroize::Zeroizing;
use tempfile::NamedTempFile;

use super::error::PkiError;

/// Mode of what everybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of what only its owner may read.
pub const PRIVATE: u32 = 0o600;

/// More than any certificate or key; what is larger is something else.
const LARGEST: u64 = 1 << 20;

/// Makes the directory, 0700, when it is not there.
///
/// One that is there keeps its mode, since a team may share it by group; only one that anybody can
/// write to is refused.
pub fn ensure_directory(dir: &Path) -> Result<(), PkiError> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_directory(dir),
        Err(error) => Err(io_error("create", dir)(error)),
    }
}

/// Refuses a directory that anybody can write to. One that is not there is fine.
pub fn check_directory(dir: &Path) -> Result<(), PkiError> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() && meta.mode() & 0o002 != 0 => Err(PkiError::OpenDirectory {
            path: dir.to_path_buf(),
        }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("examine", dir)(error)),
    }
}

/// Whether there is anything of this name.
pub fn exists(path: &Path) -> Result<bool, PkiError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("examine", path)(error)),
    }
}

/// Reads a text file; none when it is not there.
pub fn read_public(path: &Path) -> Result<Option<String>, PkiError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut bytes = read_all(file, path)?;
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Some)
        .map_err(|_| PkiError::Malformed {
            path: path.to_path_buf(),
            why: "it is not text".to_owned(),
        })
}

/// Reads a private key; none when it is not there. Others must not be able to.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PkiError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    // The open file is examined, not the name, which could be another file by now.
    let mode = file.metadata().map_err(io_error("examine", path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PkiError::LooseMode {
            path: path.to_path_buf(),
            mode,
        });
    }
    read_all(file, path).map(Some)
}

/// Puts a new file there; false when somebody else was first, whose file then stays.
pub fn publish(path: &Path, content: &[u8], mode: u32) -> Result<bool, PkiError> {
    let file = staged(path, content, mode)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_parent(path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error("create", path)(error.error)),
    }
}

/// Puts a file there in place of what there is.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    replace_all(&[(path, content, mode)])
}

/// Puts files of one directory there in place of what there is. All of them are written before the
/// first is put in place, so that a certificate and its key are apart for as short as can be.
pub fn replace_all(all: &[(&Path, &[u8], u32)]) -> Result<(), PkiError> {
    let mut ready = Vec::with_capacity(all.len());
    for (path, content, mode) in all {
        match fs::symlink_metadata(path) {
            // A rename would replace the link, which is not what whoever made it expects.
            Ok(meta) if !meta.is_file() => return Err(not_a_file(path)),
            _ => ready.push((path, staged(path, content, *mode)?)),
        }
    }
    for (path, file) in ready {
        file.persist(path)
            .map_err(|error| io_error("replace", path)(error.error))?;
    }
    all.first().map_or(Ok(()), |(path, ..)| sync_parent(path))
}

/// The path from the root, for files that refer to it.
pub fn absolute(path: &Path) -> Result<PathBuf, PkiError> {
    std::path::absolute(path).map_err(io_error("find", path))
}

/// Maps the system's answer.
pub fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> PkiError + 'a {
    move |source| PkiError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn staged(path: &Path, content: &[u8], mode: u32) -> Result<NamedTempFile, PkiError> {
    let mut file = tempfile::Builder::new()
        .prefix(".quorate-")
        .permissions(Permissions::from_mode(PRIVATE))
        .tempfile_in(directory_of(path))
        .map_err(io_error("create a file beside", path))?;
    let written = file
        .write_all(content)
        // Again, because the umask may have taken some of it away.
        .and_then(|()| file.as_file().set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.as_file().sync_all());
    written.map_err(io_error("write", path))?;
    Ok(file)
}

fn sync_parent(path: &Path) -> Result<(), PkiError> {
    let dir = directory_of(path);
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("write", dir))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn open(path: &Path) -> Result<Option<File>, PkiError> {
    // NONBLOCK: a fifo of that name must not hang us.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => {
            let meta = file.metadata().map_err(io_error("examine", path))?;
            if meta.is_file() {
                Ok(Some(file))
            } else {
                Err(not_a_file(path))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Err(not_a_file(path)),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn read_all(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, PkiError> {
    let size = file.metadata().map_err(io_error("examine", path))?.len();
    // Room for all of it at once: a growing vector leaves copies of a key behind.
    let room = usize::try_from(size.min(LARGEST)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(PkiError::Malformed {
            path: path.to_path_buf(),
            why: "it is larger than any key or certificate".to_owned(),
        });
    }
    Ok(bytes)
}

fn not_a_file(path: &Path) -> PkiError {
    PkiError::NotAFile {
        path: path.to_path_buf(),
    }
}
