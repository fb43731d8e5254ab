//! The bus over a real socket: delivery, restarts, encryption, and clients that lie, stall, flood or die.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use netdiag::fims::{
    self, Broker, Cipher, Client, ClientOptions, ConnectError, Incoming, Message, Requester, SendError, SubscribeError,
    Subscription,
};
use proptest::prelude::*;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(5);
const GREETING: [u8; 8] = [0x01, 0, 0, 0, 0x80, 0x1a, 0x0e, 0];

struct Bus {
    socket: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Bus {
    fn start(cipher: Cipher) -> Self {
        Self::at(&fresh_socket(), cipher)
    }

    fn at(socket: &Path, cipher: Cipher) -> Self {
        let broker = Broker::bind(socket, cipher).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(broker.run(stop.clone()));
        Self { socket: socket.to_owned(), stop, running }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }

    fn options(&self, name: &str, uris: &[&str]) -> ClientOptions {
        ClientOptions {
            subscriptions: uris.iter().map(|uri| Subscription::all(*uri)).collect(),
            ..ClientOptions::new(&self.socket, name)
        }
    }

    async fn client(&self, name: &str, uris: &[&str]) -> (Client, Incoming) {
        join(self.options(name, uris)).await
    }

    /// A connection below the library, to do what no library would.
    fn raw(&self) -> Socket {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(&self.socket).unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn greeted(&self, name: &[u8]) -> Socket {
        let mut socket = self.raw();
        let mut greeting = [0; 8];
        socket.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, GREETING);
        socket.write_all(&GREETING).unwrap();
        socket.write_all(name).unwrap();
        socket
    }
}

fn fresh_socket() -> PathBuf {
    std::env::temp_dir().join(format!("netdiag-fims-{}.socket", uuid::Uuid::now_v7()))
}

async fn join(options: ClientOptions) -> (Client, Incoming) {
    let (client, incoming) = fims::connect(options);
    client.ready(PATIENCE).await.unwrap();
    (client, incoming)
}

async fn next(incoming: &mut Incoming) -> Message {
    tokio::time::timeout(PATIENCE, incoming.recv()).await.expect("a message in time").unwrap()
}

/// A round trip through the broker, which proves that it serves.
async fn serves(bus: &Bus) {
    let (sender, _) = bus.client("sender", &[]).await;
    let (_receiver, mut incoming) = bus.client("receiver", &["/alive"]).await;
    sender.send(Message::new("set", "/alive").with_body("1")).unwrap();
    assert_eq!(next(&mut incoming).await.body.as_deref(), Some(&b"1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_parents_once_and_never_back() {
    let bus = Bus::start(Cipher::PLAIN);
    let (sender, mut own) = bus.client("sender", &["/a"]).await;
    let (_parent, mut parent) = bus.client("parent", &["/a", "/a/b", "/"]).await;
    let (_child, mut child) = bus.client("child", &["/a/b/c/d"]).await;
    let (_other, mut other) = bus.client("other", &["/ab"]).await;
    let options = ClientOptions { subscriptions: vec![Subscription::publications("/a")], ..bus.options("pub_only", &[]) };
    let (_pub_only, mut pub_only) = join(options).await;
    let message = Message {
        replyto: Some("/reply".to_owned()),
        username: Some("me".to_owned()),
        ..Message::new("set", "/a/b/c").with_body("{\"x\":1}")
    };
    sender.send(message.clone()).unwrap();
    let heard = next(&mut parent).await;
    assert_eq!((heard.method.as_str(), heard.uri.as_str(), heard.process_name.as_str()), ("set", "/a/b/c", "sender"));
    assert_eq!((heard.replyto.as_deref(), heard.body.as_deref()), (Some("/reply"), Some(&b"{\"x\":1}"[..])));
    sender.send(Message::new("pub", "/a/b/c")).unwrap();
    assert_eq!(next(&mut parent).await.body, None, "one copy of the first, then the second; no body is no body");
    assert_eq!(next(&mut pub_only).await.method, "pub");
    // Who hears this next has heard nothing else.
    let (fence, _) = bus.client("fence", &[]).await;
    fence.send(Message::new("pub", "/a/b/c/d")).unwrap();
    fence.send(Message::new("pub", "/ab")).unwrap();
    for incoming in [&mut own, &mut child, &mut parent, &mut pub_only] {
        assert_eq!(next(incoming).await.uri, "/a/b/c/d");
    }
    for incoming in [&mut other, &mut parent] {
        assert_eq!(next(incoming).await.uri, "/ab");
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscribe_replaces_and_bad_ones_are_answered_with_their_text() {
    let bus = Bus::start(Cipher::PLAIN);
    let (sender, _) = bus.client("sender", &[]).await;
    let (client, mut incoming) = bus.client("client", &["/old"]).await;
    client.subscribe(vec![Subscription::all("/new")]).await.unwrap();
    sender.send(Message::new("set", "/old")).unwrap();
    sender.send(Message::new("set", "/new")).unwrap();
    assert_eq!(next(&mut incoming).await.uri, "/new");
    let mut raw = bus.greeted(b"raw");
    let mut ask = |body: &[u8]| {
        let mut packet = vec![3, 0, 0, 3, 0, 0, 0, 0];
        packet.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        packet.extend_from_slice(b"subraw");
        packet.extend_from_slice(body);
        raw.write_all(&packet).unwrap();
        let mut answer = vec![0; 4096];
        let length = raw.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[12 + 11..length]).into_owned()
    };
    assert_eq!(ask(b"\x01\x00\x04/a:b"), "Invalid Uri: /a:b");
    assert_eq!(ask(b"\x00"), "No uris to subscribe to.");
    assert_eq!(ask(b""), "Subscribe did not have data.");
    assert_eq!(ask(b"\x01\x00\x02/a"), "SUCCESS");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_and_plain_programs_do_not_understand_each_other() {
    let key = Cipher::from_key_text(b"a secret of the site");
    let bus = Bus::start(key.clone());
    let keyed = |name: &str, uris: &[&str]| ClientOptions { cipher: key.clone(), ..bus.options(name, uris) };
    let (sender, _) = join(keyed("sender", &[])).await;
    let (_receiver, mut incoming) = join(keyed("receiver", &["/secret"])).await;
    sender.send(Message::new("set", "/secret").with_body("{\"value\": 1}")).unwrap();
    assert_eq!(next(&mut incoming).await.body.as_deref(), Some(&b"{\"value\": 1}"[..]));
    // A client without the key cannot even subscribe, and says so instead of waiting for ever.
    let (plain, _) = fims::connect(bus.options("plain", &["/secret"]));
    assert!(plain.ready(Duration::from_secs(3)).await.is_err());
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_by_itself_after_the_broker_does() {
    let bus = Bus::start(Cipher::PLAIN);
    let socket = bus.socket.clone();
    let (client, mut incoming) = bus.client("client", &["/x", "/y"]).await;
    bus.stop().await;
    let mut connected = client.connected();
    tokio::time::timeout(PATIENCE, connected.wait_for(|connected| !connected)).await.unwrap().unwrap();
    assert!(matches!(client.send(Message::new("set", "/z")), Err(SendError::NotConnected)), "it is not kept");
    assert_eq!(client.counters().send_dropped, 1);
    let bus = Bus::at(&socket, Cipher::PLAIN);
    client.ready(PATIENCE).await.unwrap();
    let (sender, _) = bus.client("sender", &[]).await;
    sender.send(Message::new("set", "/y/1")).unwrap();
    assert_eq!(next(&mut incoming).await.uri, "/y/1", "it is subscribed again, to all it was subscribed to");
    assert_eq!(client.counters().reconnects, 1);
    bus.stop().await;
    assert!(!socket.exists(), "the socket file goes with the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_sent_and_large_bodies_pass() {
    let bus = Bus::start(Cipher::PLAIN);
    let (sender, _) = bus.client("sender", &[]).await;
    let (_receiver, mut incoming) = bus.client("receiver", &["/big"]).await;
    let body = vec![b'x'; 100_000];
    sender.send(Message::new("set", "/big").with_body(body.clone())).unwrap();
    assert_eq!(next(&mut incoming).await.body.unwrap(), body);
    let error = sender.send(Message::new("set", "/big").with_body(vec![b'x'; fims::MAX_PACKET_LEN])).unwrap_err();
    assert!(error.to_string().contains("924288"), "{error}");
    assert!(sender.send(Message::new("set", "/big").with_body("small")).is_ok(), "the connection is good");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_harm_nobody_else() {
    let bus = Bus::start(Cipher::PLAIN);
    let mut kept = Vec::new();
    // One that stalls before the greeting, one that greets wrongly, one that dies in the middle.
    kept.push(bus.raw());
    let mut wrong = bus.raw();
    wrong.write_all(&[9; 8]).unwrap();
    kept.push(wrong);
    let mut dies = bus.raw();
    dies.write_all(&GREETING).unwrap();
    drop(dies);
    // Names of no length, of too much length.
    for name in [&[][..], &[b'n'; 300]] {
        let mut socket = bus.raw();
        let _ = socket.write_all(&GREETING);
        let _ = socket.write_all(name);
        kept.push(socket);
    }
    // Packets that lie about their lengths.
    let mut liar = bus.greeted(b"liar");
    for packet in [
        &[255; 12][..],
        &[3, 200, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, b's', b'e', b't'],
        &[0; 12],
        &[1],
        &[3, 2, 0, 4, 0, 0, 0, 0, 255, 255, 255, 255, b's', b'e', b't', b'/', b'a', b'l', b'i', b'a', b'r'],
    ] {
        let _ = liar.write_all(packet);
    }
    // One that subscribes to everything and never reads, while others flood.
    let (_deaf, deaf_incoming) = bus.client("deaf", &["/"]).await;
    let deaf = bus.greeted(b"deaf_raw");
    (&deaf).write_all(b"\x03\0\0\x08\0\0\0\0\x04\0\0\0subdeaf_raw\x01\0\x01/").unwrap();
    let (flood, _) = bus.client("flood", &[]).await;
    for number in 0..20_000_u32 {
        let _ = flood.send(Message::new("pub", "/flood").with_body(number.to_string()));
        if number % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    serves(&bus).await;
    drop((kept, liar, deaf, deaf_incoming));
    serves(&bus).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_messages_overtake_and_a_full_queue_answers_busy() {
    let bus = Bus::start(Cipher::PLAIN);
    let options = ClientOptions {
        urgent: vec!["/me/cops".to_owned()],
        incoming_messages: 8,
        overflow_reply: Some(b"busy".to_vec()),
        ..bus.options("me", &["/me"])
    };
    let (me, mut incoming) = join(options).await;
    let (sender, mut replies) = bus.client("sender", &["/reply"]).await;
    for number in 0..50_u32 {
        sender.send(Message::new("get", "/me/x").with_replyto("/reply/1").with_body(number.to_string())).unwrap();
    }
    sender.send(Message::new("get", "/me/cops")).unwrap();
    assert_eq!(next(&mut replies).await.body.as_deref(), Some(&b"busy"[..]));
    let deadline = Instant::now() + PATIENCE;
    while me.counters().received < 51 {
        assert!(Instant::now() < deadline, "{:?}", me.counters());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(next(&mut incoming).await.uri, "/me/cops", "it came last and is received first");
    assert_eq!(next(&mut incoming).await.body.as_deref(), Some(&b"0"[..]), "the others are in order");
    assert_eq!(me.counters().receive_dropped, 42);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_gets_its_own_answer() {
    let bus = Bus::start(Cipher::PLAIN);
    let (service, mut incoming) = bus.client("service", &["/service"]).await;
    tokio::spawn(async move {
        while let Some(message) = incoming.recv().await {
            let body = message.body.clone().unwrap_or_default();
            service.reply(&message, body).unwrap();
        }
    });
    let asker = Requester::open(&bus.socket, "asker", Cipher::PLAIN, PATIENCE).await.unwrap();
    let questions = (0..50_u32).map(|number| {
        let asker = asker.clone();
        async move {
            let answer = asker.set("/service", number.to_string(), PATIENCE).await.unwrap();
            assert_eq!(answer.body, Some(number.to_string().into_bytes()));
        }
    });
    futures::future::join_all(questions).await;
    assert!(asker.get("/nobody", Duration::from_millis(50)).await.is_err());
    bus.stop().await;
}

/// A message over the real socket in the bytes of the golden vector, seen by a program below the library.
#[tokio::test(flavor = "multi_thread")]
async fn the_tools_speak_byte_for_byte() {
    let bus = Bus::start(Cipher::PLAIN);
    let mut raw = bus.greeted(b"raw");
    raw.write_all(b"\x03\0\0\x03\0\0\0\0\x0b\0\0\0subraw\x01\x00\x08/netdiag").unwrap();
    let mut packet = vec![0; 4096];
    let length = raw.read(&mut packet).unwrap();
    assert_eq!(&packet[..length], b"\0\0\0\x0b\0\0\0\0\x07\0\0\0fims_serverSUCCESS");
    let tool = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netdiag"));
        command.args(["fims"]).args(arguments).arg("--socket").arg(&bus.socket).args(["--key", "/nonexistent"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let send =
        tool(&["send", "-m", "set", "-u", "/netdiag/test/start", "-r", "/netdiag_reply/1", "{\"ping\":true}"]).spawn().unwrap();
    let length = raw.read(&mut packet).unwrap();
    let golden = b"\x03\x13\x10\x09\0\0\0\0\x0d\0\0\0set/netdiag/test/start/netdiag_reply/1fims_send{\"ping\":true}";
    assert_eq!(&packet[..length], golden);
    raw.write_all(b"\x03\x10\0\x03\0\0\0\0\x04\0\0\0set/netdiag_reply/1rawtrue").unwrap();
    let output = tokio::task::spawn_blocking(|| send.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"true\n"[..]));

    let listen = tool(&["listen", "-u", "/components", "-m", "pub", "-n", "2"]).spawn().unwrap();
    let (sender, _) = bus.client("modbus_client", &[]).await;
    let deadline = Instant::now() + PATIENCE;
    let listened = tokio::task::spawn_blocking(|| listen.wait_with_output().unwrap());
    while !listened.is_finished() {
        assert!(Instant::now() < deadline);
        sender.send(Message::new("set", "/components/bms").with_body("no")).unwrap();
        sender.send(Message::new("pub", "/components/bms").with_body("{\"soc\": 50}")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let shown = String::from_utf8(listened.await.unwrap().stdout).unwrap();
    assert_eq!(shown.matches("Body:         {\"soc\": 50}\n").count(), 2, "{shown}");
    assert!(shown.contains("Process Name: modbus_client\n") && !shown.contains("no\n"), "{shown}");

    let unanswered = tool(&["send", "-m", "get", "-u", "/nobody", "-r", "/reply/x"]).spawn().unwrap();
    let output = tokio::task::spawn_blocking(|| unanswered.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    bus.stop().await;
    let no_bus = tool_without_bus();
    assert_eq!(no_bus.status.code(), Some(3), "{}", String::from_utf8_lossy(&no_bus.stderr));
}

fn tool_without_bus() -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netdiag"));
    command.args(["fims", "send", "-m", "get", "-u", "/x", "--socket"]).arg(fresh_socket());
    command.output().unwrap()
}

/// The real one's rule in three lines.
fn is_delivered(subscription: &(bool, String), method: &str, uri: &str) -> bool {
    let (pub_only, to) = subscription;
    let below = to == "/" || uri == to || uri.strip_prefix(to.as_str()).is_some_and(|rest| rest.starts_with('/'));
    below && (!pub_only || method.starts_with("pub"))
}

fn uris() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn subscriptions() -> impl Strategy<Value = Vec<(bool, String)>> {
    prop::collection::vec((any::<bool>(), prop_oneof![9 => uris(), 1 => Just("/".to_owned())]), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// For random subscriptions and messages, each client gets just what the model says, once, in order.
    #[test]
    fn delivery_is_as_the_model_says(
        clients in prop::collection::vec(subscriptions(), 1..5),
        messages in prop::collection::vec((prop::sample::select(vec!["pub", "set", "public"]), uris()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bus = Bus::start(Cipher::PLAIN);
            let (sender, _) = bus.client("sender", &[]).await;
            let mut joined = Vec::new();
            for wanted in &clients {
                let mut list: Vec<Subscription> =
                    wanted.iter().map(|(pub_only, uri)| Subscription { uri: uri.clone(), pub_only: *pub_only }).collect();
                list.push(Subscription::all("/end"));
                joined.push(join(ClientOptions { subscriptions: list, ..bus.options("client", &[]) }).await);
            }
            for (number, (method, uri)) in messages.iter().enumerate() {
                sender.send(Message::new(*method, uri.as_str()).with_body(number.to_string())).unwrap();
            }
            sender.send(Message::new("set", "/end")).unwrap();
            for (wanted, (_client, incoming)) in clients.iter().zip(&mut joined) {
                let expected: Vec<String> = messages
                    .iter()
                    .enumerate()
                    .filter(|(_, (method, uri))| wanted.iter().any(|subscription| is_delivered(subscription, method, uri)))
                    .map(|(number, _)| number.to_string())
                    .collect();
                let mut heard = Vec::new();
                loop {
                    let message = next(incoming).await;
                    if message.uri == "/end" {
                        break;
                    }
                    heard.push(message.body_text().unwrap().into_owned());
                }
                assert_eq!(heard, expected, "{wanted:?}");
            }
            bus.stop().await;
        });
    }
}

/// A broker that does as the script says with the connections that it gets, to put messages where a real one puts them only by chance.
fn scripted_broker(script: impl FnOnce(&mut dyn FnMut() -> Socket) + Send + 'static) -> (PathBuf, std::thread::JoinHandle<()>) {
    let path = fresh_socket();
    let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(1).unwrap();
    let running = std::thread::spawn(move || {
        script(&mut || {
            let (connection, _) = listener.accept().unwrap();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            connection
        });
    });
    (path, running)
}

const SUBSCRIBED: &[u8] = b"\0\0\0\x0b\0\0\0\0\x07\0\0\0fims_serverSUCCESS";
const A_MESSAGE: &[u8] = b"\x03\x02\0\x05\0\0\0\0\x04\0\0\0set/xotherbody";

const REFUSED: &[u8] = b"\0\0\0\x0b\0\0\0\0\x02\0\0\0fims_serverNo";

/// Greets, and reads name and first subscribe, which is returned.
fn greet(mut connection: &Socket) -> String {
    connection.write_all(&GREETING).unwrap();
    let _greeting = read_packet(connection);
    let _name = read_packet(connection);
    read_packet(connection)
}

/// The next packet as text; empty at the end of the connection.
fn read_packet(mut connection: &Socket) -> String {
    let mut packet = [0; 4096];
    let length = connection.read(&mut packet).unwrap();
    String::from_utf8_lossy(&packet[..length]).into_owned()
}

/// A message for an older subscription may come before the answer to a new one, or after it: either way it is received, and is not
/// taken for the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_races_the_answer_is_neither_lost_nor_taken_for_it() {
    for message_first in [true, false] {
        let (path, running) = scripted_broker(move |accept| {
            let mut connection = accept();
            greet(&connection);
            connection.write_all(SUBSCRIBED).unwrap();
            let _second_subscribe = read_packet(&connection);
            let order = if message_first { [A_MESSAGE, SUBSCRIBED] } else { [SUBSCRIBED, A_MESSAGE] };
            for packet in order {
                connection.write_all(packet).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
            let _until_the_client_leaves = read_packet(&connection);
        });
        let options = ClientOptions { subscriptions: vec![Subscription::all("/x")], ..ClientOptions::new(&path, "racer") };
        let (client, mut incoming) = join(options).await;
        client.subscribe(vec![Subscription::all("/x"), Subscription::all("/y")]).await.unwrap();
        let message = next(&mut incoming).await;
        assert_eq!((message.uri.as_str(), message.body.as_deref()), ("/x", Some(&b"body"[..])), "message first: {message_first}");
        client.close().await;
        tokio::task::spawn_blocking(|| running.join().unwrap()).await.unwrap();
    }
}

/// The broker goes away between a subscribe and its answer. What was asked for holds as soon as there is a connection again, and only
/// a broker that says no keeps what held before.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_outlives_the_connection_on_which_it_was_asked_for() {
    for refuses in [false, true] {
        let (path, running) = scripted_broker(move |accept| {
            let mut connection = accept();
            greet(&connection);
            connection.write_all(SUBSCRIBED).unwrap();
            assert!(read_packet(&connection).contains("/new"));
            drop(connection);
            let mut connection = accept();
            assert!(greet(&connection).contains("/new"));
            if refuses {
                connection.write_all(REFUSED).unwrap();
                let asked = read_packet(&connection);
                assert!(asked.contains("/old") && !asked.contains("/new"), "{asked}");
            }
            connection.write_all(SUBSCRIBED).unwrap();
            let _until_the_client_leaves = read_packet(&connection);
            drop(connection);
            let again = greet(&accept());
            assert!(again.contains(if refuses { "/old" } else { "/new" }), "{again}");
        });
        let options = ClientOptions { subscriptions: vec![Subscription::all("/old")], ..ClientOptions::new(&path, "client") };
        let (client, _incoming) = join(options).await;
        let outcome = tokio::time::timeout(PATIENCE, client.subscribe(vec![Subscription::all("/new")])).await.unwrap();
        assert_eq!(outcome, if refuses { Err(SubscribeError::Refused { answer: "No".to_owned() }) } else { Ok(()) });
        client.ready(PATIENCE).await.unwrap();
        client.send(Message::new("set", "/leave")).unwrap();
        tokio::task::spawn_blocking(|| running.join().unwrap()).await.unwrap();
    }
}

/// One thread, so that nothing is sent before everything is queued.
#[tokio::test]
async fn the_answer_to_what_is_urgent_overtakes_what_waits_to_be_sent() {
    let (path, running) = scripted_broker(|accept| {
        let mut connection = accept();
        greet(&connection);
        connection.write_all(SUBSCRIBED).unwrap();
        assert!(read_packet(&connection).contains("/supervisor/answer"));
        for number in 0..100 {
            assert!(read_packet(&connection).ends_with(&format!("number {number}")), "the others stay in order");
        }
    });
    let options = ClientOptions {
        subscriptions: vec![Subscription::all("/me")],
        urgent: vec!["/me/cops".to_owned()],
        ..ClientOptions::new(&path, "me")
    };
    let (me, _incoming) = join(options).await;
    for number in 0..100 {
        me.send(Message::new("pub", "/me/values").with_body(format!("number {number}"))).unwrap();
    }
    let question = Message { replyto: Some("/supervisor/answer".to_owned()), ..Message::new("get", "/me/cops") };
    me.reply(&question, "alive").unwrap();
    me.close().await;
    tokio::task::spawn_blocking(|| running.join().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_layout_is_given_up_with_a_clear_error_and_a_mute_broker_after_two_seconds() {
    let (path, _running) = scripted_broker(|accept| {
        let mut connection = accept();
        connection.write_all(&[2, 0, 0, 0, 0x80, 0x1a, 0x0e, 0]).unwrap();
        let _until_the_client_leaves = connection.read(&mut [0; 16]);
    });
    let (client, _) = fims::connect(ClientOptions::new(&path, "client"));
    let error = client.ready(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("layout") && error.contains('2'), "{error}");

    let (path, _running) = scripted_broker(|accept| {
        let mute = accept();
        let _until_the_client_leaves = (&mute).read(&mut [0; 16]);
    });
    let (client, _) = fims::connect(ClientOptions::new(&path, "client"));
    let error = tokio::time::timeout(2 * PATIENCE, client.ready(Duration::ZERO)).await.expect("it is given up").unwrap_err();
    assert_eq!(error, ConnectError::NoGreeting { waited: Duration::from_secs(2) });
}
