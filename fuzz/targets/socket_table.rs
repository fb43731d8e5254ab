//! The kernel's socket tables, as text that may be anything.

use netdiag::{api::Direction, probe::SocketTable};

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let table = SocketTable::parse(&text, &text);
    for direction in [Direction::Outbound, Direction::Inbound, Direction::Undetermined] {
        table.view(direction, None, 502, &[]);
        table.view(direction, Some([127, 0, 0, 1].into()), 502, &[]);
    }
}
