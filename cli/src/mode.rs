//! Owns `mode`: who may write, switched while the server runs.

use crate::exit::Usage;
use crate::output::Out;
use anyhow::{Result, bail};
use clap::Args;
use jiff::{SignedDuration, Span, Timestamp, ZonedDateTime, civil, tz::TimeZone};
use zeolite_client::{Admin, Mode, ModeEnd, ModeKind};

#[derive(Args)]
pub(crate) struct ModeArgs {
    /// normal, read-only, or evolve-only (only workers of an evolve may write); without it, shows the mode in force
    kind: Option<ModeKind>,
    /// What the site tells its users meanwhile
    #[arg(long, default_value = "", requires = "kind")]
    banner: String,
    /// Ends by itself at this time: `14:05` (today or tomorrow), or `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "TIME", requires = "kind", conflicts_with = "span")]
    until: Option<Until>,
    /// Ends by itself after this long: `20m`, `1h30m`
    #[arg(long = "for", value_name = "SPAN", requires = "kind")]
    span: Option<Span>,
}

/// A moment to come, in milliseconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Until(u64);

impl std::str::FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Until, String> {
        let unix_ms = |time: Timestamp| Until(time.as_millisecond().max(0) as u64);
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(unix_ms(time));
        }
        if let Ok(local) = text.parse::<civil::DateTime>() {
            return local
                .to_zoned_datetime(TimeZone::system())
                .map(|time| unix_ms(time.timestamp()))
                .map_err(|e| e.to_string());
        }
        let wrong = || format!("{text:?} is no time to come; write 14:05, or 2026-05-01T12:00:00Z");
        let time: civil::Time = civil::Time::strptime("%H:%M", text).map_err(|_| wrong())?;
        let now = ZonedDateTime::now();
        let today = now.date().to_datetime(time).to_zoned_datetime(TimeZone::system()).map_err(|_| wrong())?;
        let next = if today > now { today } else { today.tomorrow().map_err(|_| wrong())? };
        Ok(unix_ms(next.timestamp()))
    }
}

pub(crate) async fn mode(out: &Out, admin: &Admin, args: &ModeArgs) -> Result<()> {
    let mode = match args.kind {
        None => admin.status().await?.mode,
        Some(ModeKind::Normal) if args.until.is_some() || args.span.is_some() => {
            bail!(Usage("mode normal does not end; leave --for and --until out".into()))
        }
        Some(kind) => {
            let end = match (args.until, args.span) {
                (Some(Until(unix_ms)), _) => ModeEnd::At(unix_ms),
                // The server's own time counts, not this machine's.
                (None, Some(span)) => ModeEnd::after(to_come(span)?.try_into()?),
                (None, None) => ModeEnd::Never,
            };
            admin.set_mode(kind, &args.banner, end).await?
        }
    };
    if out.is_json() {
        return out.json(&mode);
    }
    out.line(shown(&mode));
    Ok(())
}

/// When something ends that is to end then, or after that; 0: it does not by itself. Milliseconds since 1970.
pub(crate) fn ends(until: Option<Until>, span: Option<Span>) -> Result<u64> {
    if let Some(Until(unix_ms)) = until {
        // 0 would be no end at all.
        return Ok(unix_ms.max(1));
    }
    let Some(span) = span else { return Ok(0) };
    Ok(Timestamp::now().checked_add(to_come(span)?)?.as_millisecond().max(0) as u64)
}

/// How long a span is from now on: a month is not always as long.
fn to_come(span: Span) -> Result<SignedDuration> {
    if !span.is_positive() {
        bail!(Usage("--for needs a span to come, like 20m".into()));
    }
    Ok(span.to_duration(&ZonedDateTime::now())?)
}

/// A mode on one line.
pub(crate) fn shown(mode: &Mode) -> String {
    let mut text = mode.kind.to_string();
    if let Some(until) = mode.until_unix_ms {
        text += &format!(" until {}", crate::moment::shown_unix_ms(until));
    }
    if let Some(why) = &mode.automatic {
        text += &format!(", set by the server: {why}");
    }
    if !mode.banner.is_empty() {
        text += &format!(", banner: {}", crate::tame::value(&mode.banner));
    }
    text
}
