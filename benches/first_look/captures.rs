//! Long captures to measure with: real ones repeated with shifted times and addresses, and conversations that stay open, made in memory.

use super::testing::Conversation;
use netdiag::packet::{InterfaceDescription, LinkType, Packet, Reader, SectionDescription, Writer, decompressed};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{self, File},
    io::{self, BufWriter},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Repetitions that go on at the same time.
const AT_ONCE: usize = 8;
/// Pauses of a capture are shortened to this.
const LONGEST_PAUSE_NS: i64 = 500_000_000;
/// What each repetition adds to the addresses of the one before: another network, and another host in it.
const SHIFT: u32 = 0x0001_0001;
const BEGIN_NS: i64 = 1_700_000_000_000_000_000;

/// Ethernet frames with IPv4, and when they came.
type Frames = Vec<(i64, Vec<u8>)>;

/// The captures to repeat: these files; or those with Modbus of the collection beside the repository, if it is there; or the project's own.
pub fn sources(named: &[String]) -> Vec<PathBuf> {
    if !named.is_empty() {
        return named.iter().map(PathBuf::from).collect();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("../shared/pcaps")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = files.filter(|path| speaks_modbus(path)).collect();
    found.sort();
    if found.is_empty() { vec![root.join("examples/first_look/site.pcapng.gz")] } else { found }
}

/// Whether most of a capture's packets are of Modbus TCP.
fn speaks_modbus(path: &Path) -> bool {
    let Ok(frames) = frames(path) else { return false };
    let port = |bytes: &[u8], at: usize| bytes.get(at..at + 2) == Some(&502_u16.to_be_bytes()[..]);
    let modbus = frames.iter().filter(|(_, bytes)| port(bytes, 34) || port(bytes, 36)).count();
    modbus > 100 && modbus * 2 > frames.len()
}

fn frames(path: &Path) -> io::Result<Frames> {
    let mut reader = Reader::new(decompressed(File::open(path)?)?)?;
    let mut frames = Frames::new();
    while let Some(packet) = reader.next_packet()? {
        let is_ipv4 = packet.data.get(12..15).is_some_and(|bytes| bytes == [8, 0, 0x45]);
        if packet.link_type == LinkType::ETHERNET && is_ipv4 && packet.data.len() >= 38 {
            frames.push((packet.unix_ns, packet.data.to_vec()));
        }
    }
    Ok(frames)
}

/// Writes a pcapng file; gives how many packets were written.
struct Out {
    writer: Writer<BufWriter<File>>,
    packets: u64,
}

impl Out {
    fn create(path: &Path) -> io::Result<Self> {
        let mut writer = Writer::new(BufWriter::new(File::create(path)?), &SectionDescription::default())?;
        let name = "eth0".to_owned();
        writer.interface(&InterfaceDescription { name, link_type: LinkType::ETHERNET, snaplen: 0, filter: None })?;
        Ok(Self { writer, packets: 0 })
    }

    fn put(&mut self, unix_ns: i64, data: &[u8]) -> io::Result<()> {
        self.packets += 1;
        let (number, wire_len) = (self.packets, data.len() as u32);
        self.writer.packet(&Packet { number, unix_ns, interface: 0, link_type: LinkType::ETHERNET, wire_len, data })
    }
}

/// One repetition of a capture.
struct Repetition<'a> {
    frames: &'a Frames,
    shift: u32,
    next: usize,
    at_ns: i64,
}

impl Repetition<'_> {
    /// Its next frame.
    fn shifted(&self) -> Option<Vec<u8>> {
        let mut bytes = self.frames.get(self.next)?.1.clone();
        for at in [26, 30] {
            let address = bytes.get_mut(at..at + 4)?.first_chunk_mut::<4>()?;
            *address = u32::from_be_bytes(*address).wrapping_add(self.shift).to_be_bytes();
        }
        Some(bytes)
    }

    fn go_on(&mut self) -> bool {
        let at = |place: usize| self.frames.get(place).map(|(at, _)| *at);
        let Some((before, next)) = at(self.next).zip(at(self.next + 1)) else { return false };
        self.at_ns += (next - before).clamp(0, LONGEST_PAUSE_NS);
        self.next += 1;
        true
    }
}

/// Repeats captures until there are so many packets; several repetitions go on at once, each with addresses of its own.
pub fn repeat(sources: &[PathBuf], packets: u64, path: &Path) -> io::Result<u64> {
    let captures: Vec<Frames> = sources.iter().map(|source| frames(source)).collect::<io::Result<_>>()?;
    let captures: Vec<&Frames> = captures.iter().filter(|frames| !frames.is_empty()).collect();
    if captures.is_empty() {
        return Err(io::Error::other("none of the captures holds IPv4 on Ethernet"));
    }
    let mut out = Out::create(path)?;
    let mut begun = 0;
    let mut begin = |at_ns| {
        let frames = captures[begun % captures.len()];
        begun += 1;
        Repetition { frames, shift: SHIFT.wrapping_mul(begun as u32), next: 0, at_ns }
    };
    let mut running: Vec<Repetition<'_>> = (0..AT_ONCE).map(|_| begin(BEGIN_NS)).collect();
    let mut turns: BinaryHeap<Reverse<(i64, usize)>> = (0..AT_ONCE).map(|place| Reverse((BEGIN_NS, place))).collect();
    while let Some(Reverse((at_ns, place))) = turns.pop() {
        if out.packets >= packets {
            break;
        }
        let repetition = &mut running[place];
        if let Some(bytes) = repetition.shifted() {
            out.put(at_ns, &bytes)?;
        }
        if !repetition.go_on() {
            *repetition = begin(at_ns + 1_000_000);
        }
        turns.push(Reverse((repetition.at_ns, place)));
    }
    Ok(out.packets)
}

/// Conversations that stay open: each with a server out of a fifth as many, and asks it `queries` different things, `rounds` times, evenly
/// over a week.
pub fn live(conversations: u32, queries: u16, rounds: u16, path: &Path) -> io::Result<u64> {
    const WEEK_NS: i64 = 7 * 86_400 * 1_000_000_000;
    let end = |network: u8, host: u32, port: u16| SocketAddr::from(([10, network, (host >> 8) as u8, host as u8], port));
    let servers = conversations / 5;
    let mut talks: Vec<Conversation> = (0..conversations)
        .map(|number| {
            let client = end(1, number / servers, 20_000 + (number % 40_000) as u16);
            Conversation::between(client, end(100, number % servers, 502))
        })
        .collect();
    let total = i64::from(conversations) * (3 + 2 * i64::from(queries) * i64::from(rounds));
    let mut out = Out::create(path)?;
    let mut put = |bytes: &[u8]| {
        let at = BEGIN_NS + WEEK_NS / total * i64::try_from(out.packets).unwrap_or(i64::MAX);
        out.put(at, bytes)
    };
    talks.iter_mut().flat_map(Conversation::handshake).try_for_each(|frame| put(&frame))?;
    for round in 0..rounds {
        for query in 0..queries {
            let [id_high, id_low] = (round * queries + query).to_be_bytes();
            let [high, low] = (query * 10).to_be_bytes();
            for talk in &mut talks {
                put(&talk.send(false, &[id_high, id_low, 0, 0, 0, 6, 1, 3, high, low, 0, 2]))?;
                put(&talk.send(true, &[id_high, id_low, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0, 2]))?;
            }
        }
    }
    Ok(total.unsigned_abs())
}
