//! Reading the files of a scan, those too that are being written just now.

use super::{ScanOptions, content::read_settled};
use crate::{
    api::Problem,
    topology::{
        FileKind,
        activity::Launch,
        file::{FileReport, read_file_as},
        port::Services,
        problem::ProblemCode,
    },
};
use std::{cell::RefCell, collections::HashMap, path::Path};

/// What tells one reading from another: the file, and how the process is started that it was read as.
type Key = (String, Option<Launch>);

/// The last good reading of each file. It stands for a file that is being written while the next scan comes by.
#[derive(Debug, Default)]
pub struct Readings(HashMap<Key, FileReport>);

/// Reads the files of one scan.
pub(super) struct Reader<'s> {
    options: &'s ScanOptions,
    services: &'s Services,
    before: &'s Readings,
    now: RefCell<Readings>,
}

impl<'s> Reader<'s> {
    pub fn new(options: &'s ScanOptions, services: &'s Services, before: &'s Readings) -> Self {
        Self { options, services, before, now: RefCell::default() }
    }

    /// Reads a file, as a process does that was started with it, where one is. Of a file that is being written the last good reading
    /// stands; if there is none, only what could be read in spite of that.
    pub fn read(&self, path: &Path, launch: Option<&Launch>) -> Result<FileReport, Problem> {
        let content = read_settled(path, self.options.max_file_bytes)?;
        let shown = path.to_string_lossy();
        let report = read_file_as(&shown, &content.bytes, self.services, launch);
        let why = match content.is_settled {
            false => "the file changed while it was read",
            true if report.kind == FileKind::Broken && content.is_younger_than(self.options.settle) => {
                "the file was written just now and is no whole config yet"
            }
            true => {
                self.keep(launch, &report);
                return Ok(report);
            }
        };
        let problem = ProblemCode::FileChanging.at(&shown, why);
        let key = (shown.into_owned(), launch.cloned());
        let mut report = match self.before.0.get(&key) {
            Some(known) => {
                self.keep(launch, known);
                known.clone()
            }
            None => FileReport { problems: Vec::new(), ..report },
        };
        let endpoint_id = report.endpoint.as_ref().map(|endpoint| endpoint.endpoint_id.clone());
        report.problems.push(Problem { endpoint_id, ..problem });
        Ok(report)
    }

    fn keep(&self, launch: Option<&Launch>, report: &FileReport) {
        if report.is_ours() && report.kind != FileKind::Broken || !report.starters.is_empty() {
            self.now.borrow_mut().0.insert((report.path.clone(), launch.cloned()), report.clone());
        }
    }

    /// The good readings of this scan, for the next one.
    pub fn into_readings(self) -> Readings {
        self.now.into_inner()
    }
}
