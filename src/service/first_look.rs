//! The first look at a capture file as a job: only files below the allowed directories, with progress, and cancelled at any time.

use super::{
    replies::Core,
    runners::{local_addresses, record},
};
use crate::{
    analysis::{Analysis, Expectation, ReadThrough, Watch},
    api::{AnalysisReport, AnalysisRequest, AnalysisVerdict, ApiError, ErrorCode, JobState, JobSummary},
    jobs::{JobContext, Outcome, Runner},
};
use async_trait::async_trait;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    ops::ControlFlow,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often the progress is told.
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);

/// Refuses a path that cannot be meant, before a job is made of it. Whether it really lies in an allowed directory is found out when
/// it is opened.
///
/// # Errors
/// `forbidden`, with the directories that are allowed.
pub(super) fn check_path(file: &str, allowed: &[PathBuf]) -> Result<PathBuf, ApiError> {
    let path = Path::new(file);
    let refuse = |why: &str| {
        let dirs: Vec<String> = allowed.iter().map(|dir| dir.display().to_string()).collect();
        let message = format!("`{file}` {why}; a file must lie below {}", dirs.join(" or "));
        ApiError { field: Some("file".to_owned()), ..ApiError::new(ErrorCode::Forbidden, message) }
    };
    if !path.is_absolute() {
        return Err(refuse("is no absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse("has `..` in it"));
    }
    if !allowed.iter().any(|dir| path.starts_with(dir)) {
        return Err(refuse("is in no directory that may be read"));
    }
    Ok(path.to_owned())
}

/// Opens a file that lies, with all links followed, below an allowed directory. Blocks.
fn open(path: &Path, allowed: &[PathBuf]) -> Result<File, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown}: {error}");
    let real = fs::canonicalize(path).map_err(unreadable)?;
    let dirs: Vec<PathBuf> = allowed.iter().filter_map(|dir| fs::canonicalize(dir).ok()).collect();
    let is_allowed = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir));
    let outside = || format!("{shown} leads out of the directories that may be read");
    if !is_allowed(&real) {
        return Err(outside());
    }
    // Neither a pipe nor a link that took its place meanwhile can lead astray.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&real).map_err(unreadable)?;
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(unreadable)?;
    if !is_allowed(&opened) {
        return Err(outside());
    }
    match file.metadata().map_err(unreadable)?.is_file() {
        true => Ok(file),
        false => Err(format!("{shown} is no regular file")),
    }
}

/// Looks at capture files.
pub(super) struct AnalysisRunner(pub(super) Weak<Core>);

#[async_trait]
impl Runner for AnalysisRunner {
    async fn run(&self, context: JobContext) -> Outcome {
        let Some(core) = self.0.upgrade() else { return Outcome::failed("the service is ending") };
        let request: AnalysisRequest = match serde_json::from_value(context.job.request.clone()) {
            Ok(request) => request,
            Err(error) => return Outcome::failed(format!("the request cannot be read back: {error}")),
        };
        let allowed = core.settings.analysis_dirs();
        let path = match check_path(&request.file, &allowed) {
            Ok(path) => path,
            Err(error) => return Outcome::failed(error.message),
        };
        context.progress(0.0, "opening the file");
        let site = core.sites.latest();
        let endpoints = &site.topology.endpoints;
        let analysis = Analysis::new(core.settings.analysis(), endpoints.iter().map(Watch::of).collect(), Vec::new())
            .with_listeners_at(&local_addresses(&site.topology))
            .with_expectations(site.configured().map(Expectation::of).collect())
            .with_heartbeats(core.heartbeats(&site.topology, endpoints));
        // Read in a thread of its own; the token ends it also when this future is dropped.
        let stop = context.cancel.child_token();
        let _stops_with_us = stop.clone().drop_guard();
        let (read, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let meter = (Arc::clone(&read), Arc::clone(&total));
        let mut looking = tokio::task::spawn_blocking(move || look(&path, &allowed, analysis, &stop, meter));
        let mut tick = tokio::time::interval(PROGRESS_PERIOD);
        let looked = loop {
            tokio::select! {
                looked = &mut looking => break looked,
                _ = tick.tick() => {
                    let (read, total) = (read.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
                    let part = if total == 0 { 0.0 } else { read as f64 / total as f64 };
                    context.progress(part.min(0.98), "reading the capture");
                }
            }
        };
        let (report, complete) = match looked {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => return Outcome::failed(error),
            Err(error) => return Outcome::failed(format!("the look failed: {error}")),
        };
        context.progress(0.99, "writing the result");
        let verdict = if report.verdict == AnalysisVerdict::Suspect { "suspect" } else { "clean" };
        let text = format!("{verdict}: {}", report.text);
        let recorded = record(&core, &context.job.job_id, Arc::new(report), complete).await;
        let state = if complete { JobState::Succeeded } else { JobState::Cancelled };
        Outcome { state, error: recorded.err(), summary: Some(JobSummary { text, ..JobSummary::default() }) }
    }
}

/// Reads the file through. Gives the report, and whether it is of the whole file.
fn look(
    path: &Path,
    allowed: &[PathBuf],
    mut analysis: Analysis,
    stop: &CancellationToken,
    (read, total): (Arc<AtomicU64>, Arc<AtomicU64>),
) -> Result<(AnalysisReport, bool), String> {
    let file = open(path, allowed)?;
    total.store(file.metadata().map_or(0, |metadata| metadata.len()), Ordering::Relaxed);
    let go_on = &mut |_: &mut Analysis, _| if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let through: ReadThrough =
        analysis.read_through(Counted { file, read }, go_on).map_err(|error| format!("{}: {error}", path.display()))?;
    if !through.is_capture {
        return Err(format!("{}: {}", path.display(), through.damage.unwrap_or_else(|| "it is no capture file".to_owned())));
    }
    let complete = !through.broken_off;
    Ok((analysis.report_of_file(path.display().to_string(), through), complete))
}

struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_that_cannot_be_meant_are_refused_by_name() {
        let allowed = [PathBuf::from("/captures")];
        assert!(check_path("/captures/a/b.pcap", &allowed).is_ok());
        for file in ["a.pcap", "/captures/../etc/passwd", "/etc/passwd", "/captures2/a.pcap", ""] {
            let error = check_path(file, &allowed).unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Forbidden, Some("file")), "{file}");
            assert!(error.message.contains("/captures"), "{}", error.message);
        }
    }

    #[test]
    fn a_link_leads_out_only_if_what_it_leads_to_is_allowed() {
        let (allowed, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "x").unwrap();
        fs::write(allowed.path().join("a.pcap"), "x").unwrap();
        symlink(outside.path().join("secret"), allowed.path().join("link.pcap")).unwrap();
        symlink(outside.path(), allowed.path().join("dir")).unwrap();
        symlink(allowed.path().join("a.pcap"), allowed.path().join("inner.pcap")).unwrap();
        let dirs = [allowed.path().to_owned()];
        let opened = |name: &str| open(&allowed.path().join(name), &dirs).map(drop);
        assert_eq!((opened("a.pcap"), opened("inner.pcap")), (Ok(()), Ok(())));
        for name in ["link.pcap", "dir/secret", "nowhere", "."] {
            assert!(opened(name).is_err(), "{name}");
        }
        let both = [dirs[0].clone(), outside.path().to_owned()];
        assert!(open(&allowed.path().join("link.pcap"), &both).is_ok());
    }
}
