//! Owns the WordNet 3.0 files that the binary carries, and their parser.
//!
//! The files (`data/wordnet-3.0`, with their licence) hold one synset per line:
//!
//! ```text
//!   02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 023 @ 02083346 n 0000 ~ 01322604 n 0000 … | a member of …
//!   offset   lex pos n  lemma id …                           n   relation target pos words …           | gloss
//! ```
//!
//! A synset is named by its part of speech and its offset in that part's file. What is not kept: lexicographer file
//! numbers, verb frames, and which two words of a relation are meant.

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// The four data files one after the other, compressed; made as `data/wordnet-3.0/README.md` says.
const COMPRESSED: &[u8] = include_bytes!("../../data/wordnet-3.0/wordnet.txt.zst");

/// Part of speech. Adjective satellites count as adjectives, as in WordNet's own file names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum Pos {
    Noun,
    Verb,
    Adjective,
    Adverb,
}

impl Pos {
    pub(crate) const ALL: [Pos; 4] = [Pos::Noun, Pos::Verb, Pos::Adjective, Pos::Adverb];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Pos::Noun => "noun",
            Pos::Verb => "verb",
            Pos::Adjective => "adjective",
            Pos::Adverb => "adverb",
        }
    }

    fn parse(text: &str) -> Result<Pos> {
        Ok(match text {
            "n" => Pos::Noun,
            "v" => Pos::Verb,
            "a" | "s" => Pos::Adjective,
            "r" => Pos::Adverb,
            other => bail!("unknown part of speech {other:?}"),
        })
    }
}

macro_rules! relations {
    ($($symbol:literal => $name:ident,)*) => {
        /// How one synset relates to another.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub(crate) enum Relation { $($name,)* }

        impl Relation {
            fn parse(symbol: &str) -> Result<Relation> {
                Ok(match symbol {
                    $($symbol => Relation::$name,)*
                    other => bail!("unknown relation {other:?}"),
                })
            }
        }
    };
}

relations! {
    "@" => Hypernym, "@i" => InstanceHypernym, "~" => Hyponym, "~i" => InstanceHyponym,
    "#m" => MemberHolonym, "#s" => SubstanceHolonym, "#p" => PartHolonym,
    "%m" => MemberMeronym, "%s" => SubstanceMeronym, "%p" => PartMeronym,
    "!" => Antonym, "=" => Attribute, "+" => Derivation, "*" => Entailment, ">" => Cause, "^" => AlsoSee,
    "$" => VerbGroup, "&" => SimilarTo, "<" => Participle, "\\" => Pertainym,
    ";c" => DomainTopic, ";r" => DomainRegion, ";u" => DomainUsage,
    "-c" => InTopic, "-r" => InRegion, "-u" => InUsage,
}

/// A synset's name: its part of speech, and its offset in that part's file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Name {
    pub(crate) pos: Pos,
    pub(crate) offset: u32,
}

/// A set of synonyms with its meaning and its relations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Synset {
    pub(crate) name: Name,
    /// In lower case, words joined by `_`, without the syntactic markers of adjectives; each once.
    pub(crate) lemmas: Vec<String>,
    pub(crate) gloss: String,
    pub(crate) pointers: Vec<(Relation, Name)>,
}

/// All synsets: nouns, verbs, adjectives, adverbs, each part in the order of its file.
pub(crate) fn load() -> Result<Vec<Synset>> {
    let mut text = String::new();
    ruzstd::decoding::StreamingDecoder::new(COMPRESSED)
        .map_err(|error| anyhow!("{error}"))
        .and_then(|mut decoder| Ok(decoder.read_to_string(&mut text)?))
        .context("the wordnet data in this binary does not decompress; build it again")?;
    parse(&text)
}

/// Reads data files; lines that begin with a space are their licence.
fn parse(text: &str) -> Result<Vec<Synset>> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with(' ') && !line.is_empty())
        .map(|(at, line)| synset(line).with_context(|| format!("wordnet data, line {}", at + 1)))
        .collect()
}

fn synset(line: &str) -> Result<Synset> {
    let (fields, gloss) = line.split_once(" | ").context("no gloss")?;
    let mut fields = fields.split_ascii_whitespace();
    let mut next = |what: &str| fields.next().with_context(|| format!("{what} is missing"));
    let offset = next("offset")?.parse().context("offset")?;
    next("lexicographer file")?;
    let pos = Pos::parse(next("part of speech")?)?;
    let mut lemmas: Vec<String> = Vec::new();
    for _ in 0..u32::from_str_radix(next("number of lemmas")?, 16).context("number of lemmas")? {
        let lemma = lemma(next("lemma")?);
        next("lemma id")?;
        if !lemmas.contains(&lemma) {
            lemmas.push(lemma);
        }
    }
    let mut pointers = Vec::new();
    for _ in 0..next("number of relations")?.parse::<u32>().context("number of relations")? {
        let relation = Relation::parse(next("relation")?)?;
        let offset = next("target")?.parse().context("target")?;
        let pos = Pos::parse(next("target's part of speech")?)?;
        next("words of the relation")?;
        pointers.push((relation, Name { pos, offset }));
    }
    Ok(Synset { name: Name { pos, offset }, lemmas, gloss: gloss.trim_end().to_owned(), pointers })
}

/// `Galilean(a)` is the lemma `galilean` with a syntactic marker.
fn lemma(word: &str) -> String {
    word.split('(').next().unwrap_or(word).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    // The expected numbers are those that WordNet publishes for 3.0 (its page "wnstats").
    #[test]
    fn the_whole_of_wordnet_is_there() {
        let synsets = load().expect("the data decodes");
        let of = |pos| synsets.iter().filter(|synset| synset.name.pos == pos).count();
        assert_eq!(Pos::ALL.map(of), [82_115, 13_767, 18_156, 3_621]);
        assert_eq!(synsets.len(), 117_659);

        let lemmas: HashSet<&str> = synsets.iter().flat_map(|s| s.lemmas.iter().map(String::as_str)).collect();
        assert_eq!(lemmas.len(), 147_306);
        let by_pos: HashSet<(&str, Pos)> =
            synsets.iter().flat_map(|s| s.lemmas.iter().map(|lemma| (lemma.as_str(), s.name.pos))).collect();
        assert_eq!(by_pos.len(), 155_287);
        assert_eq!(synsets.iter().map(|s| s.lemmas.len()).sum::<usize>(), 206_941);
    }

    #[test]
    fn every_pointer_resolves_and_hypernyms_lead_to_the_top() {
        let synsets = load().expect("the data decodes");
        let by_name: std::collections::HashMap<Name, &Synset> = synsets.iter().map(|s| (s.name, s)).collect();
        assert_eq!(by_name.len(), synsets.len());
        let pointers: Vec<_> = synsets.iter().flat_map(|s| &s.pointers).collect();
        assert_eq!(pointers.len(), 377_592);
        assert!(pointers.iter().all(|(_, target)| by_name.contains_key(target)));

        let dog =
            synsets.iter().find(|s| s.lemmas.first().is_some_and(|lemma| lemma == "dog")).expect("there are dogs");
        let mut chain = vec![dog.lemmas[0].as_str()];
        let mut at = dog;
        while let Some((_, up)) = at.pointers.iter().find(|(relation, _)| *relation == Relation::Hypernym) {
            at = by_name[up];
            chain.push(&at.lemmas[0]);
        }
        assert_eq!(chain.last(), Some(&"entity"), "{chain:?}");
    }

    #[test]
    fn a_line_is_read_and_a_broken_one_is_named() {
        let line =
            "00002098 00 a 02 unable(p) 0 Unable 1 002 = 05200169 n 0000 ! 00001740 a 0101 | not able; \"x | y\"  ";
        let text = format!("  1 licence\n{line}\n");
        let unable = &parse(&text).expect("parses")[0];
        assert_eq!(unable.lemmas, ["unable"]);
        assert_eq!(unable.gloss, "not able; \"x | y\"");
        assert_eq!(unable.pointers[1], (Relation::Antonym, Name { pos: Pos::Adjective, offset: 1740 }));
        for cut in [8, 15, 30, 50, line.find("0101").expect("has words")] {
            let error = parse(&format!("  1 licence\n{} | gloss", &line[..cut])).expect_err("cut short");
            assert_eq!(error.to_string(), "wordnet data, line 2", "{cut}");
        }
    }
}
