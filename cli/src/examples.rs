//! Owns the examples below the help of each command: a line to copy, and what it does.
//!
//! A test reads every line as the shell would and gives it to the parser, and shows that no command is without one.

use crate::args::Cli;
use clap::{Command, CommandFactory};

/// Command, then lines with what they do.
type Examples = (&'static str, &'static [(&'static str, &'static str)]);

const ALL: &[Examples] = &[
    (
        "serve",
        &[
            ("zeolite serve --data ./data", "on loopback, with the settings of ./zeolite.toml if there is one"),
            ("zeolite serve --config /etc/zeolite/zeolite.toml", "as a service does"),
        ],
    ),
    ("follow", &[("zeolite follow db1:7878 --data ./copy", "a warm copy of the server on db1")]),
    ("promote", &[("zeolite --server db2 promote --hand-over", "db2 takes over while db1 still runs, in order")]),
    ("restart", &[("zeolite restart --data ./data", "after an upgrade; clients wait for a moment")]),
    ("user add", &[("zeolite user add site --role write", "prints the first token, once")]),
    ("user grant", &[("zeolite user grant site --role read --on archive", "on that database")]),
    ("user withdraw", &[("zeolite user withdraw site --on archive", "")]),
    ("user limit", &[("zeolite user limit site --sessions 50 --commits-per-s 200", "")]),
    ("user list", &[("zeolite user list", "")]),
    ("user remove", &[("zeolite user remove site", "its connections are cut")]),
    ("user token", &[("zeolite user token site", "a second one, before the first is revoked")]),
    ("user revoke", &[("zeolite user revoke 1f3a9c", "the short id is in `zeolite user list`")]),
    (
        "config check",
        &[
            ("zeolite config check --config zeolite.toml", "exits 1 when something is wrong"),
            ("zeolite config check --explain > zeolite.toml", "a settings file to begin from"),
        ],
    ),
    ("config explain", &[("zeolite config explain cache", "settings that have to do with caches")]),
    ("status", &[("zeolite status --all", "with objects by class and version")]),
    ("check", &[("zeolite check -w p99=200ms -c p99=1s", "as Nagios calls it")]),
    ("doctor", &[("zeolite doctor --data ./data", "before it goes live")]),
    ("top", &[("zeolite --server db1 top", "q ends it")]),
    (
        "get",
        &[
            ("zeolite get titles/Home", "an entry of a collection, by its name in the root"),
            ("zeolite get 2a --at 2h", "an object as it was two hours ago"),
        ],
    ),
    (
        "scan",
        &[
            ("zeolite scan 0", "the root"),
            ("zeolite scan titles", "a collection, by its name in the root"),
            ("zeolite scan 2f --prefix A -n 20", ""),
        ],
    ),
    ("history", &[("zeolite history titles/Home --records", "who wrote what, the newest first")]),
    (
        "log",
        &[
            ("zeolite log -n 20 --cells", "the last 20 transactions with what they wrote"),
            ("zeolite log -f", "as they come"),
            ("zeolite log --from 10m --to 5m --oldest-first", ""),
        ],
    ),
    ("undo", &[("zeolite undo 040d370e2f1e476e -m \"wrong price list\"", "the tid is in `zeolite log`")]),
    (
        "mode",
        &[
            ("zeolite mode read-only --banner \"back at five\" --for 20m", "ends by itself"),
            ("zeolite mode normal", ""),
        ],
    ),
    ("prepared list", &[("zeolite prepared list", "")]),
    (
        "prepared finish",
        &[("zeolite prepared finish 0123456789abcdef0123456789abcdef", "the key is in `zeolite prepared list`")],
    ),
    ("prepared abort", &[("zeolite prepared abort 0123456789abcdef0123456789abcdef", "")]),
    ("sessions list", &[("zeolite sessions list", "")]),
    ("sessions cut", &[("zeolite sessions cut 12", "the id is in `zeolite sessions list`")]),
    ("gate list", &[("zeolite gate list", "")]),
    ("gate open", &[("zeolite gate open wiki.Page", "before an older release comes back")]),
    ("gate close", &[("zeolite gate close wiki.Page", "")]),
    ("pack", &[("zeolite pack --to 30days --dry-run", "what keeping a month of history would free")]),
    ("verify", &[("zeolite verify", "beside traffic"), ("zeolite verify --data ./data", "of a stopped server")]),
    (
        "backup",
        &[
            ("zeolite backup /mnt/backups --keep 30d", "full the first time, then what is new"),
            ("zeolite backup s3://bucket/site --key-file backup.key", "encrypted"),
        ],
    ),
    ("backup list", &[("zeolite backup list /mnt/backups", "")]),
    ("backup verify", &[("zeolite backup verify /mnt/backups", "")]),
    ("backup drill", &[("zeolite backup drill /mnt/backups", "once a week, by cron")]),
    ("backup key", &[("zeolite backup key backup.key", "keep it elsewhere: without it there is no restore")]),
    ("restore", &[("zeolite -d main restore /mnt/backups --into ./data --to \"2026-11-30 14:00\"", "")]),
    ("reindex", &[("zeolite reindex --data ./data", "of a stopped server")]),
    ("evolve list", &[("zeolite evolve list", "")]),
    ("evolve show", &[("zeolite evolve show pages-2 --all", "")]),
    (
        "evolve plan",
        &[
            ("zeolite evolve plan pages-2 --class wiki.Page --below 2 --gate", ""),
            ("zeolite evolve plan try --class wiki.Page --below 2 --dry-run --exec ./step.py", "try the step first"),
        ],
    ),
    ("evolve run", &[("zeolite evolve run pages-2 --tasks 2 --exec ./step.py", "on as many machines as you like")]),
    ("evolve pause", &[("zeolite evolve pause pages-2 -m \"weekly report\" --for 20m", "")]),
    ("evolve resume", &[("zeolite evolve resume pages-2", "")]),
    ("evolve cancel", &[("zeolite evolve cancel pages-2 -m \"wrong step\"", "then `zeolite evolve undo pages-2`")]),
    ("evolve set", &[("zeolite evolve set pages-2 rate_max=500 live_ratio_max=1.2", "also while it runs")]),
    ("evolve verify", &[("zeolite evolve verify pages-2", "")]),
    ("evolve undo", &[("zeolite evolve undo pages-2", "")]),
    ("evolve watch", &[("zeolite evolve watch pages-2", "")]),
    ("evolve report", &[("zeolite evolve report pages-2 --to report.html", "for the ticket")]),
    ("evolve ensure", &[("zeolite evolve ensure pages-2 && ./deploy", "")]),
    ("evolve forget", &[("zeolite evolve forget pages-2", "")]),
    ("demo", &[("zeolite demo --synsets 2000 --seconds 3", "a small one; all of WordNet takes minutes")]),
    (
        "bench",
        &[
            ("zeolite bench --data /mnt/ssd disk commits", "what this disk can do, and what Zeolite makes of it"),
            ("zeolite bench evolve --objects 200000", ""),
            ("zeolite bench --against postgres", "commits of both on this disk"),
            ("zeolite bench site --objects 200000 --seconds 10", "draws zeolite-bench-site.svg"),
        ],
    ),
    ("bench zodb", &[("zeolite bench zodb speeds", "beside ZEO, where it is installed")]),
    ("completions", &[("zeolite completions bash > /etc/bash_completion.d/zeolite", "")]),
];

/// The command line with its examples.
pub(crate) fn command() -> Command {
    ALL.iter().fold(Cli::command(), |command, (name, lines)| {
        let path: Vec<&str> = name.split(' ').collect();
        with(command, &path, &text(lines))
    })
}

fn with(command: Command, path: &[&str], text: &str) -> Command {
    let Some((first, rest)) = path.split_first() else {
        let after = |more: Option<String>| more.map_or(text.to_owned(), |more| format!("{text}\n\n{more}"));
        let (short, long) = (command.get_after_help(), command.get_after_long_help());
        let (short, long) = (short.map(ToString::to_string), long.map(ToString::to_string));
        let long = long.or_else(|| short.clone());
        return command.after_help(after(short)).after_long_help(after(long));
    };
    command.mut_subcommand(*first, |command| with(command, rest, text))
}

/// Below each other, what they do beside them where there is room.
fn text(lines: &[(&str, &str)]) -> String {
    let mut text = String::from("Examples:");
    for (line, what) in lines {
        text += &match what.is_empty() {
            true => format!("\n  {line}"),
            false if line.len() + what.len() <= 72 => format!("\n  {line}    {what}"),
            false => format!("\n  {line}\n      {what}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind::{
        ArgumentConflict, DisplayHelpOnMissingArgumentOrSubcommand, InvalidValue, MissingRequiredArgument,
        ValueValidation,
    };

    /// The commands that have none below them, and those that work without one, with their paths.
    fn commands(command: &Command, path: &str) -> Vec<String> {
        let mut all = Vec::new();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            if !sub.has_subcommands() || !sub.is_subcommand_required_set() {
                all.push(path.clone());
            }
            all.extend(commands(sub, &path));
        }
        all
    }

    /// Words as a shell makes them of these lines: quotes keep a word together, what is behind `&&`, `>` and the like is the shell's.
    fn words(line: &str) -> Vec<String> {
        let shells = [" && ", " || ", " > ", " >> ", " 2> ", " | ", " # ", " &", "; "];
        let end = shells.iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
        let parts = line[..end].split(['"', '\'']).enumerate();
        let words = parts.flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        let mut without = commands(&Cli::command(), "");
        let mut wrong = Vec::new();
        for (name, lines) in ALL {
            without.retain(|command| command != name);
            for (line, _) in *lines {
                let own = name.split(' ').all(|word| words(line).iter().any(|other| other == word));
                if !own || line.len() > 78 {
                    wrong.push((*line).to_owned());
                }
                wrong.extend(command().try_get_matches_from(words(line)).err().map(|error| format!("{line}: {error}")));
            }
        }
        assert!(without.is_empty() && wrong.is_empty(), "without one: {without:?}\n{}", wrong.join("\n"));
    }

    #[test]
    fn what_stands_below_a_help_fits_into_80_columns() {
        fn look(command: &Command, wide: &mut Vec<String>) {
            let texts = [command.get_after_help(), command.get_after_long_help()].into_iter().flatten();
            for text in texts.map(ToString::to_string) {
                let lines: Vec<&str> = text.lines().collect();
                for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.chars().count() > 80) {
                    // A paragraph in one line is wrapped where it is shown; one that is broken by hand is broken twice.
                    let next = lines.get(number + 1).copied().unwrap_or_default();
                    if line.starts_with(' ') || !(next.is_empty() || line.ends_with('.')) {
                        wide.push((*line).to_owned());
                    }
                }
            }
            command.get_subcommands().for_each(|command| look(command, wide));
        }
        let mut wide = Vec::new();
        look(&command(), &mut wide);
        assert!(wide.is_empty(), "{}", wide.join("\n"));
    }

    /// README.md and the pages below docs/.
    fn pages() -> Vec<std::path::PathBuf> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs = std::fs::read_dir(root.join("docs")).expect("lists").map(|entry| entry.expect("an entry").path());
        let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        std::iter::once(root.join("README.md")).chain(pages).collect()
    }

    /// The command lines of a page: what begins with the program in a block that a shell would read.
    fn lines(page: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let blocks = page.split("```").skip(1).step_by(2);
        for block in blocks.filter(|block| ["sh\n", "text\n", "console\n"].iter().any(|kind| block.starts_with(kind))) {
            for line in block.replace("\\\n", " ").lines() {
                let line = line.trim_start().trim_start_matches("$ ");
                let line = line.replacen("cargo run --release -- ", "zeolite ", 1);
                if line.starts_with("zeolite ") && !line.starts_with("zeolite  ") && !line.contains('…') {
                    lines.push(line);
                }
            }
        }
        let text: String = page.split("```").step_by(2).collect();
        // What leaves something out, names several at once, or is the mark of a file is no command line.
        let left_out = ["…", "...", "|"];
        let is_line = |code: &&str| {
            code.starts_with("zeolite ") && !code.ends_with(" 1") && !left_out.iter().any(|mark| code.contains(mark))
        };
        let inline = text.split('`').skip(1).step_by(2).filter(is_line);
        lines.extend(inline.map(|code| code.replace('\n', " ")));
        lines
    }

    #[test]
    fn every_command_of_the_pages_can_be_typed() {
        let (mut wrong, mut read) = (Vec::new(), 0);
        for path in pages() {
            for line in lines(&std::fs::read_to_string(&path).expect("reads")) {
                read += 1;
                // A sentence names commands without what they need, and marks of files that begin like one.
                let named = [
                    MissingRequiredArgument,
                    DisplayHelpOnMissingArgumentOrSubcommand,
                    ArgumentConflict,
                    InvalidValue,
                    ValueValidation,
                ];
                if let Err(error) = command().try_get_matches_from(words(&line))
                    && !named.contains(&error.kind())
                    && error.use_stderr()
                {
                    wrong.push(format!("{}: {line}: {error}", path.display()));
                }
            }
        }
        assert!(wrong.is_empty() && read > 150, "{read} lines\n{}", wrong.join("\n"));
    }
}
