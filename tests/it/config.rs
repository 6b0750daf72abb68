//! Configuration files, good and bad, and what is said of them.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

mod bad;
mod consul;
mod good;
mod warned;

use std::{fs, path::PathBuf};

use rollcall::config::{self, Loaded, Overrides, Rejected};
use tempfile::TempDir;

/// A folder with files in it.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Loaded, Rejected> {
        config::load(Some(&self.path("rollcall.yaml")), &Overrides::default())
    }

    /// A report with this folder's name left out.
    fn clean(&self, report: &str) -> String {
        report.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Loads `text` as the only file.
fn load(text: &str) -> Result<Loaded, Rejected> {
    Folder::new(&[("rollcall.yaml", text)]).load()
}

/// What is said of the files, the first of which is the configuration.
fn report(files: &[(&str, &str)]) -> String {
    let folder = Folder::new(files);
    match folder.load() {
        Ok(loaded) => folder.clean(&loaded.warnings.to_string()),
        Err(rejected) => folder.clean(&rejected.to_string()),
    }
}
