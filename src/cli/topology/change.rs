//! What changed from one topology to the next, as text for people.

use super::site::place;
use crate::{
    api::{Change, Problem, TopologyChange},
    cli::text::Paint,
};
use std::fmt::Write as _;

pub(super) fn describe(change: &TopologyChange, paint: Paint) -> String {
    let mut text = String::new();
    names(&mut text, paint.good("+"), "", &change.added);
    names(&mut text, paint.bad("-"), "", &change.removed);
    changes(&mut text, paint, "", &change.changed);
    names(&mut text, paint.good("+"), "interface ", &change.interfaces_added);
    names(&mut text, paint.bad("-"), "interface ", &change.interfaces_removed);
    changes(&mut text, paint, "interface ", &change.interfaces_changed);
    problems(&mut text, &paint.bad("new problem "), &change.problems_added);
    problems(&mut text, &paint.good("gone        "), &change.problems_resolved);
    let _ = writeln!(text, "{} since {}", change.text, change.before);
    text
}

fn names(text: &mut String, mark: String, what: &str, names: &[String]) {
    for name in names {
        let _ = writeln!(text, "{mark} {what}{name}");
    }
}

fn changes(text: &mut String, paint: Paint, what: &str, changes: &[Change]) {
    for change in changes {
        let _ = writeln!(text, "{} {what}{}", paint.doubtful("~"), change.id);
        for field in &change.fields {
            let _ = writeln!(text, "    {}: {} → {}", field.field, field.before, field.after);
        }
    }
}

fn problems(text: &mut String, mark: &str, problems: &[Problem]) {
    for problem in problems {
        let _ = writeln!(text, "{mark} {} {}{}", problem.code, place(problem), problem.message);
    }
}
