//! Owns what a program that steps objects is asked, and what its answers mean. Pure.
//!
//! Both are one line of JSON; data is base64, oids are hexadecimal and keys are written as `zeolite scan` prints them. An answer
//! repeats whose it is: paired by their order alone, one line too many would give each object the data of the one before.

use crate::place;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeolite_client::evolve::Stepped;
use zeolite_client::{Cell, Oid, Record};

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

    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("strings and numbers are json");
        line.push(b'\n');
        line
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    oid: Option<String>,
    key: Option<String>,
    keep: bool,
    delete: bool,
    error: Option<String>,
    class: Option<String>,
    version: Option<u32>,
    refs: Option<Vec<String>>,
    data: Option<String>,
}

/// What an answer means for the object: a step, or the program's own error. The outer error: it is no answer.
pub(super) fn meaning(line: &[u8], cell: &Cell, old: Record) -> Result<Result<Stepped, String>, String> {
    let answer: Answer = serde_json::from_slice(line).map_err(|error| {
        let shown = line[..line.len().min(SHOWN_BYTES)].escape_ascii();
        format!("its answer makes no sense ({error}): {shown}")
    })?;
    let (oid, key) = (cell.oid.to_string(), place::shown(&cell.key));
    if answer.oid.is_none() || (answer.key.is_none() && !key.is_empty()) {
        return Err("its answer must repeat the oid of the question, and the key of an entry".to_owned());
    }
    if answer.oid != Some(oid) || answer.key.as_ref().is_some_and(|given| *given != key) {
        return Err(format!("its answer is for another object than {cell}"));
    }
    let replaces = answer.class.is_some() || answer.version.is_some() || answer.refs.is_some() || answer.data.is_some();
    let says = [answer.keep, answer.delete, answer.error.is_some(), replaces];
    if says.iter().filter(|said| **said).count() != 1 {
        return Err("its answer must say one of keep, delete, error, or a new record".to_owned());
    }
    if answer.keep {
        return Ok(Ok(Stepped::Keep));
    }
    if answer.delete {
        return Ok(Ok(Stepped::Delete));
    }
    if let Some(error) = answer.error {
        return Ok(Err(error));
    }
    replaced(answer, old).map(|new| Ok(Stepped::Replace(new)))
}

fn replaced(answer: Answer, old: Record) -> Result<Record, String> {
    let mut new = old;
    if let Some(class) = answer.class {
        new.class = class;
    }
    if let Some(version) = answer.version {
        new.version = version;
    }
    if let Some(refs) = answer.refs {
        let parse = |text: &String| {
            text.parse::<Oid>().map_err(|error| format!("{text:?} in its refs is no oid in hexadecimal: {error}"))
        };
        new.refs = refs.iter().map(parse).collect::<Result<_, _>>()?;
    }
    if let Some(data) = answer.data {
        new.data = STANDARD.decode(data).map_err(|error| format!("its data is no base64: {error}"))?.into();
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> Record {
        Record { class: "Page".into(), version: 1, refs: vec![Oid(0x2b)], data: b"a\xff".to_vec().into() }
    }

    /// What a line means as the answer about an entry, of which it repeats oid and key.
    fn meant(line: &str) -> Result<Result<Stepped, String>, String> {
        let whose = r#"{"oid":"2a","key":"k\\n","#;
        meaning(line.replacen('{', whose, 1).as_bytes(), &Cell::entry(Oid(0x2a), &b"k\n"[..]), old())
    }

    #[test]
    fn an_answer_says_whose_it_is() {
        let (entry, object) = (Cell::entry(Oid(0x2a), &b"k\n"[..]), Cell::object(Oid(0x2a)));
        let good = |line: &str, cell: &Cell| meaning(line.as_bytes(), cell, old()).is_ok();
        assert!(
            good(r#"{"keep":true,"oid":"2a","key":"k\\n"}"#, &entry) && good(r#"{"keep":true,"oid":"2a"}"#, &object)
        );
        assert!(good(r#"{"keep":true,"oid":"2a","key":""}"#, &object));
        for line in [
            r#"{"keep":true}"#,
            r#"{"keep":true,"oid":"2a"}"#,
            r#"{"keep":true,"key":"k\\n"}"#,
            r#"{"keep":true,"oid":"2b","key":"k\\n"}"#,
            r#"{"keep":true,"oid":"2a","key":"other"}"#,
            r#"{"error":"no title"}"#,
        ] {
            assert!(!good(line, &entry), "{line}");
        }
        assert!(
            !good(r#"{"keep":true,"oid":"2b"}"#, &object) && !good(r#"{"keep":true,"oid":"2a","key":"x"}"#, &object)
        );
    }

    #[test]
    fn a_question_is_one_line_with_everything() {
        let line = Question::new(&Cell::entry(Oid(0x2a), &b"k\n"[..]), &old()).line();
        let expected = r#"{"oid":"2a","key":"k\\n","class":"Page","version":1,"refs":["2b"],"data":"Yf8="}"#;
        assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\n"));
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
            r#"{"version":-1}"#,
            r#"{"surprise":1,"keep":true}"#,
        ] {
            assert!(meant(line).is_err(), "{line}");
        }
    }
}
