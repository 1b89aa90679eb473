//! Owns moments: how a tid or a time is written on the command line, and how a tid is shown as a time.

use jiff::{Span, Timestamp, ZonedDateTime, civil};
use std::str::FromStr;
use std::time::Duration;
use zeolite_proto::Tid;

const WRITE_IT: &str = "write a tid of 16 hexadecimal digits, a time like 2026-05-01T12:00:00Z, 2026-05-01 12:00 or 12:00 \
                        (of this machine's time zone), or an age like 2h";

/// A tid from the command line: given as such, as a time, or as a time ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At(pub(crate) Tid);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        let digits = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits(text) || text.starts_with("0x") {
            return text.parse().map(At).map_err(|error| format!("{text:?} is not a tid in hexadecimal ({error})"));
        }
        let from_timestamp = |time: Timestamp| At(Tid::from_unix_nanos(time.as_nanosecond()));
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(from_timestamp(time));
        }
        let today = |time: civil::Time| ZonedDateTime::now().date().to_datetime(time);
        let of_day = || civil::Time::strptime("%H:%M", text).or_else(|_| civil::Time::strptime("%H:%M:%S", text));
        if let Ok(local) = text.parse::<civil::DateTime>().or_else(|_| of_day().map(today)) {
            let zoned = local.to_zoned_datetime(jiff::tz::TimeZone::system()).map_err(|error| error.to_string())?;
            return Ok(from_timestamp(zoned.timestamp()));
        }
        let span: Span = text.trim_end_matches(" ago").parse().map_err(|_| WRITE_IT)?;
        let then = ZonedDateTime::now().checked_sub(span.abs()).map_err(|error| error.to_string())?;
        Ok(from_timestamp(then.timestamp()))
    }
}

/// A span of time from now on, as in `30d`, `12h` or `1 month`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| "write a span of time like 30d or 12h".to_owned())?;
    let span = span.to_duration(&ZonedDateTime::now()).map_err(|error| error.to_string())?;
    Duration::try_from(span).map_err(|_| "write a span of time that is to come, like 30d".to_owned())
}

/// The tid's time, in UTC to the millisecond; `-` for no tid.
pub(crate) fn shown(tid: Tid) -> String {
    if tid == Tid::NONE {
        return "-".into();
    }
    // Out of jiff's range only when the tid is not one that a clock made.
    match Timestamp::from_nanosecond(tid.unix_nanos()) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string(),
        Err(_) => "?".into(),
    }
}

/// Milliseconds since 1970 as a time, in UTC to the second.
pub(crate) fn shown_unix_ms(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or("?".into(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Milliseconds as the largest two units that are not zero.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1}s", ms as f64 / 1000.0),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tids_times_and_ages_are_moments() {
        let tid = Tid::from_unix_nanos(1_777_636_800_500_500_000);
        assert_eq!(tid.to_string().parse(), Ok(At(tid)));
        assert_eq!("2026-05-01T12:00:00.5005Z".parse(), Ok(At(tid)));
        assert_eq!(shown(tid), "2026-05-01 12:00:00.500Z");
        let now = Tid::from_unix_nanos(Timestamp::now().as_nanosecond());
        for age in ["2h", "90s", "3 days ago", "1h 5m"] {
            let At(then) = age.parse().expect("reads");
            assert!(then < now, "{age}");
        }
        let at = |text: &str| text.parse::<At>().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(at("2026-05-01 12:00"), at("2026-05-01T12:00:00"));
        assert_eq!(
            at("2026-05-01T12:00"),
            at("2026-05-01 12:00:00"),
            "16 characters are a tid only if they are digits"
        );
        assert!(at("00:00").0 <= now && at("00:00:00") == at("00:00"));
        for wrong in ["soon", "25:00", "2026-13-01", "03bb96997ec9ffeX", "03bb96997ec9ff"] {
            assert!(wrong.parse::<At>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_to_come() {
        assert_eq!(span("30d").map(|span| span.as_secs().div_ceil(3600 * 23) >= 30), Ok(true));
        assert_eq!(span("12h"), Ok(Duration::from_secs(43_200)));
        assert!(span("-1h").is_err() && span("soon").is_err());
    }

    #[test]
    fn durations_have_two_units() {
        let shown = [1_500, 61_000, 3_661_000, 90_000_000].map(duration);
        assert_eq!(shown, ["1.5s", "1m 1s", "1h 1m", "1d 1h"]);
    }
}
