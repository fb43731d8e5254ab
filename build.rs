//! Names the commit that the program is built of, for the supervisor's question: what `NETDIAG_COMMIT` says (an image is built without
//! the repository), else what git says, else "unknown" (a source archive).
//!
//! A debug build is of no commit: it is made of what is being worked on, and each commit would have everything compiled anew.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=NETDIAG_COMMIT");
    let told = env::var("NETDIAG_COMMIT").ok().filter(|commit| !commit.is_empty());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = told.or_else(|| {
        let here = env::var_os("CARGO_MANIFEST_DIR").filter(|_| is_release)?;
        let Commit { id, shown_by } = Commit::checked_out_at(Path::new(&here))?;
        shown_by.iter().for_each(|file| println!("cargo::rerun-if-changed={}", file.display()));
        Some(id)
    });
    println!("cargo::rustc-env=NETDIAG_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// A commit, and the files that change with it.
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) shown_by: Vec<PathBuf>,
}

impl Commit {
    /// The commit that is checked out at `here`, if that is the top of a repository: an archive that was unpacked within another
    /// repository is not of its commit.
    pub(crate) fn checked_out_at(here: &Path) -> Option<Self> {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").arg("-C").arg(here).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
            (output.status.success() && !text.is_empty()).then_some(text)
        };
        let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
        if top.canonicalize().ok()? != here.canonicalize().ok()? {
            return None;
        }
        let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
        let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
        let files = names.filter_map(|name| Some(here.join(git(&["rev-parse", "--git-path", name])?)));
        // For a file that is not there, cargo would begin anew each time.
        Some(Self { id: git(&["rev-parse", "--short=12", "HEAD"])?, shown_by: files.filter(|file| file.exists()).collect() })
    }
}
