//! What a test needs besides this repository, and what becomes of the test where that is not there: it fails, or says so. It never
//! passes in silence.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Whether whoever runs the tests wants all of them: `make test` sets `NETDIAG_REQUIRE_PEERS`, and CI sets `CI`.
fn is_all_wanted() -> bool {
    env::var_os("NETDIAG_REQUIRE_PEERS").is_some() || env::var_os("CI").is_some()
}

/// Something that `make setup-test` installs is not there. Panics where all tests are wanted; else says that nothing was tested.
pub fn missing(what: &str) {
    assert!(!is_all_wanted(), "{what}; `make setup-test` installs what the tests need");
    skipped(what);
}

/// Whether a program can be started; [`missing`] if not.
pub fn program(name: impl AsRef<Path>, argument: &str) -> bool {
    match Command::new(name.as_ref()).arg(argument).output() {
        Ok(_) => true,
        Err(error) => {
            missing(&format!("{}: {error}", name.as_ref().display()));
            false
        }
    }
}

/// A folder of the collection of real captures and configs that may lie beside the repository and is no part of it.
pub fn collection(folder: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")).join(folder);
    if path.is_dir() {
        return Some(path);
    }
    skipped(&format!("no collection of {folder} beside the repository"));
    None
}

/// Says that a test could not be made. Not by `eprintln`, which the test harness keeps to itself when the test passes.
fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "\n*** SKIPPED, NOTHING WAS TESTED: {name}: {why}\n");
}
