//! Owns the view of a source file that the rules look at: code without comments and strings, comments alone, and which lines
//! are tests.
//!
//! A rule that searched the plain text would trip over its own name in a comment or a string. So the text is split once, by a
//! small lexer, into two texts of the same shape; what does not belong to one is blank in it, so that line numbers agree.

use std::ops::Range;

/// A source file, split.
pub(crate) struct Source {
    /// Where it is, from the root of the repository, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Comments, strings and character literals blanked.
    pub(crate) code: String,
    /// Everything but comments blanked.
    pub(crate) comments: String,
    /// Byte ranges of `#[cfg(test)]` items.
    tests: Vec<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let parts = split(text.as_bytes());
        let only = |keep: Part| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, byte) in bytes.iter_mut().enumerate() {
                if parts[at] != keep && *byte != b'\n' {
                    *byte = b' ';
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (code, comments) = (only(Part::Code), only(Part::Comment));
        let tests = test_items(&code);
        Source { path: path.to_owned(), text: text.to_owned(), code, comments, tests }
    }

    /// The line of a place, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Whether the place is test code: in a tests directory or file, in the tests crate, or in a `#[cfg(test)]` item.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        let in_tests = self.path.split('/').any(|part| part == "tests" || part == "tests.rs");
        in_tests || self.tests.iter().any(|range| range.contains(&at))
    }

    /// Where a name stands in the code as a whole word.
    pub(crate) fn places_of<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| whole(&self.code, *at, word))
    }
}

/// Whether what stands at the place is not a part of a longer name.
fn whole(code: &str, at: usize, word: &str) -> bool {
    let in_name = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let (first, last) = (word.bytes().next(), word.bytes().next_back());
    let before = at.checked_sub(1).and_then(|at| code.as_bytes().get(at)).copied();
    let after = code.as_bytes().get(at + word.len()).copied();
    !(in_name(first) && in_name(before) || in_name(last) && in_name(after))
}

/// Says of every byte what it is part of.
fn split(text: &[u8]) -> Vec<Part> {
    let mut parts = vec![Part::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (part, end) = piece(text, at);
        parts[at..end].fill(part);
        at = end;
    }
    parts
}

/// The piece that begins at a place: what it is, and where it ends.
fn piece(text: &[u8], at: usize) -> (Part, usize) {
    let rest = &text[at..];
    let in_name = at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => (Part::Comment, end_of_line(text, at)),
        [b'/', b'*', ..] => (Part::Comment, end_of_block(text, at)),
        [b'"', ..] => (Part::Literal, end_of_string(text, at + 1)),
        [b'r' | b'b' | b'c', ..] if !in_name => {
            let prefix = rest.iter().take_while(|byte| b"rbc".contains(byte)).count();
            let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
            match rest.get(prefix + hashes) {
                Some(b'"') if rest[..prefix].contains(&b'r') => {
                    (Part::Literal, end_of_raw(text, at + prefix + hashes + 1, hashes))
                }
                Some(b'"') if hashes == 0 => (Part::Literal, end_of_string(text, at + prefix + 1)),
                Some(b'\'') if hashes == 0 && rest[0] == b'b' && prefix == 1 => {
                    (Part::Literal, end_of_char(text, at + 1))
                }
                _ => (Part::Code, at + 1),
            }
        }
        [b'\'', ..] => {
            let end = end_of_char(text, at);
            if end > at + 1 { (Part::Literal, end) } else { (Part::Code, at + 1) }
        }
        _ => (Part::Code, at + 1),
    }
}

fn end_of_line(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |len| at + len)
}

fn end_of_block(text: &[u8], at: usize) -> usize {
    let (mut depth, mut at) = (0usize, at);
    while at < text.len() {
        match text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn end_of_raw(text: &[u8], mut at: usize, hashes: usize) -> usize {
    while at < text.len() {
        if text[at] == b'"' && text[at + 1..].iter().take_while(|byte| **byte == b'#').count() >= hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    text.len()
}

/// The end of a character literal that begins at a quote; the place itself if it is a lifetime.
fn end_of_char(text: &[u8], at: usize) -> usize {
    match text.get(at + 1) {
        Some(b'\\') => {
            let close = text[at + 3..].iter().position(|byte| *byte == b'\'');
            close.map_or(at, |len| at + 3 + len + 1)
        }
        Some(first) => {
            let len = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if text.get(at + 1 + len) == Some(&b'\'') { at + 2 + len } else { at }
        }
        None => at,
    }
}

/// The items under `#[cfg(test)]`, to their closing brace or semicolon.
fn test_items(code: &str) -> Vec<Range<usize>> {
    code.match_indices("#[cfg(test)]").map(|(at, _)| at..end_of_item(code, at)).collect()
}

/// Where the item that begins at a place ends: after its block, or after a semicolon outside of any bracket.
pub(crate) fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether a name of the code is there as a whole word.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| whole(code, at, word))
}
