//! The topology as a person and as the bus see it: shown, drawn, compared, kept fresh; and the services beyond modbus and dnp3.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::api::Topology;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use support::{
    needs, private_network,
    service::{Asker, Listener, Options, Service, bus, endpoint, modbus_client, modbus_server, validate},
    wait_until,
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/site");
/// How long a change may take to be told: the quiet second, the scan, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(60);

fn netdiag(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netdiag")).arg("topology").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Kills a process at the end of a test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_sound_site_is_shown_by_its_hosts() {
    let output = netdiag(&[EXAMPLE]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", text(&output.stderr));
    for part in [
        "This controller connects to",
        "10.20.30.11",
        "units 1,11,12",
        "2 heartbeats",
        "link 3 to 4",
        "/dev/ttyS1",
        "all addresses",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in\n{shown}");
    }
    let drawn = text(&netdiag(&["--format", "dot", EXAMPLE]).stdout);
    assert!(drawn.starts_with("digraph") && drawn.contains("Battery 1 modbus 502 unit 1,11,12"), "{drawn}");
    assert!(text(&netdiag(&["--format", "mermaid", EXAMPLE]).stdout).starts_with("flowchart LR"));
}

#[test]
fn the_configs_of_other_hosts_are_held_against_one_another_only() {
    let output = netdiag(&["--elsewhere", EXAMPLE]);
    let shown = text(&output.stdout);
    assert!(shown.contains("10.20.30.11") && !shown.contains("Interfaces of this host") && !shown.contains(" by "), "{shown}");
    let Some(configs) = needs::collection("configs/sites/four_ess") else { return };
    // Two controllers, eleven pairs of client and server that agree.
    let output = netdiag(&["--elsewhere", "--json", configs.to_str().unwrap()]);
    let topology: Topology = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((topology.endpoints.len(), output.status.code()), (23, Some(0)), "{:#?}", topology.problems);
    assert_eq!(topology.pairs.iter().filter(|pair| pair.agrees).count(), 11, "{:#?}", topology.pairs);
}

#[test]
fn json_is_the_body_of_the_bus_and_what_it_says_later_is_compared_with_it() {
    let site = tempfile::tempdir().unwrap();
    let (path, config) = modbus_client("meter", "127.0.0.9", 1502);
    fs::create_dir(site.path().join("modbus_client")).unwrap();
    fs::write(site.path().join(&path), &config).unwrap();
    let dir = site.path().to_str().unwrap();
    let saved = site.path().join("before.saved");
    let output = netdiag(&["--json", dir]);
    fs::write(&saved, &output.stdout).unwrap();
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    validate("topology", &body);
    let saved = saved.to_str().unwrap();

    let same = netdiag(&["--compare", saved, dir]);
    assert_eq!((same.status.code(), text(&same.stdout).starts_with("nothing changed since")), (Some(0), true));
    fs::write(site.path().join(&path), config.replace("1502", "1503")).unwrap();
    let changed = netdiag(&["--compare", saved, dir]);
    let shown = text(&changed.stdout);
    assert_eq!(changed.status.code(), Some(1));
    assert!(shown.contains("+ modbus_127.0.0.9_1503") && shown.contains("- modbus_127.0.0.9_1502"), "{shown}");
    let change: Value = serde_json::from_slice(&netdiag(&["--json", "--compare", saved, dir]).stdout).unwrap();
    validate("topology_change", &change);
    assert_eq!(change["added"], json!(["modbus_127.0.0.9_1503"]));
}

#[test]
fn a_heartbeat_that_moved_is_told_in_words_wherever_the_site_is_read_from() {
    let config = |offset: u32| {
        let components = json!([{"id": "bms", "heartbeat_enabled": true, "component_heartbeat_read_uri": "life",
            "component_heartbeat_write_uri": "beat", "component_heartbeat_timeout_ms": 2000, "registers": [
            {"type": "Holding Registers", "map": [{"id": "life", "offset": 3}, {"id": "beat", "offset": offset}]}]}]);
        json!({"connection": {"name": "Battery", "ip_address": "127.0.0.9", "device_id": 1, "frequency": 1000}, "components": components})
            .to_string()
    };
    let site = |offset| {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("modbus_client")).unwrap();
        fs::write(dir.path().join("modbus_client/bms.json"), config(offset)).unwrap();
        dir
    };
    let (before, same, moved) = (site(10), site(10), site(99));
    let saved = before.path().join("before.saved");
    fs::write(&saved, netdiag(&["--json", before.path().to_str().unwrap()]).stdout).unwrap();
    let compared = |arguments: &[&str], dir: &tempfile::TempDir| {
        let output = netdiag(&[arguments, &["--compare", saved.to_str().unwrap(), dir.path().to_str().unwrap()]].concat());
        (output.status.code(), text(&output.stdout))
    };
    for arguments in [&[][..], &["--elsewhere"]] {
        let (code, shown) = compared(arguments, &same);
        assert!(code == Some(0) && shown.starts_with("nothing changed"), "{arguments:?} {shown}");
    }
    let (code, shown) = compared(&[], &moved);
    assert_eq!(code, Some(1));
    assert!(shown.contains("modbus_client/bms.json bms write\n    offset: 10 → 99\n    wire offset: 10 → 99\n"), "{shown}");
    assert!(!shown.contains(['{', '"']), "{shown}");

    let shown = text(&netdiag(&[moved.path().to_str().unwrap()]).stdout);
    assert!(shown.contains("writes beat of bms: unit 1, holding 99") && shown.contains("reads life of bms"), "{shown}");
    assert!(shown.contains("default port") && shown.contains("modbus_client/bms.json"), "{shown}");
}

#[test]
fn two_controllers_of_one_tree_are_shown_apart_with_who_talks_to_whom() {
    let site = tempfile::tempdir().unwrap();
    for (controller, (path, config)) in [
        ("ess", modbus_client("meter", "10.7.0.2", 1502)),
        ("psm", modbus_server("poi", "10.7.0.2", 1502)),
        ("psm", modbus_server("other", "0.0.0.0", 502)),
        ("ess", modbus_server("mine", "0.0.0.0", 502)),
    ] {
        let path = site.path().join(controller).join("config").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, config).unwrap();
    }
    let dir = site.path().to_str().unwrap();
    for arguments in [&[dir][..], &["--elsewhere", dir]] {
        let shown = text(&netdiag(arguments).stdout);
        for part in ["ess connects to", "psm listens on", "served by modbus_server/poi.json of psm", "of 2 controllers (ess, psm)"]
        {
            assert!(shown.contains(part), "`{part}` is missing in\n{shown}");
        }
        assert!(!shown.contains("config.listener_conflict") && !shown.contains("config.bind_address"), "{shown}");
    }
    let drawn = text(&netdiag(&["--elsewhere", "--format", "mermaid", dir]).stdout);
    assert!(drawn.contains("controller0([\"ess\"])") && drawn.contains("controller0 -->|\"meter modbus 1502"), "{drawn}");
}

#[test]
fn what_a_config_holds_cannot_write_to_the_terminal_by_itself() {
    let site = tempfile::tempdir().unwrap();
    fs::create_dir(site.path().join("modbus_client")).unwrap();
    let config = r#"{"connection": {"name": "\u001b[31mred\nline", "ip_address": "127.0.0.9", "device_id": 1}, "components": []}"#;
    fs::write(site.path().join("modbus_client/a\u{1b}[2J.json"), config).unwrap();
    let dir = site.path().to_str().unwrap();
    for arguments in [&[dir][..], &["--format", "dot", dir], &["--format", "mermaid", dir], &["--json", dir]] {
        let shown = text(&netdiag(arguments).stdout);
        assert!(shown.contains("red") && !shown.contains('\u{1b}'), "{shown:?}");
    }
    let empty = tempfile::tempdir().unwrap();
    let shown = text(&netdiag(&[empty.path().to_str().unwrap()]).stdout);
    assert!(shown.contains("There is no file whose name ends with .json below"), "{shown}");
}

#[test]
fn exit_codes_say_what_came_of_it() {
    let site = tempfile::tempdir().unwrap();
    let dir = site.path().to_str().unwrap();
    fs::create_dir(site.path().join("modbus_client")).unwrap();
    fs::write(site.path().join("modbus_client/broken.json"), "{\n  \"connection\": {},,\n}").unwrap();
    let broken = netdiag(&[dir]);
    let shown = text(&broken.stdout);
    assert_eq!(broken.status.code(), Some(1));
    assert!(shown.contains("config.json_syntax") && shown.contains("broken.json:2:20:"), "{shown}");
    let nowhere = site.path().join("nowhere");
    for wrong in [&[nowhere.to_str().unwrap()][..], &["--compare", dir, dir], &["--compare", "/dev/null", dir], &[]] {
        let output = netdiag(wrong);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}");
        assert!(!output.stderr.is_empty());
    }
    // Who reads only the first line is no failure.
    let mut child = Command::new(env!("CARGO_BIN_EXE_netdiag"))
        .args(["topology", dir])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The next change that is published, held against its schema.
async fn next_change(listener: &mut Listener) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let message = tokio::time::timeout_at(deadline, listener.recv()).await.expect("no change was published").unwrap();
        if message.uri.ends_with("/topology/change") {
            let body: Value = serde_json::from_slice(&message.body.unwrap()).unwrap();
            validate("topology_change", &body);
            return body;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_config_directories_is_noticed_and_told() {
    let (_dir, bus) = bus();
    let mut listener = bus.listen("/netdiag/topology").await;
    // A check so seldom that only the kernel's word can be what is followed.
    let options = Options { settings: json!({"topology_check_s": 3600}), ..Options::default() };
    let service = Service::start(&bus.socket, &[modbus_client("meter", "127.0.0.9", 1502)], &options);
    service.ready().await;
    let config_dir = service.dir.path().join("config");

    // In a directory that is there, and then in one that is new, whose file comes after it.
    let (path, text) = modbus_client("inverter", "127.0.0.10", 1502);
    fs::write(config_dir.join(&path), &text).unwrap();
    let change = next_change(&mut listener).await;
    assert_eq!((&change["added"], &change["removed"]), (&json!(["modbus_127.0.0.10_1502"]), &json!([])));
    let (new_path, new_text) = modbus_server("poi", "127.0.0.1", 1503);
    fs::create_dir(config_dir.join("modbus_server")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::write(config_dir.join(&new_path), new_text).unwrap();
    assert_eq!(next_change(&mut listener).await["added"], json!(["modbus_listen_127.0.0.1_1503"]));

    // Rewritten several times in a row, and read when that has ended.
    for frequency in [200, 300, 400] {
        fs::write(config_dir.join(&path), text.replace("\"frequency\":1000", &format!("\"frequency\":{frequency}"))).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    loop {
        let change = next_change(&mut listener).await;
        assert_eq!(change["changed"][0]["id"], "modbus_127.0.0.10_1502", "{change:#}");
        // A machine that stalls between two of them has made a pause.
        if change["changed"][0]["fields"][0]["after"][0]["poll_ms"] == 400 {
            break;
        }
    }

    // A copy that pauses: what the file said stands until it is whole again, and nothing is alarmed about.
    let slower = text.replace("\"frequency\":1000", "\"frequency\":500");
    let (half, rest) = slower.split_at(slower.len() / 2);
    let mut file = fs::File::create(config_dir.join(&path)).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    fs::write(config_dir.join("modbus_client/note.txt"), "wakes the watch, as a new file would").unwrap();
    let change = next_change(&mut listener).await;
    assert_eq!((&change["removed"], &change["changed"]), (&json!([]), &json!([])), "{change:#}");
    assert_eq!(
        (&change["problems_added"][0]["code"], &change["problems_added"][1]),
        (&json!("config.file_changing"), &Value::Null)
    );
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    let change = next_change(&mut listener).await;
    assert_eq!((&change["removed"], &change["problems_added"]), (&json!([]), &json!([])), "{change:#}");
    assert_eq!(change["changed"][0]["fields"][0]["after"][0]["poll_ms"], 500, "{change:#}");
    assert_eq!(change["problems_resolved"][0]["code"], "config.file_changing");

    // What stays broken is told when it has been quiet for a while.
    fs::write(config_dir.join(&path), "{").unwrap();
    let change = next_change(&mut listener).await;
    assert_eq!((&change["removed"], &change["problems_added"][0]["code"]), (&json!([]), &json!("config.file_changing")));
    let change = next_change(&mut listener).await;
    assert_eq!(change["removed"], json!(["modbus_127.0.0.10_1502"]));
    assert_eq!(change["problems_added"][0]["code"], "config.json_syntax");
    fs::remove_file(config_dir.join(&path)).unwrap();
    let change = next_change(&mut listener).await;
    assert_eq!((&change["removed"], &change["problems_resolved"][0]["code"]), (&json!([]), &json!("config.json_syntax")));
}

#[test]
fn a_process_that_starts_and_ends_is_noticed() {
    // In a network of its own, so that the services of other tests take the process for one of another host.
    private_network();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(notice_a_process());
}

async fn notice_a_process() {
    let (_dir, bus) = bus();
    let mut listener = bus.listen("/netdiag/topology").await;
    let options = Options { settings: json!({"topology_check_s": 1}), ..Options::default() };
    let configs = [modbus_client("meter", "127.0.0.9", 1502), modbus_client("spare", "127.0.0.8", 1502)];
    let service = Service::start(&bus.socket, &configs, &options);
    let before = service.ready().await;
    assert_eq!(before["configs"][0]["activity"], "unknown");

    // Any program with the name of a client: it is the command line that counts. This one waits for a file to grow.
    let program = service.dir.path().join("gcom_modbus_client");
    fs::copy(fs::canonicalize("/usr/bin/tail").unwrap(), &program).unwrap();
    let config = service.dir.path().join("config/modbus_client/meter.json");
    fs::write(service.dir.path().join("ip:127.0.0.7"), "").unwrap();
    let mut command = Command::new(&program);
    command.arg("-f").arg(&config).arg("ip:127.0.0.7").current_dir(service.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Running(command.spawn().unwrap());
    let change = next_change(&mut listener).await;
    assert_eq!((&change["added"], &change["removed"]), (&json!(["modbus_127.0.0.7_1502"]), &json!(["modbus_127.0.0.9_1502"])));
    let topology: Topology = serde_json::from_value(service.get("/topology").await).unwrap();
    let shown: Vec<_> = topology.configs.iter().map(|config| serde_json::to_value(config.activity).unwrap()).collect();
    assert_eq!(shown, ["overridden", "not_started"]);
    let [starter] = &topology.configs[0].starters[..] else { panic!("{:?}", topology.configs) };
    assert_eq!((starter.pid, starter.overrides.as_slice()), (Some(process.0.id()), &["ip:127.0.0.7".to_owned()][..]));
    drop(process);
    assert_eq!(next_change(&mut listener).await["added"], json!(["modbus_127.0.0.9_1502"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rescans_at_once_are_all_answered_by_a_few() {
    let (_dir, bus) = bus();
    let configs: Vec<_> = (0..50).map(|number| modbus_client(&format!("d{number}"), "127.0.0.9", 1000 + number)).collect();
    let service = Service::start(&bus.socket, &configs, &Options::default());
    service.ready().await;
    let askers = (0..10).map(|_| async {
        let mut asker = Asker::connect(&service.socket, &service.base_uri).await;
        for _ in 0..100 {
            let summary = asker.ask("set", "/topology/rescan", Some("true")).await;
            assert_eq!(summary["endpoints"], 50);
        }
    });
    futures::future::join_all(askers).await;
    // One after the other, each with a scan of its own, they would keep the service busy long after the last answer.
    tokio::time::timeout(PATIENCE, service.get("/cops")).await.expect("it hangs");
}

#[test]
fn an_interface_that_goes_down_is_told_on_the_bus() {
    private_network();
    let ip = |arguments: &str| {
        assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
    };
    ip("link add plant0 type veth peer name plant1");
    ip("address add 10.66.0.1/24 dev plant0");
    ip("link set plant0 up");
    ip("link set plant1 up");
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let (_dir, bus) = bus();
        let mut listener = bus.listen("/netdiag/topology").await;
        let mut interfaces = bus.listen("/netdiag/interfaces").await;
        let options = Options { settings: json!({"topology_check_s": 1}), ..Options::default() };
        let service = Service::start(&bus.socket, &[modbus_client("bms", "10.66.0.5", 502)], &options);
        let topology = service.ready().await;
        assert_eq!((&topology["endpoints"][0]["interface"], &topology["problems"]), (&json!("plant0"), &json!([])));
        let list = service.get("/interfaces").await;
        let plant0 = list["interfaces"].as_array().unwrap().iter().find(|interface| interface["name"] == "plant0").unwrap().clone();
        assert_eq!((&plant0["running"], &plant0["mtu"], &plant0["endpoints"]), (&json!(true), &json!(1500), &json!(1)));
        assert!(plant0["counters"]["tx_packets"].is_u64() && plant0["carrier_changes"].is_u64(), "{plant0:#}");
        let published = tokio::time::timeout(PATIENCE, interfaces.recv()).await.unwrap().unwrap();
        validate("interface_list", &serde_json::from_slice(&published.body.unwrap()).unwrap());

        ip("link set plant1 down");
        let change = next_change(&mut listener).await;
        assert_eq!(change["interfaces_changed"][0]["id"], "plant0", "{change:#}");
        assert_eq!(change["problems_added"][0]["code"], "config.interface_down", "{change:#}");
    });
}

/// Starts a program that serves on a port of the loopback, and waits until it does; [`needs::missing`] if it is not installed.
fn serving(program: &str, arguments: &[&str], port: u16) -> Option<Running> {
    let mut command = Command::new(program);
    let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        needs::missing(&format!("{program} is not installed"));
        return None;
    };
    let running = Running(child);
    let opens = || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    wait_until(&format!("{program} serves on port {port}"), Duration::from_secs(10), opens);
    Some(running)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_shell_and_a_web_server_are_known_by_what_they_say() {
    let (dir, bus) = bus();
    let (ssh, web, mixed_up) = (free_port(), free_port(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let key = dir.path().join("key");
    let made =
        Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&key).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let dropbear = ["/usr/sbin/dropbear", "/usr/bin/dropbear"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let program = dropbear.as_deref().unwrap_or(Path::new("dropbear")).to_str().unwrap();
    let ssh_place = format!("127.0.0.1:{ssh}");
    let shell = serving(program, &["-F", "-E", "-s", "-r", key.to_str().unwrap(), "-p", &ssh_place], ssh);
    let pages = dir.path().to_str().unwrap();
    let Some(_pages) =
        serving("python3", &["-m", "http.server", "--bind", "127.0.0.1", "--directory", pages, &web.to_string()], web)
    else {
        return;
    };
    assert_eq!(made.is_ok_and(|status| status.success()), shell.is_some());
    // Somebody else on the port of a web server: it greets every client like a mail server.
    let mail_port = mixed_up.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in mixed_up.incoming() {
            let _ = stream.unwrap().write_all(b"220 plant mail ready\r\n");
        }
    });

    let settings = json!({"extra_endpoints": [{"address": "127.0.0.1", "port": web, "protocol": "http"}]});
    let service =
        Service::start(&bus.socket, &[modbus_client("meter", "127.0.0.9", 1502)], &Options { settings, ..Options::default() });
    let topology = service.ready().await;
    let page = format!("http_127.0.0.1_{web}");
    assert_eq!((&topology["endpoints"][0]["endpoint_id"], &topology["endpoints"][0]["interface"]), (&json!(page), &json!("lo")));
    assert_eq!(service.get(&format!("/topology/endpoints/{page}")).await["port"], web);
    assert_eq!(service.get("/summary").await["endpoints_total"], 2);
    let extra = json!([
        {"address": "localhost", "port": web, "protocol": "http"},
        {"address": "127.0.0.1", "port": ssh, "protocol": "ssh"},
        {"address": "127.0.0.1", "port": mail_port, "protocol": "http"},
    ]);
    let request = json!({"extra": extra, "protocols": ["ssh", "http"], "settle_ms": 0, "ping": false, "timeout_ms": 3000});
    let result = service.test(&request.to_string()).await;

    let named = endpoint(&result, &format!("http_localhost_{web}"));
    assert_eq!((&named["verdict"], &named["connect"]["greeting"]["state"]), (&json!("ok"), &json!("answered")), "{named:#}");
    let web = endpoint(&result, &format!("http_127.0.0.1_{web}"));
    assert_eq!((&web["verdict"], &web["connect"]["greeting"]["state"]), (&json!("ok"), &json!("answered")), "{web:#}");
    assert!(web["reason"].as_str().unwrap().contains("answers with `HTTP/1.0 200 OK`"), "{web:#}");
    let mail = endpoint(&result, &format!("http_127.0.0.1_{mail_port}"));
    assert_eq!((&mail["verdict"], &mail["connect"]["greeting"]["state"]), (&json!("degraded"), &json!("unexpected")), "{mail:#}");
    assert!(mail["reason"].as_str().unwrap().contains("`220 plant mail ready`"), "{mail:#}");
    if shell.is_some() {
        let shell = endpoint(&result, &format!("ssh_127.0.0.1_{ssh}"));
        assert_eq!(shell["verdict"], "ok", "{shell:#}");
        assert!(shell["connect"]["greeting"]["text"].as_str().unwrap().starts_with("SSH-2.0-dropbear"), "{shell:#}");
    }
}
