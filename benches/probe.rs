//! What a thousand endpoints cost before the first packet: the kernel's socket table, and routes by netlink. Nothing is sent.

use netdiag::{
    api::Direction,
    probe::{Network, SocketTable},
};
use std::{fmt::Write, net::IpAddr};

fn main() {
    divan::main();
}

/// The kernel's text for 20,000 established connections to a thousand devices.
fn table_text() -> String {
    let mut text = String::new();
    for socket in 0..20_000_u32 {
        let (port, device) = (0x8000 + socket % 0x4000, socket % 1000);
        let _ = writeln!(
            text,
            "{socket:4}: 0270A8C0:{port:04X} {:02X}{:02X}000A:01F6 01 00000000:00000000 00:00000000 00000000     0        0 8125 1 0 20 4 30 10 -1",
            device % 256,
            device / 256
        );
    }
    text
}

fn devices() -> Vec<IpAddr> {
    (0..1000_u16).map(|device| IpAddr::from([10, 0, device.to_be_bytes()[0], device.to_be_bytes()[1]])).collect()
}

#[divan::bench]
fn parse_20_000_sockets(bencher: divan::Bencher<'_, '_>) {
    let text = table_text();
    bencher.counter(divan::counter::BytesCount::of_str(&text)).bench(|| SocketTable::parse(&text, ""));
}

#[divan::bench]
fn look_up_1000_endpoints_among_20_000_sockets(bencher: divan::Bencher<'_, '_>) {
    let table = SocketTable::parse(&table_text(), "");
    let devices = devices();
    // The kernel's words are little-endian, so the text above has the octets of each device in reverse.
    let found: u32 = devices.iter().map(|device| table.view(Direction::Outbound, Some(*device), 502, &[]).established).sum();
    assert_eq!(found, 20_000);
    bencher
        .bench(|| devices.iter().map(|device| table.view(Direction::Outbound, Some(*device), 502, &[]).established).sum::<u32>());
}

#[divan::bench(sample_count = 20)]
fn routes_to_1000_addresses(bencher: divan::Bencher<'_, '_>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let addresses: Vec<IpAddr> =
        (0..1000_u16).map(|host| IpAddr::from([127, 0, host.to_be_bytes()[0], host.to_be_bytes()[1]])).collect();
    let network = match runtime.block_on(Network::open()) {
        Ok(network) => network,
        Err(error) => return println!("no netlink: {error}"),
    };
    bencher.bench_local(|| runtime.block_on(network.routes(&addresses)).len());
}
