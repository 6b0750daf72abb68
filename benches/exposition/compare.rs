//! Whether both sides say the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Failure, block_on, fleet, ours, peer};

/// Families, with their series and values.
type Samples = BTreeMap<String, BTreeMap<String, f64>>;

/// Compares the texts for so many targets. Says how many samples there are.
pub(crate) fn run(targets: usize) -> Result<usize, Failure> {
    let registry = block_on(fleet::registry(targets))??;
    let mut text = String::new();
    ours(&registry, false, &mut |chunk| text.push_str(chunk));
    let ours = samples(&text)?;
    let theirs = samples(&String::from_utf8(peer(targets)?.encode()?)?)?;
    let of_targets = rollcall::metrics::catalogue::ALL
        .iter()
        .filter(|family| family.labels.contains(&"target") && ours.contains_key(family.name));
    for family in of_targets {
        if !theirs.contains_key(family.name) {
            return Err(format!("{} is not compared", family.name).into());
        }
    }
    let mut count = 0;
    for (family, theirs) in &theirs {
        let ours = ours.get(family).ok_or_else(|| format!("{family} is missing"))?;
        let names = |samples: &BTreeMap<String, f64>| samples.keys().cloned().collect();
        let (one, other): (BTreeSet<String>, BTreeSet<String>) = (names(ours), names(theirs));
        if let Some(series) = one.symmetric_difference(&other).next() {
            return Err(format!("only one side has {series}").into());
        }
        for (series, value) in theirs {
            // Sums of floats depend on their order.
            if (ours[series] - value).abs() > value.abs() * 1e-9 {
                return Err(format!("{series}: {} and {value}", ours[series]).into());
            }
        }
        count += theirs.len();
    }
    Ok(count)
}

/// Reads a text. Labels are put in order, and bounds of buckets read as numbers: the crate writes
/// `1` for `1.0`.
fn samples(text: &str) -> Result<Samples, Failure> {
    let mut samples = Samples::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            head.split(' ').next().unwrap_or_default().clone_into(&mut family);
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').ok_or("a line without a value")?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').ok_or("labels without an end")?;
        let mut labels: Vec<String> = labels.split(',').map(one).collect();
        labels.sort_unstable();
        let series = format!("{name}{{{}}}", labels.join(","));
        if samples.entry(family.clone()).or_default().insert(series, value.parse()?).is_some() {
            return Err(format!("{line} comes twice").into());
        }
    }
    Ok(samples)
}

fn one(label: &str) -> String {
    match label.strip_prefix("le=\"").and_then(|bound| bound.strip_suffix('"')) {
        Some(bound) => format!("le={:?}", bound.parse::<f64>().unwrap_or(f64::NAN)),
        None => label.to_owned(),
    }
}
