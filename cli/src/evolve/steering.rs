//! Owns the commands that steer a job: pause, resume, cancel, set, forget. Its workers hear of it at once.

use super::args::{CancelArgs, NameArgs, PauseArgs, SetArgs};
use super::{looking, shown};
use crate::exit::Usage;
use crate::output::Out;
use anyhow::Result;
use serde_json::json;
use zeolite_client::Db;
use zeolite_client::evolve::{self, Job, Settings};

pub(super) async fn pause(out: &Out, db: &Db, args: &PauseArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    job.pause(&args.message, crate::mode::ends(args.until, args.span)?).await?;
    tell(out, &job).await
}

pub(super) async fn resume(out: &Out, db: &Db, args: &NameArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    job.resume().await?;
    tell(out, &job).await
}

pub(super) async fn cancel(out: &Out, db: &Db, args: &CancelArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    let gate = job.cancel(&args.message).await?;
    tell(out, &job).await?;
    if let Some(gate) = gate {
        out.remark(format_args!(
            "its gate of class {:?} is open again: it was {}",
            gate.class,
            crate::gate::closed(&gate)
        ));
    }
    Ok(())
}

pub(super) async fn forget(out: &Out, db: &Db, args: &NameArgs) -> Result<()> {
    // A name that is mistyped is told, not forgotten.
    evolve::find(db, &args.name).await?;
    let gate = evolve::forget(db, &args.name).await?;
    if out.is_json() {
        return out.json(&json!({ "forgotten": args.name, "gate": gate }));
    }
    out.line(format_args!("evolve {:?} is forgotten", args.name));
    if let Some(gate) = gate {
        let (class, below) = (&gate.class, gate.min_version);
        out.line(format_args!(
            "the gate of class {class:?} stays closed below version {below}; `zeolite gate open {class}` opens it"
        ));
    }
    Ok(())
}

pub(super) async fn set(out: &Out, db: &Db, args: &SetArgs) -> Result<()> {
    let job = evolve::find(db, &args.name).await?;
    // All of them are looked at before the first is set.
    let settings = pairs(&args.settings)?;
    for (name, value) in &settings {
        job.set(name, value).await?;
    }
    let now = job.record().await?.settings;
    if out.is_json() {
        let all: serde_json::Value = now.list().into_iter().collect();
        return out.json(&all);
    }
    if settings.is_empty() {
        out.table(&looking::settings(&now));
    }
    for (name, value) in now.list().into_iter().filter(|(name, _)| settings.iter().any(|(set, _)| set == name)) {
        out.line(format_args!("{name} is {value}"));
    }
    Ok(())
}

/// Settings as `key=value`; refuses what no job would take.
pub(super) fn pairs(settings: &[String]) -> Result<Vec<(String, String)>> {
    let mut tried = Settings::default();
    let pair = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Usage(format!("{text:?} is no setting; write key=value, like live_ratio_max=1.2")))?;
        tried.set(name.trim(), value.trim()).map_err(|error| Usage(error.to_string()))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    settings.iter().map(pair).collect()
}

async fn tell(out: &Out, job: &Job) -> Result<()> {
    let progress = job.show().await?;
    if out.is_json() {
        return out.json(&shown::progress_json(&progress));
    }
    out.line(format_args!("evolve {:?} is {}", job.name(), shown::Line::of(&progress).text()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_before_any_is_set() {
        let read = |settings: &[&str]| pairs(&settings.iter().map(ToString::to_string).collect::<Vec<_>>());
        let good = read(&["rate_max=100", "live_ratio_max = 1.2"]).expect("both are settings");
        assert_eq!(good[1], ("live_ratio_max".to_owned(), "1.2".to_owned()));
        for bad in ["rate_max", "speed=1", "rate_max=fast", "chunk_target_ms=0"] {
            let refused = read(&["rate_max=100", bad]).expect_err("refused");
            assert_eq!(crate::exit::number(&refused), 2, "{bad}");
        }
    }
}
