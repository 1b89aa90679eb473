//! Owns the threshold range of the monitoring plugins: which values are an alert.
//!
//! ```text
//!   10        alert below 0 and above 10         10:20     alert below 10 and above 20
//!   10:       alert below 10                     @10:20    alert from 10 to 20, both included
//!   ~:10      alert above 10; ~ is minus infinity
//! ```

use std::fmt;
use std::str::FromStr;

/// A range; a value on the wrong side of it is an alert.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Range {
    low: f64,
    high: f64,
    /// `@`: the alert is inside.
    inside: bool,
    /// As it was written: so it goes into the performance data.
    text: String,
}

impl Range {
    /// Whether a value is an alert.
    pub(crate) fn alerts(&self, value: f64) -> bool {
        let within = value >= self.low && value <= self.high;
        within == self.inside
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let bad = || format!("{text:?} is no range; write one like 10, 10:, ~:10, 10:20 or @10:20");
        let number = |part: &str| -> Result<f64, String> {
            let is_plain = !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || ".-".contains(c));
            part.parse().ok().filter(|_| is_plain).ok_or_else(bad)
        };
        let (inside, bounds) = match text.strip_prefix('@') {
            Some(bounds) => (true, bounds),
            None => (false, text),
        };
        let (low, high) = match bounds.split_once(':') {
            None => (0.0, number(bounds)?),
            Some((low, high)) => {
                let low = match low {
                    "~" => f64::NEG_INFINITY,
                    "" if !high.is_empty() => 0.0,
                    low => number(low)?,
                };
                (low, if high.is_empty() { f64::INFINITY } else { number(high)? })
            }
        };
        if low > high {
            return Err(format!("{text:?} begins above its end; write the lower number first"));
        }
        Ok(Range { low, high, inside, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts(range: &str, values: &[f64]) -> Vec<bool> {
        let range: Range = range.parse().expect("a range");
        values.iter().map(|value| range.alerts(*value)).collect()
    }

    #[test]
    fn every_form_alerts_where_the_guidelines_say() {
        let values = [-1.0, 0.0, 9.9, 10.0, 15.0, 20.0, 20.1];
        assert_eq!(alerts("10", &values), [true, false, false, false, true, true, true]);
        assert_eq!(alerts("10:", &values), [true, true, true, false, false, false, false]);
        assert_eq!(alerts("~:10", &values), [false, false, false, false, true, true, true]);
        assert_eq!(alerts("10:20", &values), [true, true, true, false, false, false, true]);
        assert_eq!(alerts("@10:20", &values), [false, false, false, true, true, true, false]);
        assert_eq!(alerts("@10", &values), [false, true, true, true, false, false, false]);
        assert_eq!(alerts(":10", &values), alerts("10", &values));
        assert_eq!(alerts("-5:-0.5", &values), [false, true, true, true, true, true, true]);
        assert_eq!(alerts("~:", &values), [false; 7]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", ":", "@", "ten", "10:5", "1:2:3", "10;", "1e3", "inf", "~", "10:~", "NaN", " 10"] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
    }
}
