//! The text exposition format 0.0.4, written piece by piece.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Bucket bounds are
//! written as `1.0`, not `1`, so that they are the same series in every format and every version
//! of Prometheus.

use std::fmt::Write as _;

use prometheus::proto::{MetricFamily, MetricType};

use super::catalogue::{Family, Kind};

/// Why writing into a [`String`] is not checked.
const INFALLIBLE: &str = "a String takes all that is written to it";

/// The content type of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes samples into a text.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
}

impl Writer {
    /// How much is written and not yet taken, in bytes.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written that is not yet taken.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes what is written so far.
    pub fn take(&mut self) -> String {
        let fresh = String::with_capacity(self.out.capacity());
        std::mem::replace(&mut self.out, fresh)
    }

    /// Starts a family.
    pub fn family(&mut self, family: &Family) {
        self.head(family.name, family.help, family.kind);
    }

    fn head(&mut self, name: &str, help: &str, kind: Kind) {
        writeln!(
            self.out,
            "# HELP {name} {}\n# TYPE {name} {}",
            help.replace('\\', "\\\\").replace('\n', "\\n"),
            kind.as_str()
        )
        .expect(INFALLIBLE);
    }

    /// One sample; `labels` is what [`push_label`] wrote, without braces.
    pub fn sample(&mut self, name: &str, labels: &[&str], value: f64) {
        self.start(name, labels);
        if value.is_finite() {
            writeln!(self.out, "{value}").expect(INFALLIBLE);
        } else if value.is_nan() {
            self.out.push_str("NaN\n");
        } else {
            self.out.push_str(if value > 0.0 { "+Inf\n" } else { "-Inf\n" });
        }
    }

    /// One sample of a whole number.
    pub fn count(&mut self, name: &str, labels: &[&str], value: u64) {
        self.start(name, labels);
        writeln!(self.out, "{value}").expect(INFALLIBLE);
    }

    fn start(&mut self, name: &str, labels: &[&str]) {
        self.out.push_str(name);
        let mut sign = '{';
        for part in labels.iter().filter(|part| !part.is_empty()) {
            self.out.push(sign);
            self.out.push_str(part);
            sign = ',';
        }
        self.out.push_str(if sign == ',' { "} " } else { " " });
    }

    /// A histogram; `counts` are not cumulated and hold one more than `bounds`, for infinity.
    /// Returns how many series that was.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        (bounds, counts): (&[f64], &[u64]),
        sum: f64,
    ) -> u64 {
        let mut total = 0;
        let mut le = String::new();
        let bucket = format!("{name}_bucket");
        for (index, count) in counts.iter().enumerate() {
            total += count;
            le.clear();
            match bounds.get(index) {
                Some(bound) => {
                    write!(le, "le=\"{bound:?}\"").expect(INFALLIBLE);
                }
                None => le.push_str("le=\"+Inf\""),
            }
            self.count(&bucket, &[labels, &le], total);
        }
        self.sample(&format!("{name}_sum"), &[labels], sum);
        self.count(&format!("{name}_count"), &[labels], total);
        counts.len() as u64 + 2
    }

    /// Families gathered by the `prometheus` crate.
    pub fn gathered(&mut self, families: &[MetricFamily]) {
        for family in families {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => Kind::Counter,
                MetricType::HISTOGRAM => Kind::Histogram,
                MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => Kind::Gauge,
            };
            self.head(family.name(), family.help(), kind);
            for metric in family.get_metric() {
                let mut labels = String::new();
                for pair in metric.get_label() {
                    push_label(&mut labels, pair.name(), pair.value());
                }
                match kind {
                    Kind::Counter => {
                        self.sample(family.name(), &[&labels], metric.get_counter().get_value());
                    }
                    Kind::Gauge => {
                        self.sample(family.name(), &[&labels], metric.get_gauge().get_value());
                    }
                    Kind::Histogram => self.gathered_histogram(family.name(), &labels, metric),
                }
            }
        }
    }

    fn gathered_histogram(&mut self, name: &str, labels: &str, metric: &prometheus::proto::Metric) {
        let histogram = metric.get_histogram();
        let mut bounds = Vec::new();
        let mut counts = Vec::new();
        let mut below = 0;
        for bucket in histogram.get_bucket() {
            bounds.push(bucket.upper_bound());
            counts.push(bucket.cumulative_count() - below);
            below = bucket.cumulative_count();
        }
        counts.push(histogram.get_sample_count() - below);
        self.histogram(name, labels, (&bounds, &counts), histogram.get_sample_sum());
    }
}

/// Appends `name="value"` to labels, escaped, after a comma if there are some already.
pub fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => labels.push_str("\\\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str("\\n"),
            c => labels.push(c),
        }
    }
    labels.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_with_their_labels_escaped() {
        let mut labels = String::new();
        push_label(&mut labels, "check", "a\"b\\c\nd");
        let mut writer = Writer::default();
        writer.sample("x", &[&labels, "", "le=\"1.0\""], 0.5);
        writer.count("y", &[], 3);
        writer.sample("z", &[""], f64::NAN);
        assert_eq!(writer.take(), "x{check=\"a\\\"b\\\\c\\nd\",le=\"1.0\"} 0.5\ny 3\nz NaN\n");
        assert!(writer.is_empty());
    }

    #[test]
    fn a_histogram_is_cumulated_and_its_bounds_are_floats() {
        let mut writer = Writer::default();
        assert_eq!(writer.histogram("h", "a=\"b\"", (&[0.5, 1.0], &[1, 2, 3]), 7.5), 5);
        let text = writer.take();
        assert!(text.contains("h_bucket{a=\"b\",le=\"1.0\"} 3\n"), "{text}");
        assert!(
            text.contains(
                "h_bucket{a=\"b\",le=\"+Inf\"} 6\nh_sum{a=\"b\"} 7.5\nh_count{a=\"b\"} 6\n"
            )
        );
    }

    #[test]
    fn what_the_crate_gathers_is_written_in_the_same_words() {
        let histogram = prometheus::Histogram::with_opts(
            prometheus::HistogramOpts::new("h", "Help.").buckets(vec![1.0]),
        )
        .unwrap();
        histogram.observe(0.5);
        histogram.observe(2.0);
        let registry = prometheus::Registry::new();
        registry.register(Box::new(histogram)).unwrap();
        let mut writer = Writer::default();
        writer.gathered(&registry.gather());
        assert_eq!(
            writer.take(),
            "# HELP h Help.\n# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
             h_sum 2.5\nh_count 2\n"
        );
    }
}
