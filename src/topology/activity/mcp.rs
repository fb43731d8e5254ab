//! The lists of processes that the master control process starts: `{"processes": [{"name": "/usr/local/bin/…", "args": […]}]}`.

use super::{Starter, StarterKind, command_line::read_command_line};
use crate::topology::json::Json;

/// How many processes of one list are read.
const MAX_PROCESSES: usize = 1024;

/// Whether a document is such a list.
pub(in crate::topology) fn is_process_list(root: &Json<'_>) -> bool {
    match root.get("processes") {
        Some(Json::List(processes)) => {
            !processes.is_empty()
                && processes.iter().all(|process| {
                    process.get("name").and_then(Json::as_text).is_some() && matches!(process.get("args"), Some(Json::List(_)))
                })
        }
        _ => false,
    }
}

/// The processes of the list at `path` that read configs.
pub(in crate::topology) fn starters(root: &Json<'_>, path: &str) -> Vec<Starter> {
    let processes = root.get("processes").map(Json::elements).unwrap_or_default();
    let starter = |process: &Json<'_>| {
        let arguments = process.get("args").map(Json::elements).unwrap_or_default();
        let words: Vec<&str> = process.get("name").into_iter().chain(arguments).filter_map(Json::as_text).collect();
        let launch = read_command_line(&words)?;
        Some(Starter { listed_in: Some(path.to_owned()), ..Starter::new(StarterKind::Mcp, path, launch) })
    };
    processes.iter().take(MAX_PROCESSES).filter_map(starter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::json::first_value;

    #[test]
    fn the_processes_that_read_configs_are_taken() {
        let text = r#"{"processes": [
            {"name": "/usr/local/bin/modbus_client", "args": ["/usr/local/etc/config/modbus_client/bms.json"], "max_restarts": -1},
            {"name": "/usr/local/bin/events", "args": ["/usr/local/etc/config/events/"]}]}"#;
        let root = first_value(text).unwrap().0;
        assert!(is_process_list(&root));
        let [starter] = &starters(&root, "mcp/mcp_x.json")[..] else { panic!() };
        assert_eq!((starter.name.as_str(), starter.launch.files.len()), ("mcp/mcp_x.json", 1));
    }

    #[test]
    fn what_only_resembles_a_list_is_none() {
        for text in
            ["[]", r#"{"processes": []}"#, r#"{"processes": {}}"#, r#"{"processes": [{"name": "x"}]}"#, r#"{"processes": [1]}"#]
        {
            assert!(!is_process_list(&first_value(text).unwrap().0), "{text}");
        }
    }
}
