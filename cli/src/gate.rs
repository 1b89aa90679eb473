//! Owns `gate`: the oldest schema versions that may still be written, looked at, opened and closed by hand.

use crate::exit::{ProblemFound, Usage};
use crate::moment;
use crate::output::{Out, Table, count};
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use zeolite_client::{Admin, CloseAttempt, Gate, evolve};

#[derive(Subcommand)]
pub(crate) enum GateCommand {
    /// The closed gates: class, oldest version that is taken, and which evolve closed it
    List,
    /// Open the gate of a class: older versions are taken again
    Open {
        /// The class
        class: String,
    },
    /// Close the gate of a class, if nothing older is left: older versions are refused from then on
    Close {
        /// The class
        class: String,
        /// The oldest version that is taken then; without it, the newest one that is stored
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// Also if there is no object of the class: otherwise that is refused as a mistake
        #[arg(long)]
        allow_empty: bool,
    },
}

pub(crate) async fn gate(out: &Out, admin: &Admin, command: &GateCommand) -> Result<()> {
    match command {
        GateCommand::List => list(out, &admin.gates().await?),
        GateCommand::Open { class } => open(out, admin, class).await,
        GateCommand::Close { class, version, allow_empty } => close(out, admin, class, *version, *allow_empty).await,
    }
}

fn list(out: &Out, gates: &[Gate]) -> Result<()> {
    if out.is_json() {
        return gates.iter().try_for_each(|gate| out.json(gate));
    }
    let mut table = Table::new(&["class", ">from version", "closed by evolve", "at"]);
    for gate in gates {
        let at = format!("{} {}", gate.tid, moment::shown(gate.tid));
        table.add([gate.class.clone(), gate.min_version.to_string(), job(gate), at]);
    }
    match gates.is_empty() {
        true => out.remark("no gate is closed"),
        false => out.table(&table),
    }
    Ok(())
}

fn job(gate: &Gate) -> String {
    if gate.job.is_empty() { "(by hand)".to_owned() } else { gate.job.clone() }
}

/// A gate in words.
pub(crate) fn closed(gate: &Gate) -> String {
    let by = if gate.job.is_empty() { "by hand".to_owned() } else { format!("by evolve {:?}", gate.job) };
    format!("closed below version {} {by} at {}", gate.min_version, moment::shown(gate.tid))
}

async fn open(out: &Out, admin: &Admin, class: &str) -> Result<()> {
    let before = admin.gates().await?.into_iter().find(|gate| gate.class == class);
    let tid = match &before {
        Some(_) => Some(admin.open_gate(class).await?),
        None => None,
    };
    if out.is_json() {
        return out.json(&json!({ "class": class, "opened": tid, "was": before }));
    }
    match before {
        Some(gate) => out.line(format_args!(
            "the gate of class {class:?} is open: it was {}, and older versions are taken again",
            closed(&gate)
        )),
        None => out.line(format_args!("the gate of class {class:?} was not closed")),
    }
    Ok(())
}

async fn close(out: &Out, admin: &Admin, class: &str, version: Option<u32>, allow_empty: bool) -> Result<()> {
    if !allow_empty {
        evolve::class_is_known(admin, class).await?;
    }
    let stored = admin.kinds().await?.kinds.into_iter().filter(|kind| kind.class == class);
    let newest = stored.map(|kind| kind.version).max().filter(|newest| *newest > 0);
    let Some(version) = version.or(newest) else {
        return Err(Usage("say below which version: no object of the class has one; --version N".into()).into());
    };
    let before = admin.gates().await?.into_iter().find(|gate| gate.class == class && gate.min_version == version);
    if let Some(gate) = before {
        match out.is_json() {
            true => out.line(json!({ "class": class, "version": version, "closed": gate.tid })),
            false => out.line(format_args!("the gate of class {class:?} is {} already", closed(&gate))),
        }
        return Ok(());
    }
    match admin.close_gate(class, version, "").await? {
        CloseAttempt::Closed(tid) if out.is_json() => {
            out.line(json!({ "class": class, "version": version, "closed": tid }));
            Ok(())
        }
        CloseAttempt::Closed(tid) => {
            out.line(format_args!("the gate of class {class:?} is closed below version {version} by {tid}"));
            Ok(())
        }
        CloseAttempt::Left(old) => {
            let are = if old == 1 { "object is".to_owned() } else { "objects are".to_owned() };
            Err(ProblemFound(format!(
                "the gate of class {class:?} stays open: {} {are} below version {version}, or held by a prepared draft; \
                 `zeolite evolve plan NAME --class {class} --below {version} --gate` plans their way",
                count(old)
            ))
            .into())
        }
    }
}
