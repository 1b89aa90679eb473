//! Owns standard output and standard error: every line that the program prints goes through [`Out`].
//!
//! Two readers, two forms: people get aligned text, programs (`--json`) get one JSON value per line. A pipe that its
//! reader has closed (`zeolite log | head`) is no error: the output falls silent, the command ends with the code that its
//! work deserves, and long listings ask [`Out::is_closed`] to stop early. What cannot be written for another reason (a disk that is full) is
//! told at once on standard error, and in the end by the exit code ([`Out::has_failed`]).

use crate::tame;
use serde::Serialize;
use std::cell::Cell;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

/// Where the program prints.
pub(crate) struct Out {
    json: bool,
    terminal: bool,
    color: bool,
    closed: Cell<bool>,
    failed: Cell<bool>,
}

impl Out {
    /// Looks at what standard output and standard error are. Colour needs a terminal, and no `NO_COLOR`.
    pub(crate) fn new(json: bool) -> Out {
        let terminal = std::io::stderr().is_terminal();
        let color = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Out { json, terminal, color, closed: Cell::new(false), failed: Cell::new(false) }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress can be drawn.
    pub(crate) fn draws(&self) -> bool {
        self.terminal && !self.json
    }

    /// Whether the reader of standard output has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether something that was to be on standard output is not there, and somebody wanted it.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// One line on standard output.
    pub(crate) fn line(&self, line: impl Display) {
        self.bytes(format!("{}\n", tame::lines(&line.to_string())).as_bytes());
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if self.closed.get() {
            return;
        }
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            self.closed.set(true);
            if error.kind() != ErrorKind::BrokenPipe {
                self.failed.set(true);
                self.error(&anyhow::anyhow!("standard output cannot be written: {error}"));
            }
        }
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.bytes(format!("{}\n", serde_json::to_string(value)?).as_bytes());
        Ok(())
    }

    /// A remark for people, on standard error; nothing when a program reads.
    pub(crate) fn remark(&self, line: impl Display) {
        if !self.json {
            self.complain(line);
        }
    }

    /// A line on standard error, whoever reads. A closed standard error is nobody's problem.
    pub(crate) fn complain(&self, line: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{}", tame::lines(&line.to_string()));
    }

    /// The error that ends the program, with its causes.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut told = format!("{error:#}");
        if let Some(helps) = crate::helps::against(&told) {
            told = format!("{told}; {helps}");
        }
        if self.json {
            let value = serde_json::json!({ "error": told, "exit_code": crate::exit::number(error) });
            let _ = writeln!(std::io::stderr().lock(), "{value}");
        } else {
            self.complain(tame::value(&format!("zeolite: {told}")));
        }
    }

    /// Names and values, one pair per line, aligned.
    pub(crate) fn facts(&self, facts: &[(&str, String)]) {
        let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            self.line(format_args!("{}  {}", self.dim(&format!("{name:<width$}")), tame::value(value)));
        }
    }

    /// A table.
    pub(crate) fn table(&self, table: &Table) {
        let widths = table.widths();
        if table.titles.iter().any(|title| !title.is_empty()) {
            self.line(self.bold(table.row(&widths, &table.titles).trim_end()));
        }
        table.rows.iter().for_each(|row| self.line(table.row(&widths, row).trim_end()));
    }

    /// Bold in a terminal.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.painted("1", text)
    }

    /// Dim in a terminal.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.painted("2", text)
    }

    /// Green or red in a terminal.
    pub(crate) fn verdict(&self, good: bool, text: &str) -> String {
        self.painted(if good { "32" } else { "1;31" }, text)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Rows of text under titles. A column whose title begins with `>` is aligned to the right.
pub(crate) struct Table {
    titles: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(titles: &[&str]) -> Table {
        Table {
            titles: titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect(),
            right: titles.iter().map(|title| title.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(row.into_iter().map(|cell| tame::value(&cell.into())).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = std::iter::once(&self.titles).chain(&self.rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.titles.len()).map(width).collect()
    }

    fn row(&self, widths: &[usize], row: &[String]) -> String {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            let right = self.right.get(column).copied().unwrap_or(false);
            line += &if right { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
        }
        line
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things, as `1 object` or `1,000 objects`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    counted_as(number, thing, &format!("{thing}s"))
}

/// The same of a thing that is irregular.
pub(crate) fn counted_as(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Lines of whole words, none longer than a width if no word is.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Bytes with a unit that leaves two to four digits.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Nanoseconds with a unit that leaves two or three digits.
pub(crate) fn nanos(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        1_000_000..10_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 1000].map(|number| counted(number, "cell")), ["0 cells", "1 cell", "1,000 cells"]);
        assert_eq!([0, 1023, 1024, 5 << 30].map(size), ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]);
        let times = [1_500, 76_000, 2_500_000, 12_000_000_000].map(nanos);
        assert_eq!(times, ["1.5 µs", "76 µs", "2.5 ms", "12.0 s"]);
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["name", ">number"]);
        table.add(["a", "1"]);
        table.add(["much longer", "1,000"]);
        let widths = table.widths();
        assert_eq!(table.row(&widths, &table.rows[0]), "a                 1  ");
        assert_eq!(table.row(&widths, &table.rows[1]), "much longer   1,000  ");
    }
}
