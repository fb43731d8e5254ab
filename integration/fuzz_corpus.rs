//! What the fuzz targets found worth keeping, replayed: each file of `fuzz/corpus` through its target, whole, cut, and damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

#[test]
fn every_target_takes_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut failed = Vec::new();
    for (name, run) in targets::ALL {
        let folder = corpus.join(name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let inputs: Vec<PathBuf> = inputs.map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{} has no inputs", folder.display());
        failed.extend(inputs.into_iter().filter(|input| catch_unwind(|| replay(*run, &fs::read(input).unwrap())).is_err()));
    }
    assert!(failed.is_empty(), "what is wrong stands above; it was found with {failed:#?}");
}

/// An input whole, cut, and damaged.
fn replay(run: targets::Target, input: &[u8]) {
    run(input);
    // The middle of an input is where its cuts and damages do most.
    let middle = input.len() / 2;
    run(&input[..middle]);
    run(&input[middle..]);
    let mut damaged = input.to_vec();
    if let Some(byte) = damaged.get_mut(middle) {
        *byte ^= 0x55;
    }
    run(&damaged);
}

#[test]
fn every_target_is_wired() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name} has no fuzz target");
    }
    assert_eq!(fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count(), targets::ALL.len());
}
