//! Every query of every dashboard, asked of the Prometheus of the stage.

use std::fs;

use serde_json::Value;

use crate::monitoring::{Monitoring, Series, dashboards};

/// What excuses a query: dashboard, title of the panel or annotation, and why.
type Excuse = (&'static str, &'static str, &'static str);

/// Queries that have no data here although nothing is wrong.
const EMPTY_OK: &[Excuse] = &[(
    "rollcall-daemon",
    "Firing alerts",
    "an annotation; the daemon of the stage is well, so no alert is about it",
)];

/// Queries that may answer "not a number" for some of their series.
const NAN_OK: &[Excuse] = &[
    (
        "rollcall-daemon",
        "HTTP p99",
        "a route that nobody has asked for lately has no quantile; `/metrics` always has one",
    ),
    ("rollcall-daemon", "Commit p99", "while nothing changes there is no commit to measure"),
];

/// What stands in the queries for what Grafana puts in. The variables are set to *All*.
const SUBSTITUTES: &[(&str, &str)] = &[
    ("$__rate_interval", "15s"),
    ("$__range", "60s"),
    ("$job", ".+"),
    ("$instance", ".+"),
    ("$service", ".+"),
    ("$check", ".+"),
    ("$target", ".+"),
];

/// A query of a dashboard.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) dashboard: String,
    pub(crate) title: String,
    pub(crate) expr: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a panel that shows how something changed.
    Range,
    /// Of a panel that shows how something is.
    Instant,
    /// The same, and all there is to show is one or nought.
    Health,
    /// Of marks in the other panels.
    Annotation,
}

/// All dashboards, each with its JSON.
fn load() -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = fs::read_dir(dashboards())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (json["uid"].as_str().unwrap().to_owned(), json)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// All queries of all panels and annotations, with the variables filled in.
pub(crate) fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for (dashboard, json) in load() {
        for panel in panels(&json) {
            for target in list(&panel["targets"]) {
                let kind = kind(panel, target);
                found.push(Query::new(&dashboard, &panel["title"], &target["expr"], kind));
            }
        }
        for note in list(&json["annotations"]["list"]).iter().filter(|n| n["expr"].is_string()) {
            found.push(Query::new(&dashboard, &note["name"], &note["expr"], Kind::Annotation));
        }
    }
    found
}

/// The entries of the tables above that are about no query there is.
pub(crate) fn outdated(queries: &[Query]) -> Vec<String> {
    let about = |entry: &Excuse| queries.iter().any(|query| query.is_among(&[*entry]));
    let entries = EMPTY_OK.iter().chain(NAN_OK).filter(|entry| !about(entry));
    entries.map(|(dashboard, title, _)| format!("{dashboard}, {title}")).collect()
}

/// All query variables: dashboard, name, and the series and label they are chosen from.
pub(crate) fn variables() -> Vec<(String, String, String, String)> {
    let mut found = Vec::new();
    for (dashboard, json) in load() {
        for variable in list(&json["templating"]["list"]).iter().filter(|v| v["type"] == "query") {
            let name = variable["name"].as_str().unwrap();
            let query = substitute(variable["query"]["query"].as_str().unwrap());
            let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap();
            found.push((dashboard.clone(), name.to_owned(), selector.to_owned(), label.to_owned()));
        }
    }
    found
}

/// The panels, also those inside of collapsed rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let outer = list(&dashboard["panels"]).iter();
    outer.flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn kind(panel: &Value, target: &Value) -> Kind {
    let shows_health =
        ["state-timeline", "status-history"].contains(&panel["type"].as_str().unwrap());
    match target["instant"].as_bool() {
        _ if shows_health => Kind::Health,
        Some(true) => Kind::Instant,
        _ => Kind::Range,
    }
}

fn substitute(expr: &str) -> String {
    let filled = SUBSTITUTES.iter().fold(expr.to_owned(), |text, (name, value)| {
        // `${job}` and `${job:regex}` do not occur; what is left over is found below.
        text.replace(name, value)
    });
    assert!(!filled.contains('$'), "a variable that this test does not know: {filled}");
    filled
}

impl Query {
    fn new(dashboard: &str, title: &Value, expr: &Value, kind: Kind) -> Self {
        Self {
            dashboard: dashboard.to_owned(),
            title: title.as_str().unwrap().to_owned(),
            expr: substitute(expr.as_str().unwrap()),
            kind,
        }
    }

    fn is_among(&self, table: &[Excuse]) -> bool {
        table
            .iter()
            .any(|(dashboard, title, _)| *dashboard == self.dashboard && *title == self.title)
    }

    /// Asks, and says what is wrong with the answer.
    pub(crate) fn problem(&self, monitoring: &Monitoring) -> Option<String> {
        let range = monitoring.query_range(&self.expr);
        let problem = self.judge(&range).or_else(|| {
            let now = (self.kind == Kind::Instant).then(|| monitoring.query(&self.expr))?;
            self.judge(&now).map(|problem| format!("{problem} now"))
        });
        problem.map(|said| format!("{}, {}: {said}: {}", self.dashboard, self.title, self.expr))
    }

    fn judge(&self, answer: &[Series]) -> Option<String> {
        let values = || answer.iter().flat_map(|series| &series.values);
        match (values().any(|value| value.is_finite()), self.is_among(EMPTY_OK)) {
            (false, false) => return Some("no data".to_owned()),
            (true, true) => return Some("has data; take it out of EMPTY_OK".to_owned()),
            (true, false) | (false, true) => {}
        }
        if values().any(|value| !value.is_finite()) && !self.is_among(NAN_OK) {
            let odd = answer.iter().find(|one| one.values.iter().any(|value| !value.is_finite()));
            let labels = odd.map(|one| &one.labels);
            return Some(format!("values that are no numbers, for {labels:?}"));
        }
        if self.kind == Kind::Health && values().any(|value| ![0.0, 1.0].contains(value)) {
            return Some("shows health, but has values other than 0 and 1".to_owned());
        }
        None
    }
}
