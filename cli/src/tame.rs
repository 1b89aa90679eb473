//! Owns how text that others wrote is printed: a note, a class's name, a banner.
//!
//! A terminal takes some characters for commands: they move the cursor, rewrite lines, change the title. Whoever may write to
//! the database must not get them to an operator's terminal, nor lines that look like the program's own. So control characters
//! and those that turn the direction of writing are shown as escapes. The program's own colours stay, and JSON, which is for programs, is left as it is.

/// The colours that [`crate::output::Out`] paints with.
const PAINT: [&str; 5] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[1;31m"];

/// A value: no line of its own begins in it.
pub(crate) fn value(text: &str) -> String {
    tamed(text, false)
}

/// Lines of the program's own making.
pub(crate) fn lines(text: &str) -> String {
    tamed(text, true)
}

fn tamed(text: &str, with_lines: bool) -> String {
    if text.chars().all(is_tame) {
        return text.to_owned();
    }
    let mut tame = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let paint = PAINT.into_iter().find(|paint| rest.starts_with(paint));
        let len = paint.map_or(next.len_utf8(), str::len);
        match next {
            _ if paint.is_some() => tame.push_str(&rest[..len]),
            '\n' if with_lines => tame.push(next),
            '\t' if with_lines => tame.push(next),
            _ if !is_tame(next) => tame.extend(next.escape_default()),
            _ => tame.push(next),
        }
        rest = &rest[len..];
    }
    tame
}

/// Whether a terminal only shows it.
pub(crate) fn is_tame(letter: char) -> bool {
    !letter.is_control() && !turns_direction(letter)
}

fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_a_terminal_are_shown_and_not_obeyed() {
        assert_eq!(value("Grüße, \x1b[31mred\x1b]0;title\x07"), "Grüße, \\u{1b}[31mred\\u{1b}]0;title\\u{7}");
        assert_eq!(value("one\r\ntwo\u{202e}"), "one\\r\\ntwo\\u{202e}");
        assert_eq!(lines("\x1b[1mtitle\x1b[0m\nrow\u{9b}2J"), "\x1b[1mtitle\x1b[0m\nrow\\u{9b}2J");
    }
}
