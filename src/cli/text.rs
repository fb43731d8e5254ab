//! Output for people: a broken pipe is no failure, and tables line up.

use super::{EXIT_CANNOT_RUN, EXIT_OK};
use serde::Serialize;
use std::{
    io::{self, BufWriter, IsTerminal as _, Write as _},
    ops::ControlFlow,
};

/// Writes to stdout. Breaks with the code to exit with when that is no more: a reader that has gone (a broken pipe) has seen enough,
/// which is no failure; anything else is one, and told.
pub(super) fn print(text: &str) -> ControlFlow<u8> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints a value as JSON between two texts, piece by piece as it is made: that of a large report is not held in memory too.
pub(super) fn print_json(before: &str, value: &impl Serialize, after: &str) -> ControlFlow<u8> {
    let write = || {
        let mut out = BufWriter::new(io::stdout().lock());
        out.write_all(before.as_bytes())?;
        serde_json::to_writer(&mut out, value)?;
        out.write_all(after.as_bytes())?;
        out.flush()
    };
    written(write())
}

fn written(result: io::Result<()>) -> ControlFlow<u8> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ControlFlow::Break(EXIT_OK),
        Err(error) => {
            eprintln!("netdiag: the output cannot be written: {error}");
            ControlFlow::Break(EXIT_CANNOT_RUN)
        }
    }
}

/// Prints the last that there is to print; the code to exit with.
pub(super) fn print_and_exit(text: &str, code: u8) -> u8 {
    print(text).break_value().unwrap_or(code)
}

/// Colours, on a terminal that may have them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// For stdout, unless `NO_COLOR` says otherwise.
    pub(super) fn stdout() -> Self {
        Self(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(false)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31;1", text)
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Breaks a text at spaces so that each line has at most `width` characters, as far as words allow.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A text in one line of at most `width` characters; what does not fit is cut off, and that is shown.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    if width < 3 {
        return text.chars().take(width).collect();
    }
    let kept: String = text.chars().take(width - 2).collect();
    format!("{} …", kept.trim_end())
}

/// The width to print in: that of the terminal unless `$COLUMNS` says otherwise, and a usual one without either.
pub(super) fn width() -> usize {
    let terminal = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    number_of("COLUMNS").or_else(terminal).filter(|width| *width > 0).unwrap_or(120).max(20)
}

/// How many lines a screen has, by `$LINES` or the terminal.
pub(super) fn height() -> usize {
    let terminal = || terminal_size::terminal_size_of(io::stdout()).map(|(_, height)| usize::from(height.0));
    number_of("LINES").or_else(terminal).filter(|height| *height > 0).unwrap_or(24)
}

fn number_of(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("a bb ccc dddd", 5), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn what_does_not_fit_a_line_is_cut_off_and_that_is_shown() {
        assert_eq!((cut("abcdef", 6).as_str(), cut("abcdef", 5).as_str(), cut("ab cdef", 5).as_str()), ("abcdef", "abc …", "ab …"));
    }
}
