//! Traffic that is recorded while it passes, and what the analysis says of it.

use crate::{
    second_opinion,
    support::{needs, wait_until},
};
use netdiag::{
    analysis::{Analysis, AnalysisSettings, Watch},
    api::{Finding, ServerReport},
    capture::{RecordingOptions, start},
    packet::{PacketSink, Reader},
};
use pnet::packet::{Packet as _, ethernet::EthernetPacket, ipv4::Ipv4Packet, tcp::TcpPacket};
use std::{
    fs::File,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A recording.
pub struct Recorded {
    _folder: TempDir,
    pub file: PathBuf,
    /// How long the machine stood still at the most.
    pub hiccup: Duration,
}

/// Records the TCP of an interface of this thread's network while `traffic` runs. What the analysis makes of the live packets must be
/// what it makes of the file.
pub fn record(interface: &str, settings: &AnalysisSettings, traffic: impl FnOnce()) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording.pcapng");
    let live = Arc::new(Mutex::new(analysis(settings, Vec::new())));
    let options = RecordingOptions::new(vec![interface.to_owned()], "tcp".to_owned(), file.clone());
    let recording = start(options, Arc::clone(&live)).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let watch = thread::spawn(move || longest_hiccup(&over));
    traffic();
    // The last acknowledgements of the end are on their way.
    thread::sleep(Duration::from_millis(50));
    is_over.store(true, Ordering::Relaxed);
    let hiccup = watch.join().unwrap();
    let report = recording.stop();
    assert_eq!((report.problem.as_deref(), report.kernel_dropped, report.not_written), (None, 0, 0), "{report:?}");
    let recorded = Recorded { _folder: folder, file, hiccup };
    let mut live = live.lock().unwrap();
    live.finish();
    assert_eq!(
        live.findings(),
        recorded.looked_at(settings, Vec::new()).findings(),
        "the packets as they came, and those of the file"
    );
    recorded
}

/// How much too late a thread was woken at the most.
fn longest_hiccup(is_over: &AtomicBool) -> Duration {
    const NAP: Duration = Duration::from_millis(5);
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let before = Instant::now();
        thread::sleep(NAP);
        longest = longest.max(before.elapsed().saturating_sub(NAP));
    }
    longest
}

/// Makes the traffic anew when the machine stood still meanwhile: then what is slow is the machine's fault. The last time counts, however
/// it was.
pub fn without_hiccup(traffic: impl Fn() -> Recorded) -> Recorded {
    const HICCUP: Duration = Duration::from_millis(40);
    let mut recorded = traffic();
    for _ in 0..6 {
        if recorded.hiccup < HICCUP {
            break;
        }
        recorded = traffic();
    }
    recorded
}

fn analysis(settings: &AnalysisSettings, watches: Vec<Watch>) -> Analysis {
    Analysis::new(settings.clone(), watches, Vec::new())
}

/// What the analysis says.
pub struct Seen {
    pub findings: Vec<Finding>,
    pub server: ServerReport,
    pub copies: u64,
}

impl Recorded {
    /// The first look at the file. There must be one server.
    pub fn analyse(&self, settings: &AnalysisSettings) -> Seen {
        let analysis = self.looked_at(settings, Vec::new());
        let report = analysis.report();
        assert_eq!(report.findings, analysis.findings());
        let [server] = &report.servers[..] else { panic!("not one server: {:#?}", report.servers) };
        Seen { findings: report.findings, server: server.clone(), copies: analysis.counters().copies.segments }
    }

    /// The whole analysis of the file.
    pub fn looked_at(&self, settings: &AnalysisSettings, watches: Vec<Watch>) -> Analysis {
        let mut analysis = analysis(settings, watches);
        self.read(|packet| analysis.packet(packet));
        analysis.finish();
        analysis
    }

    fn read(&self, mut take: impl FnMut(&netdiag::packet::Packet<'_>)) {
        let mut reader = Reader::new(File::open(&self.file).unwrap()).unwrap();
        while let Some(packet) = reader.next_packet().unwrap() {
            take(&packet);
        }
        assert_eq!(reader.damage(), None);
    }

    /// The bytes that the TCP segment with this number carries.
    pub fn payload(&self, number: u64) -> Vec<u8> {
        let mut payload = None;
        self.read(|packet| {
            if packet.number == number {
                let ethernet = EthernetPacket::new(packet.data).unwrap();
                let ip = Ipv4Packet::new(ethernet.payload()).unwrap();
                payload = Some(TcpPacket::new(ip.payload()).unwrap().payload().to_vec());
            }
        });
        payload.unwrap_or_else(|| panic!("there is no packet {number}"))
    }

    /// Asks `tshark` for its opinion on each request and what came of it.
    pub fn assert_tshark_sees_the_same(&self, settings: &AnalysisSettings) {
        let Some(opinion) = second_opinion::on(&self.file, settings) else { return };
        assert!(opinion.figures > 0 && opinion.requests.values().sum::<usize>() > 0, "{opinion:?}");
        assert!(opinion.differ.is_empty(), "{:#?}", opinion.differ);
    }

    /// What `tshark` shows of these fields: for each, its values in the packets that have it. `None`, loudly, where it is not
    /// installed.
    pub fn tshark<const N: usize>(&self, fields: [&str; N]) -> Option<[Vec<String>; N]> {
        let mut command = Command::new("tshark");
        command.args(["-n", "-o", "tcp.reassemble_out_of_order:TRUE", "-T", "fields"]);
        command.args(fields.map(|field| ["-e", field]).as_flattened()).arg("-r").arg(&self.file);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                needs::missing(&format!("no second opinion, tshark: {error}"));
                return None;
            }
        };
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let values = |column| text.lines().filter_map(move |line| line.split('\t').nth(column).filter(|value| !value.is_empty()));
        Some(std::array::from_fn(|column| values(column).map(str::to_owned).collect()))
    }
}

impl Seen {
    /// The codes of the findings about a protocol (`modbus.`) with how often each was seen, by name.
    pub fn counts(&self, prefix: &str) -> Vec<(&str, u64)> {
        let about = self.findings.iter().filter(|finding| finding.code.starts_with(prefix));
        let mut counts: Vec<_> = about.map(|finding| (finding.code.as_str(), finding.count)).collect();
        counts.sort_unstable();
        counts
    }

    pub fn finding(&self, code: &str) -> &Finding {
        self.findings.iter().find(|finding| finding.code == code).unwrap_or_else(|| panic!("no {code} in {:#?}", self.findings))
    }
}

/// Waits for a thread of the test, and fails with it.
pub fn join<T>(what: &str, thread: thread::JoinHandle<T>) -> T {
    wait_until(what, Duration::from_secs(10), || thread.is_finished());
    thread.join().unwrap()
}
