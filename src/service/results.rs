//! Results: kept at hand, read back from disk, and fitted to what a message can hold.

use crate::api::{AnalysisReport, ConnectivityResult, EndpointResult, Job, SnapshotList};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// The largest body that is sent: what a packet holds (924,288 bytes), less room for the header, the names and a cipher's padding.
pub(super) const BODY_MAX: usize = 924_288 - 2048;

/// So many whole results are kept at hand; older ones are read from disk.
const AT_HAND: usize = 4;

/// What is known of jobs beyond their state.
#[derive(Default)]
pub(super) struct Results {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The endpoints that the running test has decided.
    live: Option<(String, BTreeMap<String, Arc<EndpointResult>>)>,
    /// Result bodies by job, oldest first.
    bodies: VecDeque<(String, Arc<[u8]>)>,
}

impl Results {
    /// A test begins.
    pub(super) fn begin(&self, job_id: &str) {
        self.with(|inner| inner.live = Some((job_id.to_owned(), BTreeMap::new())));
    }

    /// The running test has decided an endpoint.
    pub(super) fn decided(&self, result: &EndpointResult) {
        self.with(|inner| {
            if let Some((_, endpoints)) = &mut inner.live {
                endpoints.insert(result.endpoint_id.clone(), Arc::new(result.clone()));
            }
        });
    }

    /// One endpoint of the running test, if it is decided.
    pub(super) fn live(&self, job_id: &str, endpoint_id: &str) -> Option<Arc<EndpointResult>> {
        self.with(|inner| match &inner.live {
            Some((running, endpoints)) if running == job_id => endpoints.get(endpoint_id).cloned(),
            _ => None,
        })
    }

    /// A job has its result, as it goes over the bus.
    pub(super) fn finished(&self, job_id: &str, body: Arc<[u8]>) {
        self.with(|inner| {
            inner.bodies.retain(|(known, _)| known != job_id);
            inner.bodies.push_back((job_id.to_owned(), body));
            if inner.bodies.len() > AT_HAND {
                inner.bodies.pop_front();
            }
        });
    }

    /// A result body that is at hand.
    pub(super) fn body(&self, job_id: &str) -> Option<Arc<[u8]>> {
        self.with(|inner| inner.bodies.iter().find(|(known, _)| known == job_id).map(|(_, body)| Arc::clone(body)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A value as a body. Our own types have string keys only, so this cannot fail; if it did, the asker would be told `null`.
pub(super) fn body_of<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a message could not be written");
        b"null".to_vec()
    })
}

/// A recorded result as it goes over the bus: whole if it fits, else without its endpoints but with where to get each.
pub(super) fn fit_result(base_uri: &str, recorded: &[u8], body_max: usize) -> Arc<[u8]> {
    // Recorded with indentation for people; sent without.
    let Ok(value) = serde_json::from_slice::<Value>(recorded) else { return recorded.into() };
    let whole = body_of(&value);
    if whole.len() <= body_max {
        return whole.into();
    }
    if let Ok(report) = serde_json::from_value::<AnalysisReport>(value.clone()) {
        return fit_report(report, body_max).into();
    }
    match serde_json::from_value::<ConnectivityResult>(value) {
        Ok(mut result) => {
            let uri = |endpoint: &EndpointResult| format!("{base_uri}/jobs/{}/endpoints/{}", result.job_id, endpoint.endpoint_id);
            result.endpoint_uris = result.endpoints.iter().map(uri).collect();
            result.endpoints.clear();
            // What the request listed is known to who sent it.
            result.request.targets = None;
            result.request.extra.clear();
            cut_list(&mut result.endpoint_uris, body_max / 2);
            for shorten in [
                |r: &mut ConnectivityResult| r.findings.truncate(20),
                |r: &mut ConnectivityResult| r.problems.truncate(20),
                |r: &mut ConnectivityResult| r.findings.clear(),
                |r: &mut ConnectivityResult| r.problems.truncate(1),
            ] {
                if body_of(&result).len() > body_max {
                    shorten(&mut result);
                }
            }
            body_of(&result).into()
        }
        Err(_) => whole.into(),
    }
}

/// A report of a capture with so much to tell that only the worst fits; it says what is left out, and where the whole is.
fn fit_report(mut report: AnalysisReport, body_max: usize) -> Vec<u8> {
    let (servers, heartbeats) = (report.servers_total.max(report.servers.len() as u64), report.heartbeats.len());
    report.findings_total = report.findings_total.max(report.findings.len() as u64);
    let mut most = report.servers.len().max(report.findings.len()).max(heartbeats);
    loop {
        let body = body_of(&report);
        if body.len() <= body_max || most == 0 {
            return body;
        }
        most /= 2;
        report.servers.truncate(most);
        report.findings.truncate(most.max(20));
        report.heartbeats.truncate(most.max(20));
        let file = report.file.as_deref().unwrap_or("FILE");
        report.left_out = Some(format!(
            "this message holds {} of {} findings, {} of {servers} servers and {} of {heartbeats} heartbeats, the worst ones; `netdiag \
             analyze --json {file}` on this host prints all",
            report.findings.len(),
            report.findings_total,
            report.servers.len(),
            report.heartbeats.len()
        ));
    }
}

/// A job as it goes over the bus: without its request if it does not fit, because who sent that knows it.
pub(super) fn fit_job(job: &Job, body_max: usize) -> Vec<u8> {
    let whole = body_of(job);
    if whole.len() <= body_max {
        return whole;
    }
    body_of(&Job { request: Value::Null, ..job.clone() })
}

/// A list of jobs as it goes over the bus: without their requests if that fits, else only the first ones.
pub(super) fn fit_jobs(mut jobs: Vec<Job>, body_max: usize) -> Vec<u8> {
    let mut body = body_of(&jobs);
    if body.len() > body_max {
        jobs.iter_mut().for_each(|job| job.request = Value::Null);
        body = body_of(&jobs);
    }
    while body.len() > body_max && !jobs.is_empty() {
        jobs.truncate(jobs.len() / 2);
        body = body_of(&jobs);
    }
    body
}

/// A list of snapshots as it goes over the bus: only the newest if not all fit, and where to go on.
pub(super) fn fit_snapshots(mut list: SnapshotList, body_max: usize) -> Vec<u8> {
    loop {
        let body = body_of(&list);
        if body.len() <= body_max || list.snapshots.is_empty() {
            return body;
        }
        list.snapshots.truncate(list.snapshots.len() / 2);
        list.next_before = list.snapshots.last().map(|last| last.snapshot_id.clone());
    }
}

pub(super) fn cut_list(uris: &mut Vec<String>, bytes_max: usize) {
    let mut bytes = 0;
    let fits = uris.iter().take_while(|uri| {
        bytes += uri.len() + 3;
        bytes <= bytes_max
    });
    let fits = fits.count();
    uris.truncate(fits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{Analysis, AnalysisSettings},
        api::{Finding, JobKind, Severity, UtcTime},
    };
    use proptest::prelude::*;

    #[test]
    fn a_report_too_large_for_a_message_says_how_much_of_it_is_missing_and_where_it_is() {
        let finding = Finding {
            code: "modbus.unanswered".to_owned(),
            severity: Severity::Warning,
            count: 1,
            first_at: None,
            last_at: None,
            endpoint_id: None,
            message: "x".repeat(200),
            packets: Vec::new(),
        };
        let mut report = Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new()).report();
        report.file = Some("/captures/a.pcap".to_owned());
        report.findings = vec![finding; 1000];
        let fit =
            |body_max| -> AnalysisReport { serde_json::from_slice(&fit_result("/netdiag", &body_of(&report), body_max)).unwrap() };
        assert_eq!(fit(BODY_MAX).left_out, None);
        let fitted = fit(100_000);
        assert_eq!((fitted.findings_total, fitted.findings.len()), (1000, 250));
        let left_out = fitted.left_out.unwrap();
        assert!(
            left_out.contains("250 of 1000 findings") && left_out.contains("netdiag analyze --json /captures/a.pcap"),
            "{left_out}"
        );
        assert!(fit_result("/netdiag", &body_of(&report), 100_000).len() <= 100_000);
    }

    #[test]
    fn a_job_too_large_for_a_message_is_told_without_its_request() {
        let mut jobs = crate::jobs::Jobs::new(crate::jobs::Limits::default());
        let mut submit = |id: &str, request: Value| {
            jobs.submit(id.to_owned(), JobKind::Connectivity, request, None, UtcTime::from_unix_ns(0)).unwrap()
        };
        let small = submit("a", serde_json::json!({"ping": true}));
        let large = submit("b", Value::from("x".repeat(10_000)));
        assert_eq!(fit_job(&large, 20_000), body_of(&large));
        let fitted: Job = serde_json::from_slice(&fit_job(&large, 5_000)).unwrap();
        assert_eq!(fitted, Job { request: Value::Null, ..large.clone() });
        let listed: Vec<Job> = serde_json::from_slice(&fit_jobs(vec![large.clone(), small.clone()], 5_000)).unwrap();
        assert_eq!((listed.len(), &listed[0]), (2, &fitted));
        let listed: Vec<Job> = serde_json::from_slice(&fit_jobs(vec![large, small], 400)).unwrap();
        assert_eq!(listed, [fitted]);
        assert_eq!(fit_jobs(listed, 10), b"[]");
    }

    proptest! {
        #[test]
        fn a_recorded_report_that_is_damaged_is_sent_as_far_as_it_can_be(at: prop::sample::Index, byte: u8, body_max in 0_usize..5_000) {
            let report = Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new()).report();
            let mut recorded = body_of(&report);
            let place = at.index(recorded.len());
            recorded[place] = byte;
            let fitted = fit_result("/netdiag", &recorded, body_max);
            prop_assert!(!fitted.is_empty());
            if let Ok(read) = serde_json::from_slice::<AnalysisReport>(&recorded) {
                prop_assert_eq!(serde_json::from_slice::<AnalysisReport>(&fitted).unwrap().packets, read.packets);
            }
        }
    }
}
