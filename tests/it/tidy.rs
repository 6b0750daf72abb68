//! Rules of the code base that the compiler does not check.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use rollcall::metrics::catalogue;

/// The layers, lowest first. A module uses only modules of lower layers; those of one layer do
/// not know each other.
const LAYERS: &[&[&str]] = &[
    &["build", "clock", "compact", "duration", "share", "spelling", "tasks"],
    &["model"],
    &["doubt", "event", "judge", "probe", "telemetry"],
    &["metrics", "publish", "store"],
    &["leases", "registry"],
    &["consul", "monitor"],
    &["agent", "vantage"],
    &["api", "dns", "scheduler"],
    &["config"],
    &["daemon"],
    &["cli"],
];

/// What tests of a module may use beyond its layer: nothing goes through them.
const TEST_FILES: &[&str] = &["tests.rs", "testing.rs"];

/// Words that the pure modules must not contain.
const IMPURE: &[(&str, &[&str])] = &[
    ("judge", &["async", "tokio", "tracing", "std::io", "std::fs", "clock::"]),
    ("model", &["async", "tokio", "tracing", "Serialize", "std::fs"]),
    ("publish", &["async", "tokio", "tracing", "std::io", "std::fs", "clock::"]),
];

const MAX_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(directory)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {extension} files in {directory}");
    found.sort();
    found
}

fn is_test_file(path: &Path) -> bool {
    let below_tests = path.components().any(|part| part.as_os_str() == "tests");
    let name = path.file_name().unwrap().to_str().unwrap();
    below_tests || TEST_FILES.contains(&name)
}

/// The text without what is compiled for tests only.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap()
}

/// The top-level module a file of `src/` belongs to; nothing for the crate's own files.
fn module_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("the module {module} has no layer: add it to LAYERS"))
}

/// The top-level modules named after `crate::`, in paths and in grouped imports.
fn used_modules(text: &str) -> BTreeSet<String> {
    let path = Regex::new(r"crate::([a-z_]+)").unwrap();
    let group = Regex::new(r"(?s)use crate::\{(.*?)\n?\};").unwrap();
    let mut used: BTreeSet<String> =
        path.captures_iter(text).map(|found| found[1].to_owned()).collect();
    for found in group.captures_iter(text) {
        let mut depth = 0;
        for item in found[1].split_inclusive(['{', '}', ',']) {
            let name = item.trim().trim_end_matches(['{', '}', ',']).trim();
            if depth == 0 && !name.is_empty() {
                used.insert(name.split([':', ' ']).next().unwrap().to_owned());
            }
            depth += item.matches('{').count();
            depth -= item.matches('}').count();
        }
    }
    used
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for path in files("src", "rs").iter().filter(|path| !is_test_file(path)) {
        let Some(module) = module_of(path) else { continue };
        let text = fs::read_to_string(path).unwrap();
        for used in used_modules(without_tests(&text)) {
            if used != module && layer_of(&used) >= layer_of(&module) {
                wrong.push(format!("{}: {module} may not use {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_scan_of_imports_sees_paths_and_groups() {
    let text = "use crate::{\n    api::{self, View},\n    clock,\n    registry::{Order, snapshot::{A}},\n};\n\
                fn f() { crate::model::x() }";
    let used: Vec<_> = used_modules(text).into_iter().collect();
    assert_eq!(used, ["api", "clock", "model", "registry"]);
}

#[test]
fn pure_modules_stay_pure() {
    for (module, words) in IMPURE {
        for path in files("src", "rs").iter().filter(|path| !is_test_file(path)) {
            if module_of(path).as_deref() != Some(module) {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            let code: String =
                without_tests(&text).lines().filter(|l| !l.trim().starts_with("//")).collect();
            for word in *words {
                assert!(!code.contains(word), "{} contains {word}", path.display());
            }
        }
    }
}

#[test]
fn the_api_never_probes() {
    for path in files("src/api", "rs").iter().filter(|path| !is_test_file(path)) {
        let text = fs::read_to_string(path).unwrap();
        for word in ["probe::Network", "Prober", "scheduler::"] {
            assert!(!without_tests(&text).contains(word), "{} names {word}", path.display());
        }
    }
}

/// One more probe type touches its own file and these two: nobody else knows a type by name.
#[test]
fn probe_types_are_known_in_two_places() {
    for path in files("src", "rs").iter().filter(|path| !is_test_file(path)) {
        let below = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if below.starts_with("src/probe/")
            || ["src/probe.rs", "src/config/check.rs"].contains(&below)
        {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for name in ["Grpc", "Tcp", "Udp", "H2ping", "Certificate", "Dns", "Etcd", "Icmp", "Exec"] {
            for name in [format!("Spec::{name}"), format!("Protocol::{name}")] {
                assert!(!without_tests(&text).contains(&name), "{below} names {name}");
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_of_one_idea() {
    for path in ["src", "tests"].iter().flat_map(|directory| files(directory, "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no module doc", path.display());
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES || is_test_file(&path), "{}: {lines} lines", path.display());
        assert_ne!(path.file_name().unwrap(), "mod.rs", "{}", path.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Put together so that this file does not find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["#[ig", "nore"].concat()];
    for path in ["src", "tests"].iter().flat_map(|directory| files(directory, "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} contains {mark}", path.display());
        }
    }
}

/// All names that look like ours in a text: metrics of the catalogue and recorded series.
fn names_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"[a-z_:]*rollcall_[a-z_]+(:[a-z0-9_]+)?").unwrap();
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

fn family_of(name: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| {
            let stem = name.strip_suffix(suffix)?;
            let histogram = |f: &&&catalogue::Family| f.name == stem;
            let family = catalogue::ALL.iter().find(histogram)?;
            (family.kind == catalogue::Kind::Histogram).then_some(stem)
        })
        .unwrap_or(name)
}

/// Every metric that dashboards and rules ask for is one we export or record, and every one we
/// promise is documented.
#[test]
fn metric_names_are_in_step() {
    let exported: BTreeSet<&str> = catalogue::ALL.iter().map(|family| family.name).collect();
    let rules = fs::read_to_string(root().join("alerts/rollcall.rules.yml")).unwrap();
    let record = Regex::new(r"record: *(\S+)").unwrap();
    let recorded: BTreeSet<String> =
        record.captures_iter(&rules).map(|found| found[1].to_owned()).collect();
    let expression = Regex::new(r#"(?m)^\s*"?expr"?: *(.*(?:\n {8,}.*)*)"#).unwrap();
    let mut asked = Vec::new();
    for path in files("dashboards", "json").into_iter().chain(files("alerts", "yml")) {
        let text = fs::read_to_string(&path).unwrap();
        for found in expression.captures_iter(&text) {
            for name in names_in(&found[1]) {
                let known = if name.contains(':') {
                    recorded.contains(&name)
                } else {
                    exported.contains(family_of(&name))
                };
                if !known {
                    asked.push(format!("{} asks for {name}", path.display()));
                }
            }
        }
    }
    assert!(asked.is_empty(), "{}", asked.join("\n"));
}

#[test]
fn the_documented_metrics_are_the_catalogue() {
    let path = root().join("docs/metrics.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, catalogue::markdown()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, catalogue::markdown(), "run UPDATE_EXPECT=1 cargo test --test it");
}
