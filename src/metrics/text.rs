//! The text exposition format 0.0.4, written piece by piece.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Bucket bounds are
//! written as `1.0`, not `1`, so that they are the same series in every format and every version
//! of Prometheus.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use prometheus::proto::{MetricFamily, MetricType};

use super::catalogue::{Family, Kind};
use crate::clock::Timestamp;

/// Why writing into a [`String`] is not checked.
const INFALLIBLE: &str = "a String takes all that is written to it";

/// The content type of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A value of a sample. Times are written from their whole parts, which costs a tenth of what a
/// float does, and without a float's noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// How many.
    Count(u64),
    /// How long, in seconds.
    Took(Duration),
    /// When, in seconds since the Unix epoch.
    At(Timestamp),
    /// Any number.
    Number(f64),
}

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

    /// What is written and not yet taken.
    pub fn text(&self) -> &str {
        &self.out
    }

    /// Forgets what is written, and keeps the room for more.
    pub fn clear(&mut self) {
        self.out.clear();
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
    pub fn sample(&mut self, name: &str, labels: &[&str], value: Value) {
        self.start(name, labels);
        self.end(value);
    }

    /// One sample of a whole number.
    pub fn count(&mut self, name: &str, labels: &[&str], value: u64) {
        self.sample(name, labels, Value::Count(value));
    }

    /// One sample of a series of which all is written out but the value of its last label: `opened`
    /// ends with that label's opening quote.
    pub fn close(&mut self, opened: &str, last: &str, value: Value) {
        self.out.push_str(opened);
        push_escaped(&mut self.out, last);
        self.out.push_str("\"} ");
        self.end(value);
    }

    fn end(&mut self, value: Value) {
        let out = &mut self.out;
        match value {
            Value::Count(count) => push_whole(out, count),
            Value::Took(took) => {
                push_whole(out, took.as_secs());
                push_fraction::<9>(out, took.subsec_nanos());
            }
            Value::At(at) => {
                if at.millis() < 0 {
                    out.push('-');
                }
                let millis = at.millis().unsigned_abs();
                push_whole(out, millis / 1000);
                push_fraction::<3>(out, u32::try_from(millis % 1000).unwrap_or(0));
            }
            Value::Number(number) => push_number(out, number),
        }
        out.push('\n');
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
        sum: Value,
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
                        let value = Value::Number(metric.get_counter().get_value());
                        self.sample(family.name(), &[&labels], value);
                    }
                    Kind::Gauge => {
                        let value = Value::Number(metric.get_gauge().get_value());
                        self.sample(family.name(), &[&labels], value);
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
        let sum = Value::Number(histogram.get_sample_sum());
        self.histogram(name, labels, (&bounds, &counts), sum);
    }
}

/// Appends `name="value"` to labels, escaped, after a comma if there are some already.
pub fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    push_escaped(labels, value);
    labels.push('"');
}

/// The same of what can be displayed, without a text of its own in between.
pub fn push_label_of(labels: &mut String, name: &str, value: &impl fmt::Display) {
    push_label(labels, name, "");
    labels.pop();
    let start = labels.len();
    write!(labels, "{value}").expect(INFALLIBLE);
    if has_special(&labels[start..]) {
        let plain = labels.split_off(start);
        push_escaped(labels, &plain);
    }
    labels.push('"');
}

/// Whether something must be escaped.
fn has_special(value: &str) -> bool {
    let is = |b: u8, special: u8| u8::from(b == special);
    // Without a way out of it, the compiler makes vectors of this loop.
    value.bytes().fold(0, |any, b| any | is(b, b'\\') | is(b, b'"') | is(b, b'\n')) != 0
}

fn push_escaped(out: &mut String, value: &str) {
    if !has_special(value) {
        return out.push_str(value);
    }
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

fn push_whole(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// A fraction of so many digits, without the zeros at its end.
fn push_fraction<const DIGITS: usize>(out: &mut String, fraction: u32) {
    if fraction == 0 {
        return;
    }
    let mut digits = [b'0'; DIGITS];
    let (mut rest, mut end) = (fraction, 0);
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if end == 0 && *digit != b'0' {
            end = index + 1;
        }
    }
    out.push('.');
    out.push_str(std::str::from_utf8(&digits[..end]).unwrap_or_default());
}

fn push_number(out: &mut String, number: f64) {
    if number.is_finite() {
        write!(out, "{number}").expect(INFALLIBLE);
    } else if number.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_with_their_labels_escaped() {
        let mut labels = String::new();
        push_label(&mut labels, "check", "a\"b\\c\nd");
        let mut writer = Writer::default();
        writer.sample("x", &[&labels, "", "le=\"1.0\""], Value::Number(0.5));
        writer.count("y", &[], 3);
        writer.sample("z", &[""], Value::Number(f64::NAN));
        assert_eq!(writer.take(), "x{check=\"a\\\"b\\\\c\\nd\",le=\"1.0\"} 0.5\ny 3\nz NaN\n");
        assert!(writer.is_empty());
    }

    #[test]
    fn times_are_written_from_their_parts_as_a_float_would_be() {
        let took = |nanos| Value::Took(Duration::from_nanos(nanos));
        let at = |millis| Value::At(Timestamp::from_millis(millis));
        for (value, text) in [
            (took(0), "0"),
            (took(1), "0.000000001"),
            (took(1_500_000_000), "1.5"),
            (took(12_000_000_000), "12"),
            (took(300_000_000), "0.3"),
            (took(10_123_456_789), "10.123456789"),
            (at(0), "0"),
            (at(1_795_183_200_120), "1795183200.12"),
            (at(1_795_183_200_001), "1795183200.001"),
            (at(-1_500), "-1.5"),
        ] {
            let mut writer = Writer::default();
            writer.close("x{a=\"", "b", value);
            assert_eq!(writer.take(), format!("x{{a=\"b\"}} {text}\n"));
        }
    }

    #[test]
    fn the_last_label_is_escaped_too() {
        let mut writer = Writer::default();
        writer.close("x{a=\"", "b\"c\\d\ne", Value::Count(1));
        assert_eq!(writer.take(), "x{a=\"b\\\"c\\\\d\\ne\"} 1\n");
        let mut labels = String::from("x=\"y\"");
        push_label_of(&mut labels, "a", &"b\"c");
        push_label_of(&mut labels, "d", &1);
        assert_eq!(labels, "x=\"y\",a=\"b\\\"c\",d=\"1\"");
    }

    #[test]
    fn a_histogram_is_cumulated_and_its_bounds_are_floats() {
        let mut writer = Writer::default();
        assert_eq!(
            writer.histogram("h", "a=\"b\"", (&[0.5, 1.0], &[1, 2, 3]), Value::Number(7.5)),
            5
        );
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
