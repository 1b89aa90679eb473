//! Owns units: sizes and times in settings may be written as people write them.
//!
//! A setting's name says what a plain number means; a text says its own unit, and becomes that number.
//!
//! ```text
//!   store.cache_bytes = "256 MiB"    bytes           kB, MB, GB: times 1000; KiB, MiB, GiB: times 1024
//!   limits.pin_ms_max = "2h"         milliseconds    ms, s, m, h, d
//!   store.keys_age_s  = "10m"        seconds
//! ```
//! A file is rewritten as a text, value by value in place, so that the error of another line still names its line.

use bytesize::ByteSize;
use jiff::{Span, SpanRelativeTo};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Bytes,
    Milliseconds,
    Seconds,
}

impl Unit {
    /// The unit that a setting's name ends in, or has before what it bounds.
    pub(super) fn of(name: &str) -> Option<Unit> {
        name.rsplit('.').next()?.split('_').find_map(|word| match word {
            "bytes" => Some(Unit::Bytes),
            "ms" => Some(Unit::Milliseconds),
            "s" => Some(Unit::Seconds),
            _ => None,
        })
    }

    /// A number of this unit as people say it, when that is shorter.
    pub(super) fn shown(self, number: u64) -> String {
        match self {
            Unit::Bytes if number >= 1024 => format!("{number} ({})", ByteSize::b(number)),
            Unit::Bytes => number.to_string(),
            Unit::Milliseconds => format!("{number} ms"),
            Unit::Seconds => format!("{number} s"),
        }
    }

    fn read(self, text: &str) -> Option<i64> {
        let nanos_each = match self {
            Unit::Bytes => return i64::try_from(text.parse::<ByteSize>().ok()?.as_u64()).ok(),
            Unit::Milliseconds => 1_000_000,
            Unit::Seconds => 1_000_000_000,
        };
        let span: Span = text.parse().ok()?;
        let nanos = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.as_nanos();
        let whole = nanos >= 0 && nanos % nanos_each == 0;
        whole.then(|| i64::try_from(nanos / nanos_each).ok()).flatten()
    }

    fn advice(self) -> &'static str {
        match self {
            Unit::Bytes => "write a number of bytes, or a size like \"256 MiB\"",
            Unit::Milliseconds => "write a number of milliseconds, or a time like \"90s\"",
            Unit::Seconds => "write a number of seconds, or a time like \"10m\"",
        }
    }
}

/// The number that a text means for a setting; `None`: its numbers have no unit.
pub(super) fn number(name: &str, text: &str) -> Option<Result<i64, String>> {
    let unit = Unit::of(name)?;
    Some(unit.read(text).ok_or_else(|| format!("{name} cannot be {text:?}; {}", unit.advice())))
}

/// A settings file with numbers in the place of texts that have units.
pub(super) fn plain(text: &str) -> Result<String, String> {
    // What is no TOML is told by whoever reads it as settings, with its place.
    let Ok(table) = DeTable::parse(text) else { return Ok(text.into()) };
    let mut found = Vec::new();
    collect(table.get_ref(), &mut found)?;
    found.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut plain = text.to_owned();
    found.into_iter().for_each(|(span, number)| plain.replace_range(span, &number.to_string()));
    Ok(plain)
}

fn collect(table: &DeTable<'_>, found: &mut Vec<(Range<usize>, i64)>) -> Result<(), String> {
    for (name, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => collect(inner, found)?,
            DeValue::String(text) => {
                if let Some(number) = number(name.get_ref(), text) {
                    found.push((value.span(), number?));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_number_of_the_unit_that_the_name_says() {
        for (name, text, expected) in [
            ("store.cache_bytes", "256 MiB", Some(256 << 20)),
            ("draft_bytes_max", "1.5kB", Some(1500)),
            ("limits.pin_ms_max", "2h", Some(7_200_000)),
            ("keys_age_s", "1d", Some(86_400)),
            ("keys_age_s", "1m 30s", Some(90)),
            ("keys_age_s", "1500ms", None),
            ("keys_age_s", "-2s", None),
            ("cache_bytes", "many", None),
            ("cache_bytes", "10 s", None),
        ] {
            let found = number(name, text).expect("a setting with a unit");
            assert_eq!(found.clone().ok(), expected, "{name} = {text}: {found:?}");
            assert!(found.is_ok() || found.is_err_and(|problem| problem.contains(name) && problem.contains(text)));
        }
        assert_eq!(number("data_dir", "2h"), None);
        assert_eq!(number("sessions.sessions_max", "2h"), None);
    }

    #[test]
    fn a_file_keeps_its_lines() {
        let text = "data_dir = \"1 KiB\"\n[store]\ncache_bytes = \"1 KiB\" # small\n[databases.a.limits]\npin_ms_max = \"1s\"\n";
        let expected =
            "data_dir = \"1 KiB\"\n[store]\ncache_bytes = 1024 # small\n[databases.a.limits]\npin_ms_max = 1000\n";
        assert_eq!(plain(text).as_deref(), Ok(expected));
        assert!(plain("[store]\ncache_bytes = \"lots\"\n").is_err_and(|problem| problem.contains("cache_bytes")));
    }
}
