//! Owns the terminal while `top` draws in it: its own screen, no echo, no cursor; and everything as it was before, at the end.

use super::screen::{Line, Tone};
use anyhow::{Context, Result};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};
use std::io::{Stdout, Write, stdout};
use tokio::sync::mpsc;

/// Keys that wait; more are dropped.
const KEYS_AHEAD: usize = 16;

/// What the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Quit,
    Redraw,
}

/// The terminal, taken over until it is dropped.
pub(crate) struct Terminal {
    out: Stdout,
}

impl Terminal {
    pub(crate) fn take_over() -> Result<Terminal> {
        terminal::enable_raw_mode().context("the terminal cannot be used; try --json")?;
        // From here on a failure leaves the terminal as it was.
        let mut terminal = Terminal { out: stdout() };
        execute!(terminal.out, EnterAlternateScreen, cursor::Hide).context("the terminal cannot be drawn on")?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub(crate) fn size() -> (usize, usize) {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        (usize::from(columns), usize::from(rows))
    }

    /// Draws over what is there, without a flicker.
    pub(crate) fn draw(&mut self, lines: &[Line]) -> Result<()> {
        queue!(self.out, cursor::MoveTo(0, 0))?;
        for (row, line) in (0u16..).zip(lines) {
            let attribute = match line.tone {
                Tone::Plain => Attribute::Reset,
                Tone::Title => Attribute::Bold,
                Tone::Quiet => Attribute::Dim,
                Tone::Alarm => Attribute::Reverse,
            };
            queue!(self.out, cursor::MoveTo(0, row), SetAttribute(attribute), Print(&line.text))?;
            queue!(self.out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        queue!(self.out, Clear(ClearType::FromCursorDown))?;
        self.out.flush().context("the terminal has gone")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing any more.
        let _ = execute!(self.out, cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// The user's wishes, read in a thread of its own, which ends with the program. The channel ends when the terminal goes.
pub(crate) fn wishes() -> mpsc::Receiver<Wish> {
    let (to, wishes) = mpsc::channel(KEYS_AHEAD);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let Some(wish) = wish(&event) else { continue };
            if let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send(wish) {
                return;
            }
        }
    });
    wishes
}

fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Resize(..) => Some(Wish::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn q_escape_and_control_c_quit() {
        let key = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(wish(&Event::Resize(1, 1)), Some(Wish::Redraw));
    }
}
