//! When a target that is busy wants to be asked again (RFC 9110, section 10.2.3).

use std::time::Duration;

use jiff::{civil::DateTime, tz::TimeZone};

use crate::clock::Timestamp;

/// The three forms of a date (RFC 9110, section 5.6.7): the one that is sent, and two that are only
/// read.
const DATES: [&str; 3] =
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// How long from `now` a target wants to be left alone; nothing if the text makes no sense, or if
/// that time is over.
pub(super) fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = match seconds(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => date(text)?.since(now),
    };
    (!wait.is_zero()).then_some(wait)
}

/// Digits only: a sign would be taken by `parse`, too.
fn seconds(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn date(text: &str) -> Option<Timestamp> {
    let known = DATES.iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    let moment = known.to_zoned(TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(moment.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_of(text: &str) -> Option<u64> {
        // 1994-11-06T08:49:30Z, seven seconds before the date in the standard.
        let now = Timestamp::from_seconds(784_111_770);
        wait(text, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_a_number_of_seconds_or_a_date() {
        assert_eq!(seconds_of("120"), Some(120));
        assert_eq!(seconds_of("0007"), Some(7));
        assert_eq!(seconds_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds_of("Sunday, 06-Nov-94 08:49:37 GMT"), Some(7));
        assert_eq!(seconds_of("Sun Nov  6 08:49:37 1994"), Some(7));
    }

    #[test]
    fn a_wait_that_is_over_or_makes_no_sense_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "+5",
            "5s",
            "1.5",
            "1e3",
            "99999999999999999999999999",
            "Sun, 06 Nov 1994 08:49:30 GMT",
            "Sun, 06 Nov 1993 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Mon, 99 Nov 1994 08:49:37 GMT",
            "tomorrow",
        ] {
            assert_eq!(seconds_of(text), None, "{text:?}");
        }
    }
}
