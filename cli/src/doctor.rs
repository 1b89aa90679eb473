//! Owns `doctor`: a look at the machine, the settings and the files before (or while) a server runs on them, each line with what to do.
//!
//! ```text
//!   settings ─┬─> disk      directory, kind of file system, room, how quickly it syncs
//!             ├─> machine   open files, memory, clock
//!             ├─> doors     ports, certificate, users
//!             └─> around    the place of backups, the server that runs there
//!   each line: ok, warning or critical, what was seen, what to do; the exit code is that of the worst, as of `check`
//! ```
//! It reads. The one thing that it writes is a file without a name, to see how long a sync takes, which is gone when it ends, however it
//! ends; and it takes no lock that keeps a server out. What it cannot know it does not claim: a disk that lies about its syncs is told by
//! how quickly they come, and no measurement proves that one is honest.

mod around;
mod disk;
mod doors;
mod machine;

use crate::check::State;
use crate::output::Out;
use crate::serve::ServeArgs;
use crate::server::Server;
use crate::tame;
use serde_json::json;
use std::process::ExitCode;
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::holder::Holder;

/// For `--help`.
pub(crate) const HELP: &str = "\
Takes the settings as `serve` does. Changes nothing, and may look beside a running server.
Exit codes: 0 all is well, 1 warnings, 2 something is critical, 3 it could not be looked";

const SETTINGS: &str = "settings";

/// One line.
struct Finding {
    what: &'static str,
    state: State,
    seen: String,
    /// Empty: nothing is to be done.
    remedy: String,
}

impl Finding {
    fn ok(what: &'static str, seen: impl Into<String>) -> Finding {
        Finding { what, state: State::Ok, seen: seen.into(), remedy: String::new() }
    }

    fn warning(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { what, state: State::Warning, seen: seen.into(), remedy: remedy.into() }
    }

    fn critical(what: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { what, state: State::Critical, seen: seen.into(), remedy: remedy.into() }
    }
}

/// `zeolite doctor`.
pub(crate) async fn doctor(out: &Out, server: &Server, args: &ServeArgs) -> ExitCode {
    let findings = match args.settings(None) {
        Ok(settings) => look(server, &settings).await,
        Err(error) => {
            let remedy =
                "put it right; `zeolite config explain WORD` shows what a setting may be. Nothing else was looked at";
            vec![Finding::critical(SETTINGS, format!("{error:#}"), remedy)]
        }
    };
    tell(out, &findings)
}

async fn look(server: &Server, settings: &Settings) -> Vec<Finding> {
    let watch = machine::Watch::begin();
    let holder = Holder::of(&settings.data_dir).ok().flatten();
    let mut findings = vec![of_settings(settings)];
    findings.extend(disk::directories(settings, holder));
    findings.push(machine::open_files(settings));
    findings.push(machine::memory(settings));
    findings.push(machine::clock(settings, &watch));
    findings.extend(doors::ports(settings, holder));
    findings.extend(doors::certificate(settings));
    findings.push(doors::users(settings));
    findings.extend(around::backups(settings).await);
    findings.push(around::running(server, settings, holder).await);
    findings
}

fn of_settings(settings: &Settings) -> Finding {
    match crate::serve::problems(settings) {
        problems if problems.is_empty() => Finding::ok(SETTINGS, "they can be served on"),
        problems => Finding::critical(
            SETTINGS,
            tame::value(&problems.join("; ")),
            "put them right; `zeolite config check` shows all",
        ),
    }
}

fn tell(out: &Out, findings: &[Finding]) -> ExitCode {
    for Finding { what, state, seen, remedy } in findings {
        if out.is_json() {
            out.line(json!({ "what": what, "state": state.text(), "seen": seen, "remedy": remedy }));
            continue;
        }
        let word = format!("{:<8}", state.text().to_ascii_lowercase());
        // One line each, whatever a path has in it; the place in a file of settings is shown on several.
        let seen = if *what == SETTINGS { seen.trim_end().to_owned() } else { tame::value(seen) };
        out.line(format_args!("{} {what:<15} {seen}", out.verdict(*state == State::Ok, &word)));
        if !remedy.is_empty() {
            out.line(format_args!("{:24} -> {}", "", tame::value(remedy)));
        }
    }
    let worst = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Unknown);
    ExitCode::from(worst.code())
}
