//! Real captures, when they lie beside the repository.

use crate::packet::*;
use std::{fs::File, io::Write as _, path::Path};

#[test]
fn real_captures_give_as_many_packets_as_expected() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/pcaps"));
    let Ok(expected) = std::fs::read(folder.join("expected.json")) else {
        // Not `eprintln`, which the test harness keeps to itself when the test passes.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, NOTHING WAS TESTED: no collection of captures beside the repository\n");
        return;
    };
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&expected).unwrap();
    let mut wrong = Vec::new();
    let mut read = 0;
    for (name, row) in expected.iter().filter(|(name, _)| !name.ends_with(".gz")) {
        let Ok(file) = File::open(folder.join(name)) else { continue };
        let mut reader = Reader::new(file).unwrap();
        let (mut cut, mut syn, mut rst) = (0, 0, 0);
        while let Some(packet) = reader.next_packet().unwrap() {
            cut += u64::from(packet.wire_len as usize > packet.data.len());
            if let Ok(Decoded { net: Net::Ip(Ip { transport: Transport::Tcp(tcp), .. }), .. }) =
                decode(packet.link_type, packet.data)
            {
                syn += u64::from(tcp.flags.syn() && !tcp.flags.ack());
                rst += u64::from(tcp.flags.rst());
            }
        }
        let number = |key: &str| row.get(key).map_or(Some(0), serde_json::Value::as_u64);
        // Random damage is judged by the number of packets alone.
        let is_judged = name != "derived__dev_bitrot.pcap";
        // What a number of `null` stands for is not judged.
        let differs = |key: &str, counted: u64| number(key).is_some_and(|expected| expected != counted);
        let flags_differ = is_judged && (differs("syn", syn) || differs("rst", rst));
        if differs("packets", reader.numbered()) || differs("cut_frames", cut) || flags_differ {
            wrong.push(format!("{name}: {} packets, {cut} cut, {syn} SYN, {rst} RST; expected {row}", reader.packets()));
        }
        let is_damaged = reader.damage().is_some_and(|damage| damage.kind != DamageKind::Empty);
        if is_damaged != row.get("damaged_file").is_some() {
            wrong.push(format!("{name}: {:?}; expected {row}", reader.damage()));
        }
        read += 1;
    }
    assert!(read > 100, "only {read} captures were there");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
