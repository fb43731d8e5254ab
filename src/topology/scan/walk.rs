//! The walk through the config directories: each file once, however it can be reached.

use super::ScanOptions;
use crate::{api::Problem, topology::problem::ProblemCode};
use std::{
    collections::HashSet,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What makes two paths the same file or directory.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What a walk has found.
pub(super) struct Walk<'o> {
    options: &'o ScanOptions,
    /// The files to read, in the order of the walk.
    pub files: Vec<PathBuf>,
    /// Every directory that was entered.
    pub dirs: Vec<PathBuf>,
    /// The directories and files that were reached; a symbolic link to one of them leads nowhere new.
    seen: HashSet<Identity>,
    /// Symbolic links are followed last, so that a file is known by its own path if it has one below the directories.
    links: Vec<(PathBuf, usize)>,
    entries: usize,
    /// What was odd on the way.
    pub problems: Vec<Problem>,
}

impl<'o> Walk<'o> {
    /// Walks through all directories of the options.
    pub fn through(options: &'o ScanOptions) -> Self {
        let (files, links, problems) = (Vec::new(), Vec::new(), Vec::new());
        let mut walk = Self { options, files, dirs: Vec::new(), seen: HashSet::new(), links, entries: 0, problems };
        let mut dirs = options.dirs.clone();
        dirs.sort();
        dirs.dedup();
        for dir in dirs {
            match fs::metadata(&dir) {
                Ok(metadata) if metadata.is_dir() => walk.directory(dir, &metadata, 0),
                Ok(_) => walk.tell(ProblemCode::Unreadable, &dir, "it is no directory".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    walk.tell(ProblemCode::DirectoryMissing, &dir, "the config directory does not exist".to_owned());
                }
                Err(error) => walk.tell(ProblemCode::Unreadable, &dir, format!("cannot be read: {error}")),
            }
        }
        walk.follow_links();
        walk
    }

    /// Adds a file that lies outside of the directories, or that their rules leave out, unless it was reached already.
    pub fn add(&mut self, path: PathBuf) {
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
            && self.files.len() < self.options.max_files
            && self.seen.insert(identity(&metadata))
        {
            self.files.push(path);
        }
    }

    fn tell(&mut self, code: ProblemCode, path: &Path, message: String) {
        self.problems.push(code.at(&path.to_string_lossy(), message));
    }

    fn directory(&mut self, dir: PathBuf, metadata: &Metadata, depth: usize) {
        let mut waiting = vec![(dir, identity(metadata), depth)];
        while let Some((dir, identity_of_dir, depth)) = waiting.pop() {
            if !self.seen.insert(identity_of_dir) {
                continue;
            }
            if depth > self.options.max_depth {
                self.tell(ProblemCode::TooMany, &dir, format!("more than {} directories deep", self.options.max_depth));
                continue;
            }
            let entries = match sorted_entries(&dir, self.options.max_entries) {
                Ok(entries) => entries,
                Err(error) => {
                    self.tell(ProblemCode::Unreadable, &dir, format!("the directory cannot be read: {error}"));
                    continue;
                }
            };
            self.dirs.push(dir.clone());
            for path in entries {
                self.entries += 1;
                if self.entries > self.options.max_entries {
                    if self.entries == self.options.max_entries + 1 {
                        self.tell(ProblemCode::TooMany, &dir, format!("more than {} directory entries", self.options.max_entries));
                    }
                    return;
                }
                match fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_symlink() => self.links.push((path, depth + 1)),
                    Ok(metadata) if metadata.is_dir() => {
                        if self.is_wanted(&path) {
                            waiting.push((path, identity(&metadata), depth + 1));
                        }
                    }
                    Ok(metadata) => self.file(path, &metadata),
                    Err(error) => self.tell(ProblemCode::Unreadable, &path, format!("cannot be looked at: {error}")),
                }
            }
        }
    }

    /// Whether a directory is to be read; a backup folder is told and left out.
    fn is_wanted(&mut self, dir: &Path) -> bool {
        let name = dir.file_name().unwrap_or_default();
        let is_backup = name.eq_ignore_ascii_case("backup") || name.eq_ignore_ascii_case("backups");
        if is_backup && !self.options.include_backups {
            self.tell(ProblemCode::BackupSkipped, dir, "the backup folder was left out".to_owned());
            return false;
        }
        true
    }

    fn file(&mut self, path: PathBuf, metadata: &Metadata) {
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return;
        }
        if !metadata.is_file() {
            self.tell(ProblemCode::Unreadable, &path, "it is no regular file".to_owned());
            return;
        }
        if self.files.len() >= self.options.max_files {
            let limit = self.options.max_files;
            if !self.problems.iter().any(|problem| problem.code == ProblemCode::TooMany.code()) {
                self.tell(ProblemCode::TooMany, &path, format!("more than {limit} files; this one and later ones were not read"));
            }
            return;
        }
        self.seen.insert(identity(metadata));
        self.files.push(path);
    }

    fn follow_links(&mut self) {
        if !self.options.follow_symlinks {
            return;
        }
        while !self.links.is_empty() {
            let mut links = std::mem::take(&mut self.links);
            links.sort();
            for (path, depth) in links {
                let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
                match fs::metadata(&path) {
                    Ok(metadata) if self.seen.contains(&identity(&metadata)) => {}
                    Ok(metadata) if metadata.is_dir() => {
                        if self.is_wanted(&path) {
                            self.directory(path, &metadata, depth);
                        }
                    }
                    Ok(metadata) => self.file(path, &metadata),
                    Err(error) if is_json => {
                        self.tell(ProblemCode::Unreadable, &path, format!("the symbolic link leads nowhere: {error}"));
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// The entries of a directory by name; one more than the limit, where there are more, is enough to notice.
fn sorted_entries(dir: &Path, limit: usize) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.take(limit.saturating_add(1)).map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}
