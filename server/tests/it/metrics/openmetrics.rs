//! Owns a strict reader of the OpenMetrics 1.0 text format: what it does not know, or what is out of order, is a panic.
//!
//! ```text
//!   # HELP name text      once per family, in any order, before its samples
//!   # TYPE name kind      counter, gauge, histogram or info here
//!   # UNIT name unit      the name ends in the unit
//!   name{label="value"} number
//!   # EOF                 the last line, and nothing behind it
//! ```
//! Families do not interleave; a counter's samples end in `_total`, an info's in `_info`; a histogram's buckets only grow,
//! end in `+Inf`, and that is the count.

use std::collections::{BTreeMap, BTreeSet};

/// What was read: the value of each sample by its name with its labels, sorted, as `name{a="x",b="y"}`.
pub(crate) struct Exposition {
    pub(crate) samples: BTreeMap<String, f64>,
    pub(crate) kinds: BTreeMap<String, String>,
}

impl Exposition {
    /// A sample that must be there.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("there is no {sample}: {:#?}", self.samples.keys()))
    }
}

/// Names and values of a sample's labels.
type Labels = Vec<(String, String)>;

#[derive(Default)]
struct Family {
    name: String,
    kind: Option<String>,
    unit: Option<String>,
    help: bool,
    samples: Vec<(String, Labels, f64)>,
}

/// Reads a whole exposition.
pub(crate) fn parse(text: &str) -> Exposition {
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF and a line feed");
    assert!(!body.contains('\r') && !body.contains("# EOF"), "one end only");
    let mut all = Exposition { samples: BTreeMap::new(), kinds: BTreeMap::new() };
    let mut seen = BTreeSet::new();
    let mut family = Family::default();
    for line in body.lines() {
        assert!(!line.is_empty(), "there are no empty lines");
        if let Some(described) = line.strip_prefix("# ") {
            let (word, rest) = described.split_once(' ').expect("a keyword");
            let (name, value) = rest.split_once(' ').expect("a name and a text");
            assert!(is_name(name), "{line}");
            if name != family.name {
                finish(std::mem::take(&mut family), &mut all);
                assert!(seen.insert(name.to_owned()), "{name} is told in one piece, once");
                family.name = name.to_owned();
            }
            assert!(family.samples.is_empty(), "described before its samples: {line}");
            match word {
                "HELP" => assert!(!std::mem::replace(&mut family.help, true), "one help: {line}"),
                "TYPE" => assert!(family.kind.replace(value.to_owned()).is_none(), "one type: {line}"),
                "UNIT" => assert!(family.unit.replace(value.to_owned()).is_none(), "one unit: {line}"),
                _ => panic!("no keyword: {line}"),
            }
        } else {
            let (name, labels, value) = sample(line);
            family.samples.push((name, labels, value));
        }
    }
    finish(family, &mut all);
    all
}

fn finish(family: Family, all: &mut Exposition) {
    if family.name.is_empty() {
        assert!(family.samples.is_empty(), "samples without a family: {:?}", family.samples);
        return;
    }
    let name = family.name.as_str();
    let kind = family.kind.as_deref().unwrap_or_else(|| panic!("{name} has no type"));
    assert!(family.help, "{name} has no help");
    if let Some(unit) = &family.unit {
        assert!(name.ends_with(&format!("_{unit}")), "{name} does not end in its unit {unit}");
    }
    let suffixes: &[&str] = match kind {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        other => panic!("{name}: no type {other}"),
    };
    for (sample, labels, value) in &family.samples {
        let suffix = sample.strip_prefix(name).unwrap_or_else(|| panic!("{sample} is not of {name}"));
        assert!(suffixes.contains(&suffix), "{sample} is no sample of a {kind}");
        assert!(!value.is_nan(), "{sample}");
        assert!(kind == "gauge" || *value >= 0.0, "{sample} is negative");
        assert!(kind != "info" || *value == 1.0, "{sample}");
        assert!(suffix == "_bucket" || labels.iter().all(|(label, _)| label != "le"), "{sample}");
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let key = if labels.is_empty() { sample.clone() } else { format!("{sample}{{{}}}", labels.join(",")) };
        assert!(all.samples.insert(key.clone(), *value).is_none(), "{key} is told twice");
    }
    if kind == "histogram" {
        check_histogram(&family);
    }
    assert!(all.kinds.insert(family.name.clone(), kind.to_owned()).is_none());
}

/// Buckets by the labels beside `le`.
fn check_histogram(family: &Family) {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut ends: BTreeMap<(Labels, String), f64> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        let rest: Vec<_> = labels.iter().filter(|(label, _)| label != "le").cloned().collect();
        match labels.iter().find(|(label, _)| label == "le") {
            Some((_, bound)) => buckets.entry(rest).or_default().push((number(bound), *value)),
            None => drop(ends.insert((rest, sample[family.name.len()..].to_owned()), *value)),
        }
    }
    assert!(!buckets.is_empty(), "{} has no buckets", family.name);
    for (labels, buckets) in buckets {
        for pair in buckets.windows(2) {
            assert!(pair[0].0 < pair[1].0, "bounds rise: {} {labels:?} {pair:?}", family.name);
            assert!(pair[0].1 <= pair[1].1, "counts are cumulative: {} {labels:?} {pair:?}", family.name);
        }
        let (bound, all) = *buckets.last().expect("not empty");
        assert_eq!(bound, f64::INFINITY, "{} {labels:?}", family.name);
        assert_eq!(ends.remove(&(labels.clone(), "_count".into())), Some(all), "{} {labels:?}", family.name);
        assert!(ends.remove(&(labels.clone(), "_sum".into())).is_some(), "{} {labels:?}", family.name);
    }
    assert!(ends.is_empty(), "a count without buckets: {ends:?}");
}

/// A sample line; its labels sorted.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let name = &line[..end];
    assert!(is_name(name), "{line}");
    let (mut labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => read_labels(rest, line),
        None => (Vec::new(), &line[end..]),
    };
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("one space before the value: {line}"));
    assert!(!value.contains(' '), "no time and no exemplar here: {line}");
    labels.sort();
    assert!(labels.windows(2).all(|pair| pair[0].0 != pair[1].0), "a label twice: {line}");
    (name.to_owned(), labels, number(value))
}

fn read_labels<'a>(mut rest: &'a str, line: &str) -> (Labels, &'a str) {
    let mut labels = Vec::new();
    loop {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label: {line}"));
        assert!(is_name(label) && !label.contains(':'), "{line}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("an open string: {line}")) {
                (at, '"') => break at,
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                    other => panic!("no escape {other:?}: {line}"),
                },
                (_, character) => value.push(character),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, rest.strip_prefix('}').unwrap_or_else(|| panic!("a closing brace: {line}"))),
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        _ => {
            assert!(text.starts_with(|c: char| c.is_ascii_digit() || c == '-'), "no number: {text:?}");
            text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
        }
    }
}

#[test]
fn the_reader_is_strict() {
    let good = "# HELP a_b Text.\n# TYPE a_b counter\na_b_total{x=\"q\\\"\\n\"} 3\n# EOF\n";
    assert_eq!(parse(good).value("a_b_total{x=\"q\\\"\\n\"}"), 3.0);
    let histogram = |buckets: &str| {
        format!("# HELP h X.\n# TYPE h histogram\nh_sum 1\nh_count 3\n{buckets}h_bucket{{le=\"+Inf\"}} 3\n# EOF\n")
    };
    assert_eq!(parse(&histogram("h_bucket{le=\"1.0\"} 2\n")).value("h_count"), 3.0);
    let bad = [
        "# HELP a b\n# TYPE a gauge\na 1\n".to_owned(),
        good.replace("_total", ""),
        good.replace(" 3", " NaN"),
        good.replace(" 3", " -3"),
        good.replace(" 3", "  3"),
        good.replace("\\n", "\\t"),
        good.replace("# TYPE a_b counter\n", ""),
        good.replace("# TYPE", "# UNIT a_b bytes\n# TYPE"),
        good.replace("# EOF", "a_b_total 1\n\n# EOF"),
        good.replace("# EOF", "a_b_total{x=\"q\\\"\\n\"} 4\n# EOF"),
        format!("x 1\n{good}"),
        histogram("h_bucket{le=\"1.0\"} 4\n"),
        histogram("h_bucket{le=\"2.0\"} 1\nh_bucket{le=\"1.0\"} 2\n"),
        histogram("").replace("+Inf", "9.0"),
        histogram("").replace("h_count 3", "h_count 4"),
    ];
    for text in bad {
        let read = std::panic::catch_unwind(|| parse(&text).samples.len());
        assert!(read.is_err(), "was accepted: {text}");
    }
}
