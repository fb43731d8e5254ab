//! What starts processes: unit files, drop-ins, lists and command lines are written by people.

use netdiag::topology::{
    activity::{UnitFiles, read_command_line},
    read_file,
};

pub fn run(data: &[u8]) {
    let _ = read_file("mcp/list.json", data);
    let text = String::from_utf8_lossy(data);
    let words: Vec<&str> = text.split('\0').collect();
    let _ = read_command_line(&words);
    // The first line is the name of a unit, the second that of a drop-in, the rest the text of both.
    let mut lines = text.splitn(3, '\n');
    let (unit, drop_in, text) = (lines.next(), lines.next(), lines.next());
    let (unit, drop_in, text) = (unit.unwrap_or_default(), drop_in.unwrap_or_default(), text.unwrap_or_default());
    let mut files = UnitFiles::default();
    files.wanted.insert(unit.to_owned());
    files.units.insert(unit.to_owned(), text.to_owned());
    files.drop_ins.entry(unit.to_owned()).or_default().insert(drop_in.to_owned(), text.to_owned());
    let _ = files.starters();
}
