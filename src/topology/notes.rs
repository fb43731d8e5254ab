//! What a reader notices on the way through one file.

use super::{json::Position, problem::ProblemCode};
use crate::api::{Problem, Severity};
use std::cell::{Cell, RefCell};

/// How many problems of one code a file may have before the rest is only counted.
const MAX_OF_A_CODE: u32 = 16;

/// Collects the problems of one file.
pub(super) struct Notes<'p> {
    path: &'p str,
    /// The text of the file, for lines and columns.
    text: &'p str,
    /// Where in memory the text begins that the values are borrowed from: the file's own, or the mended one, which has every character
    /// at the same place.
    base: Cell<usize>,
    problems: RefCell<Vec<Problem>>,
    /// How often each code was told; as many entries as there are different codes.
    told: RefCell<Vec<(ProblemCode, u32)>>,
}

impl<'p> Notes<'p> {
    /// For a file of this path and text.
    pub fn new(path: &'p str, text: &'p str) -> Self {
        Self { path, text, base: Cell::new(text.as_ptr() as usize), problems: RefCell::default(), told: RefCell::default() }
    }

    /// The values are read from a mended copy of the text.
    pub fn read_from(&self, mended: &str) {
        self.base.set(mended.as_ptr() as usize);
    }

    /// The place of a key, which is borrowed from the text unless it has escapes.
    fn position(&self, key: &str) -> Option<Position> {
        let offset = (key.as_ptr() as usize).checked_sub(self.base.get())?;
        // The quote before it belongs to it.
        (offset < self.text.len()).then(|| Position::of_offset(self.text.as_bytes(), offset.saturating_sub(1)))
    }

    /// Tells a problem of the usual severity.
    pub fn tell(&self, code: ProblemCode, message: impl Into<String>) {
        self.tell_as(code.severity(), code, message);
    }

    /// Tells a problem of a severity of its own.
    pub fn tell_as(&self, severity: Severity, code: ProblemCode, message: impl Into<String>) {
        self.add(Problem { severity, ..code.at(self.path, message) }, code);
    }

    /// Tells a problem at the place of a key of the text.
    pub fn tell_at(&self, key: Option<&str>, severity: Severity, code: ProblemCode, message: String) {
        // Looking up a place takes time; what is only counted needs none.
        let is_kept = !self.told.borrow().iter().any(|(known, times)| *known == code && *times >= MAX_OF_A_CODE);
        let position = key.filter(|_| is_kept).and_then(|key| self.position(key));
        let (line, column) = (position.map(|position| position.line), position.map(|position| position.column));
        self.add(Problem { severity, line, column, ..code.at(self.path, message) }, code);
    }

    /// Adds a problem that was made elsewhere.
    pub fn add(&self, problem: Problem, code: ProblemCode) {
        let mut told = self.told.borrow_mut();
        let times = match told.iter_mut().find(|(known, _)| *known == code) {
            Some((_, times)) => times,
            None => {
                told.push((code, 0));
                match told.last_mut() {
                    Some((_, times)) => times,
                    None => return,
                }
            }
        };
        if *times < MAX_OF_A_CODE {
            // A key that is looked up twice tells the same twice.
            if self.problems.borrow().contains(&problem) {
                return;
            }
            self.problems.borrow_mut().push(problem);
        }
        *times = times.saturating_add(1);
    }

    /// All that was told; a code that was told very often ends with the number of the rest.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        for (code, times) in self.told.into_inner() {
            if times > MAX_OF_A_CODE {
                problems.push(code.at(self.path, format!("and {} more of these in this file", times - MAX_OF_A_CODE)));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_without_end_is_counted_not_repeated() {
        let notes = Notes::new("a.json", "");
        for number in 0..1000 {
            notes.tell(ProblemCode::WrongType, format!("number {number}"));
        }
        notes.tell(ProblemCode::KeyCase, "once");
        let problems = notes.into_problems();
        assert_eq!(problems.len(), 18);
        assert!(problems.iter().any(|problem| problem.message == "and 984 more of these in this file"));
    }

    #[test]
    fn a_key_has_its_place_and_text_from_elsewhere_has_none() {
        let text = "{\n  \"port\": 1}";
        let notes = Notes::new("a.json", text);
        let key = text.get(5..9);
        assert_eq!(key, Some("port"));
        notes.tell_at(key, Severity::Info, ProblemCode::PortInvalid, "here".to_owned());
        notes.tell_at(Some("port"), Severity::Info, ProblemCode::PortInvalid, "somewhere".to_owned());
        let places: Vec<_> = notes.into_problems().into_iter().map(|problem| (problem.line, problem.column)).collect();
        assert_eq!(places, [(Some(2), Some(3)), (None, None)]);
    }
}
