//! Any bytes as a config file, in the directory of each process: no panic, no stall, and an endpoint whose id may stand in a uri.

use netdiag::{
    api::UtcTime,
    topology::{Process, assemble, read_file},
};

pub fn run(bytes: &[u8]) {
    let (directory, bytes) = bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first), rest));
    let process = Process::ALL[directory % Process::ALL.len()];
    let reports = vec![read_file(&format!("{process}/a.json"), bytes), read_file("configs/b.json", bytes)];
    for endpoint in assemble(reports, UtcTime::from_unix_ns(0)).endpoints {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        assert!(endpoint.endpoint_id.chars().all(is_legal), "{}", endpoint.endpoint_id);
    }
}
