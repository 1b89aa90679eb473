//! Owns what a word of a gloss is, so that clients, worker, resolver and check agree.

/// The words of a gloss: runs of letters and digits, in lower case, each once, in order. No word is longer than a key may be.
pub(crate) fn words(gloss: &str) -> Vec<String> {
    let mut words: Vec<String> = gloss
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= WORD_BYTES_MAX)
        .map(str::to_ascii_lowercase)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// The longest word that is kept.
const WORD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_and_each_is_there_once() {
        assert_eq!(words("The unit; \"the 2 TEAMS\", (a unit)"), ["2", "a", "teams", "the", "unit"]);
        assert!(words("; -- \"\"").is_empty());
        assert!(words(&"x".repeat(65)).is_empty());
    }
}
