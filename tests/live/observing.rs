//! Statements on what Prometheus makes of the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use rollcall::metrics::catalogue;
use serde_json::Value;

use crate::{
    dashboards::{outdated, queries, variables},
    probing::CHECKS,
    rig::{SOON, wait_for, words},
    stage::Stage,
};

pub(crate) fn the_exposition_is_clean(stage: &mut Stage) {
    wait_for("everything is scraped", SOON, || {
        let scraped = stage.monitoring.scraped();
        let well = |target: &Value| target["health"] == "up" && target["lastError"] == "";
        let ill = scraped.iter().find(|target| !well(target));
        if let Some(target) = ill {
            return Err(format!("{target}"));
        }
        // What is scraped can be queried a moment later.
        let up = stage.monitoring.query("up{job=\"rollcall\"}");
        let is_up = up.len() == 1 && up[0].values == [1.0];
        if is_up { Ok(()) } else { Err(format!("{up:?}")) }
    });

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = promtool.stdin.take().unwrap();
    pipe.write_all(stage.daemon.metrics().text().as_bytes()).unwrap();
    drop(pipe);
    let output = promtool.wait_with_output().unwrap();
    let said = words(&output);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

pub(crate) fn every_metric_is_in_the_catalogue(stage: &mut Stage) {
    let of_ours = |name: &str| name.starts_with("rollcall_");
    let known: BTreeMap<String, String> = catalogue::ALL
        .iter()
        .map(|family| (family.name.to_owned(), family.kind.as_str().to_owned()))
        .filter(|(name, _)| of_ours(name))
        .collect();
    let mut seen = stage.monitoring.types();
    seen.retain(|name, _| of_ours(name));
    assert_eq!(seen, known);
    for name in known.keys() {
        let histogram = known[name] == "histogram";
        let series = if histogram { format!("{name}_bucket") } else { name.clone() };
        assert!(!stage.monitoring.query(&series).is_empty(), "{name} has no series");
    }
    println!("     {} metrics", known.len());
}

pub(crate) fn every_check_is_probed_each_second(stage: &mut Stage) {
    wait_for("every target is probed once a second", SOON, || {
        // Counters that step once a second are read to within a tenth over ten.
        let rates = stage.monitoring.query("rate(rollcall_probes_total[10s])");
        let odd = rates.iter().find(|one| !(0.8..1.2).contains(&one.values[0]));
        match odd {
            _ if rates.len() != CHECKS => Err(format!("{} of {CHECKS} targets", rates.len())),
            Some(one) => Err(format!("{one:?}")),
            None => Ok(()),
        }
    });
}

pub(crate) fn every_rule_is_healthy(stage: &mut Stage) {
    let rules = wait_for("every rule has been evaluated", SOON, || {
        let rules = stage.monitoring.rules();
        let waits = rules.iter().find(|rule| rule["health"] == "unknown");
        waits.map_or_else(|| Ok(rules.clone()), |rule| Err(format!("{rule}")))
    });
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert!(rule["lastError"].is_null(), "{rule}");
    }
    let recorded: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| rule["type"] == "recording")
        .map(|rule| rule["name"].as_str().unwrap())
        .collect();
    assert!(!recorded.is_empty());
    for name in &recorded {
        wait_for(&format!("{name} has data"), SOON, || {
            let series = stage.monitoring.query(name);
            let any = series.iter().any(|one| one.values[0].is_finite());
            if any { Ok(()) } else { Err(format!("{series:?}")) }
        });
    }
    println!("     {} rules, {} of them recording", rules.len(), recorded.len());
}

pub(crate) fn every_variable_has_values(stage: &mut Stage) {
    let variables = variables();
    assert!(!variables.is_empty());
    for (dashboard, name, selector, label) in &variables {
        let values = stage.monitoring.label_values(selector, label);
        assert!(!values.is_empty(), "{dashboard}: ${name} has no values: {label} of {selector}");
    }
    println!("     {} variables", variables.len());
}

pub(crate) fn every_query_has_data(stage: &mut Stage) {
    let queries = queries();
    assert!(!queries.is_empty());
    let outdated = outdated(&queries);
    assert!(outdated.is_empty(), "nothing to excuse any more: {outdated:?}");
    // What needs two scrapes, or an alert, has it after some seconds.
    wait_for("every query has data", SOON, || {
        let problems: Vec<String> =
            queries.iter().filter_map(|query| query.problem(&stage.monitoring)).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n  ")) }
    });
    println!("     {} queries", queries.len());
}
