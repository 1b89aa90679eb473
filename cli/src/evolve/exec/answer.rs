//! Owns what a program that steps objects is asked, and what its answers mean for the object. Pure.
//!
//! Both are JSON; data is base64, oids are hexadecimal and keys are written as `zeolite scan` prints them. An answer repeats whose it
//! is: paired by their order alone, one too many would give each object the data of the one before.

use super::parts::{Names, Parts};
use super::writes::Write;
use crate::place;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeolite_client::evolve::Stepped;
use zeolite_client::{Cell, Record};

/// How much of a wrong answer is shown.
const SHOWN_BYTES: usize = 200;

/// One object.
#[derive(Serialize)]
pub(super) struct Question<'a> {
    oid: String,
    key: String,
    class: &'a str,
    version: u32,
    refs: Vec<String>,
    data: String,
}

impl<'a> Question<'a> {
    pub(super) fn new(cell: &Cell, old: &'a Record) -> Question<'a> {
        Question {
            oid: cell.oid.to_string(),
            key: place::shown(&cell.key),
            class: &old.class,
            version: old.version,
            refs: old.refs.iter().map(ToString::to_string).collect(),
            data: STANDARD.encode(&old.data),
        }
    }

    pub(super) fn json(&self) -> Bytes {
        serde_json::to_vec(self).expect("strings and numbers are json").into()
    }
}

/// What the program says about one object.
#[derive(Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answer {
    oid: Option<String>,
    key: Option<String>,
    keep: bool,
    delete: bool,
    error: Option<String>,
    class: Option<String>,
    version: Option<u32>,
    refs: Option<Vec<String>>,
    data: Option<String>,
    pub(super) writes: Vec<Write>,
}

/// The answers in a line, in the order of these cells: one for each, and no other.
pub(super) fn answers<'c>(
    line: &[u8],
    cells: impl ExactSizeIterator<Item = &'c Cell>,
    is_batch: bool,
) -> Result<Vec<Answer>, String> {
    let no_answer = |error: serde_json::Error| format!("its answer makes no sense ({error}): {}", shown(line));
    if !is_batch {
        let answer: Answer = serde_json::from_slice(line).map_err(no_answer)?;
        return cells.map(|cell| answer.is_for(cell).map(|()| answer.clone())).collect();
    }
    let said: Vec<Answer> = serde_json::from_slice(line).map_err(no_answer)?;
    let (asked, count) = (cells.len(), said.len());
    if count != asked {
        return Err(format!("it has {count} answers to {asked} questions: {}", shown(line)));
    }
    let mut said: Vec<Option<Answer>> = said.into_iter().map(Some).collect();
    let mut next = 0;
    let mut of = |cell: &Cell| {
        // Mostly they are in the order of the questions.
        let order = (0..count).map(|step| (next + step) % count);
        let found = order.into_iter().find(|at| said[*at].as_ref().is_some_and(|answer| answer.is_for(cell).is_ok()));
        let at = found.ok_or_else(|| format!("it has no answer for {cell}: {}", shown(line)))?;
        next = at + 1;
        said[at].take().ok_or_else(|| format!("it has no answer for {cell}"))
    };
    cells.map(&mut of).collect()
}

impl Answer {
    fn is_for(&self, cell: &Cell) -> Result<(), String> {
        let key = place::shown(&cell.key);
        if self.oid.is_none() || (self.key.is_none() && !key.is_empty()) {
            return Err("its answer must repeat the oid of the question, and the key of an entry".to_owned());
        }
        let same = self.oid.as_ref().is_some_and(|oid| *oid == cell.oid.to_string());
        if !same || self.key.as_ref().is_some_and(|given| *given != key) {
            return Err(format!("its answer is for another object than {cell}"));
        }
        Ok(())
    }

    /// What it means for the object: a step, or the program's own error. The outer error: it is no answer.
    pub(super) fn meaning(&self, old: Record, names: &Names) -> Result<Result<Stepped, String>, String> {
        let replaces = self.class.is_some() || self.version.is_some() || self.refs.is_some() || self.data.is_some();
        let says = [self.keep, self.delete, self.error.is_some(), replaces];
        if says.iter().filter(|said| **said).count() != 1 {
            return Err("its answer must say one of keep, delete, error, or a new record".to_owned());
        }
        if let Some(error) = &self.error {
            if !self.writes.is_empty() {
                return Err("its answer must not say both an error and writes".to_owned());
            }
            return Ok(Err(error.clone()));
        }
        Ok(Ok(match (self.keep, self.delete) {
            (true, _) => Stepped::Keep,
            (_, true) => Stepped::Delete,
            _ => {
                let (class, version) = (self.class.clone(), self.version);
                let parts = Parts { class, version, refs: self.refs.clone(), data: self.data.clone() };
                Stepped::Replace(parts.over(old, names)?)
            }
        }))
    }
}

/// The beginning of what a program has said.
pub(super) fn shown(said: &[u8]) -> String {
    let text = said[..said.len().min(SHOWN_BYTES)].trim_ascii_end().escape_ascii().to_string();
    if said.len() > SHOWN_BYTES { format!("{text}…") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_client::Oid;

    fn old() -> Record {
        Record {
            class: "Page".into(),
            version: 1,
            refs: vec![Oid(0x2b)],
            blobs: Vec::new(),
            data: b"a\xff".to_vec().into(),
        }
    }

    fn entry() -> Cell {
        Cell::entry(Oid(0x2a), &b"k\n"[..])
    }

    /// What a line means as the answer about an entry, of which it repeats oid and key.
    fn meant(line: &str) -> Result<Result<Stepped, String>, String> {
        let whose = r#"{"oid":"2a","key":"k\\n","#;
        let line = line.replacen('{', whose, 1);
        answers(line.as_bytes(), [&entry()].into_iter(), false)?[0].meaning(old(), &Names::default())
    }

    #[test]
    fn an_answer_says_whose_it_is() {
        let object = Cell::object(Oid(0x2a));
        let good = |line: &str, cell: &Cell| answers(line.as_bytes(), [cell].into_iter(), false).is_ok();
        assert!(
            good(r#"{"keep":true,"oid":"2a","key":"k\\n"}"#, &entry()) && good(r#"{"keep":true,"oid":"2a"}"#, &object)
        );
        assert!(good(r#"{"keep":true,"oid":"2a","key":""}"#, &object));
        for line in [
            r#"{"keep":true}"#,
            r#"{"keep":true,"oid":"2a"}"#,
            r#"{"keep":true,"key":"k\\n"}"#,
            r#"{"keep":true,"oid":"2b","key":"k\\n"}"#,
            r#"{"keep":true,"oid":"2a","key":"other"}"#,
            r#"{"error":"no title"}"#,
            r#"[{"keep":true,"oid":"2a","key":"k\\n"}]"#,
        ] {
            assert!(!good(line, &entry()), "{line}");
        }
        assert!(
            !good(r#"{"keep":true,"oid":"2b"}"#, &object) && !good(r#"{"keep":true,"oid":"2a","key":"x"}"#, &object)
        );
    }

    #[test]
    fn a_batch_has_an_answer_for_each_in_any_order() {
        let cells = [Cell::object(Oid(1)), entry(), Cell::object(Oid(3))];
        let said = |line: &str| {
            let answers = answers(line.as_bytes(), cells.iter(), true)?;
            answers.iter().map(|answer| answer.meaning(old(), &Names::default())?).collect::<Result<Vec<_>, _>>()
        };
        let (one, three) = (r#"{"oid":"1","keep":true}"#, r#"{"oid":"3","error":"three"}"#);
        let two = r#"{"oid":"2a","key":"k\\n","delete":true}"#;
        let fine = r#"{"oid":"3","keep":true}"#;
        assert_eq!(
            said(&format!("[{fine},{two},{one}]")),
            Ok(vec![Stepped::Keep, Stepped::Delete, Stepped::Keep]),
            "in any order"
        );
        assert_eq!(said(&format!("[{one},{two},{three}]")), Err("three".into()));
        for (line, why) in [
            (format!("[{one},{two}]"), "2 answers to 3 questions"),
            (format!("[{one},{two},{two}]"), "no answer for 3"),
            (format!("[{one},{one},{two}]"), "no answer for 3"),
            (one.to_owned(), "makes no sense"),
        ] {
            let told = said(&line).expect_err("no answer");
            assert!(told.contains(why), "{line}: {told}");
        }
    }

    #[test]
    fn a_question_is_one_line_with_everything() {
        let line = Question::new(&entry(), &old()).json();
        let expected = r#"{"oid":"2a","key":"k\\n","class":"Page","version":1,"refs":["2b"],"data":"Yf8="}"#;
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }

    #[test]
    fn answers_mean_one_thing() {
        let new = |change: fn(&mut Record)| {
            let mut record = old();
            change(&mut record);
            Ok(Ok(Stepped::Replace(record)))
        };
        assert_eq!(meant(r#"{"keep":true}"#), Ok(Ok(Stepped::Keep)));
        assert_eq!(meant(r#"{"delete":true}"#), Ok(Ok(Stepped::Delete)));
        assert_eq!(meant(r#"{"error":"no title"}"#), Ok(Err("no title".into())));
        assert_eq!(meant(r#"{"data":"YQ==","version":2}"#), new(|r| (r.version, r.data) = (2, "a".into())));
        assert_eq!(meant(r#"{"refs":["ff"],"class":"Q"}"#), new(|r| (r.refs, r.class) = (vec![Oid(255)], "Q".into())));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for line in [
            "",
            "done",
            "[]",
            r#"{"keep":false}"#,
            r#"{"keep":true,"delete":true}"#,
            r#"{"keep":true,"data":"YQ=="}"#,
            r#"{"data":"%"}"#,
            r#"{"refs":["x"]}"#,
            r#"{"refs":["$nobody"]}"#,
            r#"{"version":-1}"#,
            r#"{"surprise":1,"keep":true}"#,
            r#"{"error":"no","writes":[{"add":"1","by":1}]}"#,
        ] {
            assert!(meant(line).is_err(), "{line}");
        }
    }
}
