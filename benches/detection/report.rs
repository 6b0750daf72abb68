//! Tables for people.

use std::{
    io::{self, Write as _},
    time::Duration,
};

/// Prints row by row, so that a long run shows where it is.
pub(crate) struct Report(io::Stdout);

impl Report {
    pub(crate) fn new() -> Self {
        Self(io::stdout())
    }

    pub(crate) fn title(&mut self, name: &str, columns: &[&str]) {
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        self.row(&format!("\n{name}"), &columns);
    }

    pub(crate) fn row(&mut self, name: &str, cells: &[String]) {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>11}")).collect();
        self.say(&format!("{name:48} {}", cells.join(" ")));
    }

    pub(crate) fn say(&mut self, line: &str) {
        // Whoever reads has gone.
        writeln!(self.0, "{line}").ok();
    }
}

/// Half of them, 99 of 100 of them, and all are found within these; and how many there are.
pub(crate) fn spread(mut times: Vec<Duration>) -> Vec<String> {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).map_or("none".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    };
    vec![times.len().to_string(), at(50), at(99), at(100)]
}
