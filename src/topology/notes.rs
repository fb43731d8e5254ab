//! What a reader notices on the way through one file.

use super::problem::{ProblemCode, quote};
use crate::api::{Problem, Severity};
use std::cell::RefCell;

/// How many problems of one code a file may have before the rest is only counted.
const MAX_OF_A_CODE: u32 = 16;

/// Collects the problems of one file.
pub(super) struct Notes<'p> {
    path: &'p str,
    problems: RefCell<Vec<Problem>>,
    /// How often each code was told; as many entries as there are different codes.
    told: RefCell<Vec<(ProblemCode, u32)>>,
}

impl<'p> Notes<'p> {
    pub fn new(path: &'p str) -> Self {
        Self { path, problems: RefCell::default(), told: RefCell::default() }
    }

    /// Tells a problem of the usual severity.
    pub fn tell(&self, code: ProblemCode, message: impl Into<String>) {
        self.tell_as(code.severity(), code, message);
    }

    /// Tells a problem of a severity of its own.
    pub fn tell_as(&self, severity: Severity, code: ProblemCode, message: impl Into<String>) {
        self.add(Problem { severity, ..code.at(self.path, message) }, code);
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

    /// Tells that a value has the wrong type.
    pub fn wrong_type(&self, section: &str, key: &str, expected: &str, found: &str) {
        self.tell(ProblemCode::WrongType, format!("{} in {section} is {found}; it should be {expected}", quote(key)));
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
        let notes = Notes::new("a.json");
        for number in 0..1000 {
            notes.tell(ProblemCode::WrongType, format!("number {number}"));
        }
        notes.tell(ProblemCode::KeyCase, "once");
        let problems = notes.into_problems();
        assert_eq!(problems.len(), 18);
        assert!(problems.iter().any(|problem| problem.message == "and 984 more of these in this file"));
    }
}
