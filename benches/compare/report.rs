//! Figures as a table for people, and as JSON for programs.

use std::{collections::BTreeMap, io::Write as _};

use super::Failure;

/// A goal for a ratio.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// No more than the first; better, than the second.
    AtMost(f64, f64),
    /// No less than the first; better, than the second.
    AtLeast(f64, f64),
}

impl Goal {
    fn verdict(self, value: f64) -> &'static str {
        let (reached, surpassed) = match self {
            Self::AtMost(must, stretch) => (value <= must, value <= stretch),
            Self::AtLeast(must, stretch) => (value >= must, value >= stretch),
        };
        match (reached, surpassed) {
            (_, true) => "met, stretched",
            (true, false) => "met",
            (false, false) => "MISSED",
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(must, stretch) => format!("<= {must} ({stretch})"),
            Self::AtLeast(must, stretch) => format!(">= {must} ({stretch})"),
        }
    }
}

struct Row {
    name: String,
    unit: &'static str,
    goal: Option<Goal>,
    values: Vec<f64>,
}

/// All figures, in the order in which they came first.
#[derive(Default)]
pub(super) struct Report(Vec<Row>);

impl Report {
    /// Adds the figure of a round.
    pub(super) fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        self.put(name, unit, None, value);
    }

    /// Adds a figure of a round that there is a goal for.
    pub(super) fn aim(&mut self, name: &str, goal: Goal, value: f64) {
        self.put(name, "x", Some(goal), value);
    }

    /// Adds a figure with a unit that there is a goal for.
    pub(super) fn put(&mut self, name: &str, unit: &'static str, goal: Option<Goal>, value: f64) {
        match self.0.iter_mut().find(|row| row.name == name) {
            Some(row) => row.values.push(value),
            None => {
                self.0.push(Row { name: name.to_owned(), unit, goal, values: vec![value] });
            }
        }
    }

    /// Prints all of it.
    pub(super) fn print(mut self) -> Result<(), Failure> {
        let out = &mut std::io::stdout().lock();
        writeln!(out, "{:52} {:>11} {:>24}  goal", "", "median", "min to max")?;
        let mut json = BTreeMap::new();
        for Row { name, unit, goal, values } in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[0], values[values.len() - 1]);
            let median = values[values.len() / 2];
            let range = format!("{low:.3} to {high:.3}");
            write!(out, "{name:52} {median:>8.3} {unit:2} {range:>24}")?;
            if let Some(goal) = goal {
                write!(out, "  {} {}", goal.text(), goal.verdict(median))?;
            }
            writeln!(out)?;
            json.insert(
                name.clone(),
                serde_json::json!({ "unit": unit, "median": median, "all": values }),
            );
        }
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
        Ok(())
    }
}
