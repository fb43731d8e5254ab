//! How fast a tree of config files becomes a topology: `cargo bench --bench topology`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use divan::{Bencher, counter::BytesCount, counter::ItemsCount};
use netdiag::{
    api::UtcTime,
    topology::{ScanOptions, activity::Sources, compare, footprint, read_file, scan},
};
use std::{fmt::Write, fs};

fn main() {
    divan::main();
}

/// A client config of a usual size: `components` components of 60 points each, about 6 kB a component.
fn client(number: usize, components: usize) -> String {
    let mut text = format!(
        r#"{{"connection": {{"name": "device {number}", "ip_address": "10.{}.{}.{}", "port": 502, "device_id": 1}}, "components": ["#,
        number / 60_000,
        number / 250 % 240,
        number % 250
    );
    for component in 0..components {
        let comma = if component > 0 { "," } else { "" };
        let _ = write!(
            text,
            r#"{comma}{{"id": "device_{number}_{component}", "frequency": 500, "heartbeat_enabled": true,
            "component_heartbeat_read_uri": "point_59", "registers": [{{"type": "Holding Registers", "map": ["#
        );
        for point in 0..60 {
            let comma = if point > 0 { "," } else { "" };
            let _ = write!(
                text,
                r#"{comma}{{"id": "point_{point}", "offset": {point}, "size": 1, "name": "Measured value {point}", "scale": 10}}"#
            );
        }
        text.push_str("]}]}");
    }
    text.push_str("]}");
    text
}

/// 2000 files in 40 directories, and how to scan them as the service does: with all that this host starts.
fn tree() -> (tempfile::TempDir, ScanOptions) {
    let root = tempfile::tempdir().unwrap();
    for number in 0..2000 {
        let dir = root.path().join(format!("block_{}/modbus_client", number % 40));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("device_{number}.json")), client(number, 3)).unwrap();
    }
    let options = ScanOptions { dirs: vec![root.path().to_owned()], sources: Sources::of_this_host(), ..ScanOptions::default() };
    (root, options)
}

/// What the service does on a period to see whether anything has changed.
#[divan::bench(sample_count = 10)]
fn look_at_a_tree_of_2000_files(bencher: Bencher<'_, '_>) {
    let (_root, options) = tree();
    bencher.counter(ItemsCount::new(2000_usize)).bench(|| (footprint(&options), options.sources.read()));
}

#[divan::bench(sample_count = 10)]
fn compare_topologies_of_2000_endpoints(bencher: Bencher<'_, '_>) {
    let (_root, options) = tree();
    let (before, mut after) = (scan(&options, UtcTime::from_unix_ns(0)), scan(&options, UtcTime::from_unix_ns(1)));
    for endpoint in after.endpoints.iter_mut().step_by(2) {
        endpoint.port = Some(503);
    }
    assert_eq!(compare(&before, &after).changed.len(), 1000);
    bencher.bench(|| compare(&before, &after));
}

#[divan::bench(sample_count = 10)]
fn scan_a_tree_of_2000_files(bencher: Bencher<'_, '_>) {
    let (_root, options) = tree();
    let topology = scan(&options, UtcTime::from_unix_ns(0));
    assert_eq!((topology.endpoints.len(), topology.problems.len()), (2000, 0));
    bencher.counter(ItemsCount::new(2000_usize)).bench(|| scan(&options, UtcTime::from_unix_ns(0)));
}

#[divan::bench]
fn read_a_file(bencher: Bencher<'_, '_>) {
    let text = client(1, 3);
    bencher.counter(BytesCount::of_str(&text)).bench(|| read_file("modbus_client/device.json", text.as_bytes()));
}

/// The worst that a file within the size limit can ask for: as many values as are read at all.
#[divan::bench(sample_count = 10)]
fn read_a_hostile_file_of_16_mib(bencher: Bencher<'_, '_>) {
    let text = format!("{{\"connection\": {{}}, \"components\": [{}0]}}", "[],".repeat(5_500_000));
    bencher.bench(|| read_file("modbus_client/device.json", text.as_bytes()));
}
