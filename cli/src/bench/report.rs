//! Owns the result of measurements: rows of a number, what it is compared with, and the aim.

use super::machine::Machine;
use crate::output::{Out, Table};
use anyhow::Result;
use serde_json::{Value, json};

/// One measured number.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it is compared with, measured in the same run, in the same unit.
    pub(crate) against: Option<(String, f64)>,
    /// What it should be.
    pub(crate) aim: Option<Aim>,
}

/// What a row should be.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// Of value / against.
    RatioAtLeast(f64),
    /// Of value / against.
    RatioAtMost(f64),
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Row {
        Row { name: name.into(), value, unit, against: None, aim: None }
    }

    pub(crate) fn against(mut self, name: impl Into<String>, value: f64) -> Row {
        self.against = Some((name.into(), value));
        self
    }

    pub(crate) fn aim(mut self, aim: Aim) -> Row {
        self.aim = Some(aim);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.against.as_ref().filter(|(_, value)| *value > 0.0).map(|(_, value)| self.value / value)
    }

    /// Whether the aim is reached; `None` without one.
    pub(crate) fn reached(&self) -> Option<bool> {
        Some(match self.aim? {
            Aim::AtLeast(aim) => self.value >= aim,
            Aim::AtMost(aim) => self.value <= aim,
            Aim::RatioAtLeast(aim) => self.ratio()? >= aim,
            Aim::RatioAtMost(aim) => self.ratio()? <= aim,
        })
    }

    fn cells(&self, out: &Out) -> [String; 6] {
        let aim = self.aim.map(|aim| match aim {
            Aim::AtLeast(aim) => format!("≥ {}", number(aim)),
            Aim::AtMost(aim) => format!("≤ {}", number(aim)),
            Aim::RatioAtLeast(aim) => format!("≥ {aim} x"),
            Aim::RatioAtMost(aim) => format!("≤ {aim} x"),
        });
        let verdict = match self.reached() {
            Some(true) => out.verdict(true, "yes"),
            Some(false) => out.verdict(false, "no"),
            None => String::new(),
        };
        [
            self.name.clone(),
            format!("{} {:<9}", number(self.value), self.unit),
            self.ratio().map(|ratio| format!("{ratio:.2} x")).unwrap_or_default(),
            self.against.as_ref().map(|(name, value)| format!("{name} {}", number(*value))).unwrap_or_default(),
            aim.unwrap_or_default(),
            verdict,
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "against": self.against.as_ref().map(|(name, value)| json!({ "name": name, "value": value })),
            "ratio": self.ratio(),
            "aim_reached": self.reached(),
        })
    }
}

/// The rows of one run.
pub(crate) struct Report {
    machine: Machine,
    rows: Vec<Row>,
    remarks: Vec<String>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Report {
        Report { machine, rows: Vec::new(), remarks: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// A sentence below the table.
    pub(crate) fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }

    /// Holds the rows of one label against those of another, name by name; aims are for one disk, not for two.
    pub(crate) fn pair_up(&mut self, a: &str, b: &str) {
        let (first, second): (Vec<Row>, Vec<Row>) = self.rows.drain(..).partition(|row| row.name.starts_with(a));
        for (one, other) in first.into_iter().zip(second) {
            let name = one.name.trim_start_matches(a).to_owned();
            debug_assert_eq!(other.name.trim_start_matches(b), name);
            self.rows.push(Row::new(name, other.value, other.unit).against("A", one.value));
        }
    }

    /// Prints it all.
    pub(crate) fn tell(&self, out: &Out) -> Result<()> {
        if out.is_json() {
            let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
            return out.json(&json!({ "machine": self.machine.line(), "rows": rows, "remarks": self.remarks }));
        }
        out.line(out.dim(&self.machine.line()));
        let mut table = Table::new(&["measured", ">value", ">ratio", "against", "aim", "reached"]);
        self.rows.iter().for_each(|row| table.add(row.cells(out)));
        out.table(&table);
        self.remarks.iter().for_each(|remark| out.line(remark));
        Ok(())
    }
}

/// Three significant digits, thousands grouped.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => crate::output::count(value.round().max(0.0) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_judged_on_the_value_or_the_ratio() {
        let row = |aim| Row::new("n", 6.0, "u").against("base", 10.0).aim(aim);
        let judged = [Aim::AtLeast(7.0), Aim::AtMost(7.0), Aim::RatioAtLeast(0.6), Aim::RatioAtMost(0.5)];
        assert_eq!(judged.map(|aim| row(aim).reached()), [Some(false), Some(true), Some(true), Some(false)]);
        assert_eq!(Row::new("n", 1.0, "u").aim(Aim::RatioAtMost(2.0)).reached(), None);
        assert_eq!([0.5, 12.34, 1234.6].map(number), ["0.50", "12.3", "1,235"]);
    }
}
