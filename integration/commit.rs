//! The commit that a release names itself by, in a clone, in a source archive, and in an archive within another repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../build.rs"]
mod build;

use build::Commit;
use std::{fs, path::Path, process::Command};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").arg("-C").arg(directory).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_commit_is_that_of_the_repository_whose_top_it_is() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Commit::checked_out_at(dir.path()).is_none(), "an archive is of no commit");
    git(dir.path(), &["init", "--quiet"]);
    assert!(Commit::checked_out_at(dir.path()).is_none(), "nothing is committed yet");
    for file in ["one", "two"] {
        fs::write(dir.path().join(file), file).unwrap();
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "--quiet", "--message", file]);
    }
    let Commit { id, shown_by } = Commit::checked_out_at(dir.path()).unwrap();
    assert_eq!((id.len(), git(dir.path(), &["rev-parse", &id])), (12, git(dir.path(), &["rev-parse", "HEAD"])));
    let modified = || shown_by.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
    let before = modified();
    git(dir.path(), &["checkout", "--quiet", "--detach", "HEAD~1"]);
    assert_ne!(modified(), before, "another commit shows in {shown_by:?}");
    assert_ne!(Commit::checked_out_at(dir.path()).unwrap().id, id);
    let within = dir.path().join("within");
    fs::create_dir(&within).unwrap();
    assert!(Commit::checked_out_at(&within).is_none(), "an archive within another repository is not of its commit");
}
