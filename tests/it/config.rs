//! Configuration files, good and bad, and what is said of them.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

mod bad;
mod consul;
mod dial;
mod egress;
mod good;
mod program;
mod schema;
mod self_health;
mod validate;
mod warned;

use std::{fs, path::PathBuf};

use rollcall::{
    config::{self, Loaded, Overrides, Rejected},
    judge::Verdict,
    registry::{Assigned, Registration},
};
use tempfile::TempDir;

/// A folder with files in it.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        for (name, text) in files {
            let path = folder.path(name);
            fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
            fs::write(path, text).expect("a file");
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

/// An instance and its checks, one line each.
fn shown(registration: &Registration) -> String {
    let instance = &registration.instance;
    let head = format!(
        "{} {} {} {:?} {:?}\n",
        instance.service, instance.id, instance.endpoint, instance.tags, instance.meta
    );
    registration.checks.iter().map(shown_check).fold(head, |text, check| text + &check)
}

fn shown_check(check: &Assigned) -> String {
    let definition = &*check.definition;
    let (schedule, thresholds) = (definition.schedule, definition.thresholds);
    let endpoint = check.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}"));
    let initial = (check.initial != Verdict::Unknown).then(|| format!(", first {}", check.initial));
    let consul_id = check.consul_id.as_ref().map(|id| format!(" as {id}"));
    format!(
        "  {} {:?} {}{}{}{}: every {:?} ±{} within {:?} after {:?}, {}/{}/{}, {}\n",
        definition.id,
        definition.name.as_deref().unwrap_or_default(),
        definition.probe.protocol(),
        endpoint.unwrap_or_default(),
        consul_id.unwrap_or_default(),
        initial.unwrap_or_default(),
        schedule.interval,
        schedule.jitter,
        schedule.timeout,
        schedule.initial_delay,
        thresholds.success_before_passing(),
        thresholds.failures_before_warning(),
        thresholds.failures_before_critical(),
        definition.slo_objective,
    )
}
