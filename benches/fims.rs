//! The bus: a message to bytes and back, and round trips through the broker over a real socket.
//!
//! `cargo bench --bench fims`

#![allow(clippy::unwrap_used, clippy::expect_used)]

use divan::{Bencher, black_box, counter::BytesCount};
use netdiag::fims::{self, Broker, Cipher, Client, ClientOptions, Incoming, Message, Subscription};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Body sizes: a usual publication, and a large result.
const SIZES: [usize; 2] = [200, 100_000];

fn main() {
    divan::main();
}

fn message(body: usize) -> Message {
    Message {
        replyto: Some("/netdiag_reply/1".to_owned()),
        process_name: "bench".to_owned(),
        ..Message::new("set", "/netdiag/connectivity/start").with_body(vec![b'x'; body])
    }
}

#[divan::bench(args = SIZES)]
fn encode(bencher: Bencher<'_, '_>, body: usize) {
    let message = message(body);
    bencher.counter(BytesCount::new(body)).bench(|| black_box(&message).encode(&Cipher::PLAIN).unwrap());
}

#[divan::bench(args = SIZES)]
fn decode(bencher: Bencher<'_, '_>, body: usize) {
    let bytes = message(body).encode(&Cipher::PLAIN).unwrap();
    bencher.counter(BytesCount::new(body)).bench(|| Message::decode(black_box(&bytes), &Cipher::PLAIN).unwrap());
}

#[divan::bench(args = SIZES)]
fn encode_and_decode_encrypted(bencher: Bencher<'_, '_>, body: usize) {
    let (message, cipher) = (message(body), Cipher::from_key_text(b"a secret of the site"));
    bencher.counter(BytesCount::new(body)).bench(|| Message::decode(&message.encode(&cipher).unwrap(), &cipher).unwrap());
}

/// One client sends, another receives, in turn: two crossings of the socket and one pass through the broker.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 200)]
fn through_the_broker(bencher: Bencher<'_, '_>, body: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let (sender, mut incoming) = runtime.block_on(join(&runtime, &stop));
    let message = message(body);
    bencher.counter(BytesCount::new(body)).bench_local(|| {
        runtime.block_on(async {
            sender.send(message.clone()).unwrap();
            incoming.recv().await.unwrap()
        })
    });
    stop.cancel();
}

async fn join(runtime: &Runtime, stop: &CancellationToken) -> (Client, Incoming) {
    let socket = std::env::temp_dir().join(format!("netdiag-bench-{}.socket", uuid::Uuid::now_v7()));
    runtime.spawn(Broker::bind(&socket, Cipher::PLAIN).unwrap().run(stop.clone()));
    let (receiver, incoming) = fims::connect(ClientOptions {
        subscriptions: vec![Subscription::all("/netdiag")],
        ..ClientOptions::new(&socket, "receiver")
    });
    receiver.ready(std::time::Duration::from_secs(5)).await.unwrap();
    // The client ends with its last handle; the benchmark's process does not outlive it by much.
    std::mem::forget(receiver);
    let (sender, _) = fims::connect(ClientOptions::new(&socket, "sender"));
    sender.ready(std::time::Duration::from_secs(5)).await.unwrap();
    (sender, incoming)
}
