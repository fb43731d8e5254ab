//! The picture in ARCHITECTURE.md stays true: each room uses only the rooms below it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms it may use, lowest first. What stands in no row may be used by nobody.
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("packet", &[]),
    ("protocol", &[]),
    ("topology", &["api"]),
    ("analysis", &["api", "packet", "protocol"]),
    ("fims", &["api"]),
    ("probe", &["api"]),
    ("capture", &["api", "packet"]),
    ("jobs", &["api"]),
    ("connectivity", &["api", "packet", "topology", "analysis", "probe", "capture"]),
    ("monitor", &["api"]),
    ("http", &[]),
    ("archive", &["api", "packet", "http"]),
    (
        "service",
        &[
            "api",
            "packet",
            "topology",
            "analysis",
            "fims",
            "probe",
            "capture",
            "jobs",
            "connectivity",
            "monitor",
            "archive",
            "http",
        ],
    ),
    ("lab", &["api", "packet", "protocol", "fims"]),
    ("cli", &["api", "topology", "analysis", "fims", "probe", "capture", "service", "lab"]),
];

/// Plain functions over values: what stands here (a folder, or a file) does no I/O, asks no clock and knows no tokio ...
const PURE: &[&str] = &[
    "api",
    "packet",
    "protocol",
    "topology",
    "analysis",
    "monitor",
    "fims/codec.rs",
    "jobs/state.rs",
    "connectivity/plan.rs",
    "connectivity/outcome.rs",
    "connectivity/verdict",
    "archive/retention.rs",
    "archive/waiting.rs",
    "archive/clock.rs",
];

/// ... but for these, which are the edges of their rooms.
const EDGES: &[&str] = &["topology/scan", "topology/activity/sources.rs"];

/// What only edges need.
const IMPURE: &[&str] = &[
    "tokio::",
    "async fn",
    "fs::",
    "File::",
    "thread::",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "UtcTime::now",
    "TcpStream",
    "UdpSocket",
    "env::var",
];

#[test]
fn the_cores_are_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let edges: Vec<PathBuf> = EDGES.iter().map(|edge| src.join(edge)).collect();
    let mut wrong = Vec::new();
    for file in PURE.iter().flat_map(|pure| rust_files(&src.join(pure))) {
        let is_test = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        if is_test || edges.iter().any(|edge| file.starts_with(edge)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for word in impure_words(&text) {
            wrong.push(format!("{} has `{word}`", file.strip_prefix(&src).unwrap().display()));
        }
    }
    assert!(wrong.is_empty(), "these are to be plain functions over values:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_impure_words_passes_over_tests_and_comments() {
    let text = "/// Not fs::read.\nfn now() { Instant::now(); }\n#[cfg(test)]\nmod tests { fs::write(); }\n";
    assert_eq!(impure_words(text), ["Instant::now"]);
}

fn impure_words(text: &str) -> Vec<&'static str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code = without_comments(code);
    IMPURE.iter().copied().filter(|word| code.contains(word)).collect()
}

#[test]
fn dependency_runs_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        for file in rust_files(&src.join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for used in rooms_used(&text) {
                if used != *room && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{} uses crate::{used}", file.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "against the one direction of dependency:\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_is_a_room_and_no_room_uses_one_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders: BTreeSet<String> = fs::read_dir(src)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect());
    for (index, (room, allowed)) in ROOMS.iter().enumerate() {
        for used in *allowed {
            assert!(ROOMS[..index].iter().any(|(below, _)| below == used), "{room} uses {used}, which is not below it");
        }
    }
}

#[test]
fn the_reader_of_uses_sees_them_in_every_form() {
    let text = "use crate::api::Job;\nuse crate::{\n  fims::{self, Client},\n  probe,\n};\nlet x = crate::jobs::now();";
    assert_eq!(rooms_used(text), ["api", "fims", "jobs", "probe"].map(str::to_owned).into());
}

/// The first path segment after each `crate::`, also within one level of braces.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let code = without_comments(text);
    let mut used = BTreeSet::new();
    for (position, _) in code.match_indices("crate::") {
        let rest = &code[position + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (1, 0);
            for (at, character) in group.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 || (depth == 1 && character == ',') {
                    used.extend(word(group[start..at].trim()));
                    start = at + 1;
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            used.extend(word(rest));
        }
    }
    used
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// A leading module name; types and macros are none.
fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit()).collect();
    (!word.is_empty() && text[word.len()..].chars().next().is_none_or(|c| !c.is_ascii_alphanumeric())).then_some(word)
}

/// The Rust files in a folder and below, or the one file itself.
fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_path_buf()];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => files.extend(rust_files(&entry)),
            false if entry.extension().is_some_and(|extension| extension == "rs") => files.push(entry),
            false => {}
        }
    }
    files
}
