//! Owns the commands by which an actor of a script operates the database: modes, gates, heat.
//!
//! ```text
//!   role read|write|evolve|replicate|admin                as what the actor writes from now on
//!   owner NAME                                            whose its pins and prepared drafts are from now on
//!   mode [normal|read-only|evolve-only [for|until 20s] [BANNER]]    switches it (until: of the clock), or shows the one in force
//!   watch mode                                            every change becomes an event of this actor
//!   submit gate CLASS MIN JOB (queue only) · gate ... (and run) · open CLASS · gates
//!   heat CELL
//!   prepared                                              what is prepared, whoever prepared it
//!   resolve finish|abort KEY                              ends it
//! ```

use super::actor::Around;
use super::events::{Event, Events};
use zeolite_proto::{Mode, ModeEnd, ModeKind};

type Lines = Result<Vec<String>, String>;

/// Runs one command of an actor.
pub(super) fn run(actor: &str, words: &[&str], around: &mut Around<'_>) -> Lines {
    let engine = around.house.engine().clone();
    match words {
        ["mode"] => return Ok(vec![show_mode(&engine.mode())]),
        ["mode", kind, rest @ ..] => {
            let kind: ModeKind = kind.parse()?;
            let seconds =
                |text: &str| text.trim_end_matches('s').parse::<u64>().map_err(|_| "mode KIND for 20s".to_owned());
            let (end, banner) = match rest {
                ["for", span, banner @ ..] => (ModeEnd::After(seconds(span)? * 1000), banner),
                ["until", span, banner @ ..] => (ModeEnd::At(around.house.unix_ms() + seconds(span)? * 1000), banner),
                banner => (ModeEnd::Never, banner),
            };
            engine.set_mode(kind, banner.join(" "), end, around.events.done(actor, Event::Mode));
        }
        ["watch", "mode"] => {
            let (events, actor): (Events, String) = (around.events.clone(), actor.to_owned());
            engine.on_mode_change(move |mode| events.add(&actor, Event::Mode(Ok(mode.clone()))));
            return Ok(Vec::new());
        }
        ["gate" | "submit", rest @ ..] => {
            let rest = rest.strip_prefix(&["gate"]).unwrap_or(rest);
            let [class, min, job] = rest else { return Err("gate CLASS MIN JOB".into()) };
            let min = min.parse().map_err(|_| "gate CLASS MIN JOB".to_owned())?;
            engine.close_gate((*class).into(), min, (*job).into(), around.events.done(actor, Event::Gate));
            if words[0] == "submit" {
                return Ok(Vec::new());
            }
        }
        ["open", class] => {
            engine.open_gate((*class).into(), around.events.done(actor, |tid| Event::Tid("opened", tid)));
        }
        ["gates"] => {
            let line =
                |gate: zeolite_proto::Gate| format!("{} from {} on ({})", gate.class, gate.min_version, gate.job);
            let lines: Vec<String> = engine.gates().into_iter().map(line).collect();
            return Ok(if lines.is_empty() { vec!["no gates".into()] } else { lines });
        }
        ["prepared"] => engine.prepared(around.events.done(actor, Event::List)),
        ["resolve", "finish", key] => {
            let key = around.names.commit_key(key);
            engine.finish_anybodys(key, around.events.done(actor, Event::Receipt));
        }
        ["resolve", "abort", key] => {
            let key = around.names.commit_key(key);
            engine.abort_anybodys(key, around.events.done(actor, |tid| Event::Tid("aborted, visible", tid)));
        }
        ["heat", cell] => return Ok(vec![format!("heat {}", engine.heat(around.names.cell(cell)?.oid))]),
        _ => return Err(format!("an actor knows no command {words:?}")),
    }
    around.house.run_dry();
    Ok(Vec::new())
}

/// A mode as a line.
pub(super) fn show_mode(mode: &Mode) -> String {
    let banner = if mode.banner.is_empty() { String::new() } else { format!(", banner {:?}", mode.banner) };
    let ends = if mode.until_unix_ms.is_some() { ", ends by itself" } else { "" };
    let automatic = mode.automatic.as_ref().map(|why| format!(", because {why}")).unwrap_or_default();
    format!("mode {}{banner}{ends}{automatic}", mode.kind)
}
