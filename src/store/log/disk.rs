//! What the log does to the disk: each operation that can fail in a way the log must survive.
//!
//! It is a trait so that tests can let the n-th operation fail.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// The operations that change something.
pub(in crate::store) trait Disk: fmt::Debug + Send + Sync {
    /// Creates a file for its owner alone; one of that name is emptied.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all bytes at an offset.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Waits until what was written to a file is on the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Cuts a file, and waits until that is on the disk.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
    /// Renames a file; one of the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Waits until the names in a directory are on the disk.
    fn sync_names(&self, directory: &File) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk of the operating system.
#[derive(Debug)]
pub(in crate::store) struct Os;

impl Disk for Os {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_names(&self, directory: &File) -> io::Result<()> {
        directory.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
