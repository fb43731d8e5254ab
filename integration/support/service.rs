//! The real binary on a real bus: starts `netdiag serve` with a broker of its own, asks it over the socket, and holds every message
//! that passes against its schema.

use super::SLOWER;
use netdiag::{
    api::{reply_schema, schemas},
    fims::{self, Broker, Cipher, ClientOptions, Incoming, Message, Requester, Subscription},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A user without rights.
const NOBODY: u32 = 65_534;

/// How long an answer may take at all.
const PATIENCE: Duration = Duration::from_secs(20);

static SCHEMAS: LazyLock<HashMap<&'static str, jsonschema::Validator>> = LazyLock::new(|| {
    let compile = |(name, schema): (_, schemars::Schema)| (name, jsonschema::validator_for(schema.as_value()).unwrap());
    schemas().into_iter().map(compile).collect()
});

/// Panics if a body is not what its schema says.
pub fn validate(name: &str, body: &Value) {
    let problems: Vec<String> =
        SCHEMAS[name].iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "not a valid {name}:\n{}\n{body:#}", problems.join("\n"));
}

/// A broker of this process, on a socket of its own.
pub struct Bus {
    pub socket: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Bus {
    pub fn start(socket: &Path) -> Self {
        let broker = Broker::bind(socket, Cipher::PLAIN).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { broker.run(stop).await }
        });
        Self { socket: socket.to_owned(), stop, running }
    }

    /// Ends the broker and all its connections.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }

    /// Listens to all that is sent to a uri and below.
    pub async fn listen(&self, uri: &str) -> Listener {
        let (client, incoming) = fims::connect(ClientOptions {
            subscriptions: vec![Subscription::all(uri)],
            ..ClientOptions::new(self.socket.clone(), "listener".to_owned())
        });
        connected(&client).await;
        Listener { _client: client, incoming }
    }
}

/// A bus in a directory of its own, which goes with the directory.
pub fn bus() -> (tempfile::TempDir, Bus) {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::start(&dir.path().join("fims"));
    (dir, bus)
}

/// Hears what is sent.
pub struct Listener {
    _client: fims::Client,
    incoming: Incoming,
}

impl Listener {
    pub async fn recv(&mut self) -> Option<Message> {
        self.incoming.recv().await
    }
}

/// Waits until a client is on the bus.
pub async fn connected(client: &fims::Client) {
    client.ready(PATIENCE).await.unwrap();
}

/// `netdiag serve`, with directories of its own. Dropping it kills the process.
pub struct Service {
    pub child: Child,
    pub dir: tempfile::TempDir,
    pub socket: PathBuf,
    pub base_uri: String,
}

/// How to start it.
#[derive(Default)]
pub struct Options {
    /// Settings besides socket, state directory and config directory.
    pub settings: Value,
    /// Run as this user and group, so without the right to capture.
    pub unprivileged: bool,
}

impl Service {
    /// Starts the service on a socket; `configs` are files (path below the config directory, text).
    pub fn start(socket: &Path, configs: &[(String, String)], options: &Options) -> Self {
        Self::start_with(socket, options, |_| {}, configs)
    }

    /// Starts the service on a simulated site.
    pub fn start_on_site(socket: &Path, site: &netdiag::lab::Site, options: &Options) -> Self {
        Self::start_with(socket, options, |config_dir| drop(site.write_configs(config_dir).unwrap()), &[])
    }

    fn start_with(socket: &Path, options: &Options, write: impl FnOnce(&Path), configs: &[(String, String)]) -> Self {
        let dir = tempfile::Builder::new().prefix("netdiag-").tempdir().unwrap();
        write(&dir.path().join("config"));
        for (path, text) in configs {
            let path = dir.path().join("config").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(dir.path().join("config")).unwrap();
        let mut settings = serde_json::json!({
            "socket": socket,
            "fims_key": dir.path().join("no-key"),
            "config_dirs": [dir.path().join("config")],
            "state_dir": dir.path().join("state"),
            "min_free_bytes": 1 << 20,
        });
        if let Value::Object(extra) = &options.settings {
            settings.as_object_mut().unwrap().extend(extra.clone());
        }
        fs::write(dir.path().join("settings.json"), settings.to_string()).unwrap();
        if options.unprivileged {
            fs::create_dir_all(dir.path().join("state")).unwrap();
            // That user may have no way to where the program was built.
            fs::copy(env!("CARGO_BIN_EXE_netdiag"), dir.path().join("netdiag")).unwrap();
            for path in [dir.path().to_owned(), dir.path().join("state")] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let base_uri = settings.get("base_uri").and_then(Value::as_str).unwrap_or("/netdiag").to_owned();
        let child = Self::spawn(dir.path(), options.unprivileged);
        Self { child, dir, socket: socket.to_owned(), base_uri }
    }

    fn spawn(dir: &Path, unprivileged: bool) -> Child {
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let program = if unprivileged { dir.join("netdiag") } else { env!("CARGO_BIN_EXE_netdiag").into() };
        let mut command = Command::new(program);
        command.args(["serve", "--log", "info", "--settings"]).arg(dir.join("settings.json"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.process_group(0).spawn().unwrap()
    }

    /// Starts it anew on the same directories, after it has ended.
    pub fn restart(&mut self) {
        self.child = Self::spawn(self.dir.path(), false);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the process to end, up to `patience`, and returns its exit code (`None` if a signal ended it).
    pub async fn wait(&mut self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience * SLOWER;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the service does not end; it logged:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The resident memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        kib.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Asks, and returns the answer's body; it has the schema of its uri, or that of an error.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Value {
        let mut asker = Asker::connect(&self.socket, &self.base_uri).await;
        asker.ask(method, path, body).await
    }

    /// Asks for something that is there.
    pub async fn get(&self, path: &str) -> Value {
        let body = self.ask("get", path, None).await;
        assert!(!is_refusal(&body), "get {path}: {body}");
        body
    }

    /// Waits until the service answers and has read its configs.
    pub async fn ready(&self) -> Value {
        let deadline = Instant::now() + PATIENCE * SLOWER;
        loop {
            let mut asker = Asker::connect(&self.socket, &self.base_uri).await;
            if let Some(topology) = asker.try_ask("get", "/topology", None, Duration::from_secs(2)).await
                && topology["files_scanned"].as_u64() > Some(0)
            {
                return topology;
            }
            assert!(Instant::now() < deadline, "the service does not answer; it logged:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts a connectivity test and returns the job's id.
    pub async fn start_test(&self, body: &str) -> String {
        let accepted = self.ask("set", "/connectivity/start", Some(body)).await;
        accepted["job_id"].as_str().unwrap_or_else(|| panic!("not accepted: {accepted}")).to_owned()
    }

    /// Waits until a job is in one of the states, and returns it.
    pub async fn job_in(&self, job_id: &str, states: &[&str], patience: Duration) -> Value {
        let deadline = Instant::now() + patience * SLOWER;
        loop {
            let job = self.get(&format!("/jobs/{job_id}")).await;
            if states.contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(Instant::now() < deadline, "still {job:#}\nlog:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a connectivity test to its end and returns its whole result.
    pub async fn test(&self, body: &str) -> Value {
        let job_id = self.start_test(body).await;
        let job = self.job_in(&job_id, &["succeeded", "failed", "cancelled"], Duration::from_secs(40)).await;
        assert_eq!(job["state"], "succeeded", "{job:#}\nlog:\n{}", self.log());
        self.get(&format!("/jobs/{job_id}/result")).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the service logged:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a body is `{"error": {...}}`; a job has an `error` too, but no object.
pub fn is_refusal(body: &Value) -> bool {
    body["error"].is_object()
}

/// A connection to ask through.
pub struct Asker {
    requester: Requester,
    base_uri: String,
}

impl Asker {
    pub async fn connect(socket: &Path, base_uri: &str) -> Self {
        let requester = Requester::open(socket, "asker", Cipher::PLAIN, PATIENCE).await.unwrap();
        Self { requester, base_uri: base_uri.to_owned() }
    }

    /// Asks; `None` if no answer came in time.
    pub async fn try_ask(&mut self, method: &str, path: &str, body: Option<&str>, patience: Duration) -> Option<Value> {
        let uri = format!("{}{path}", self.base_uri);
        let message = Message { body: body.map(|body| body.as_bytes().to_vec()), ..Message::new(method, uri) };
        let reply = self.requester.request(message, patience).await.ok()?;
        assert_eq!(reply.method, "set", "a reply is a set");
        assert!(reply.replyto.as_deref().unwrap_or_default().is_empty(), "a reply asks for none");
        let body: Value = serde_json::from_slice(&reply.body.expect("a reply has a body")).expect("a reply is JSON");
        match reply_schema(method, path) {
            _ if is_refusal(&body) => validate("error", &body),
            // A job's result is what its kind of job gives.
            Some("connectivity_result") if body["servers"].is_array() => validate("analysis_report", &body),
            Some(name) => validate(name, &body),
            None => panic!("{method} {path} was answered, and not with an error: {body}"),
        }
        Some(body)
    }

    /// Asks again and again, as one does on a bus that may lose a message, and returns the answer and how long it took in all.
    pub async fn insist(&mut self, path: &str) -> (Value, Duration) {
        let asked = Instant::now();
        loop {
            if let Some(answer) = self.try_ask("get", path, None, Duration::from_secs(1)).await {
                return (answer, asked.elapsed());
            }
            assert!(asked.elapsed() < PATIENCE, "no answer to get {path}");
        }
    }

    pub async fn ask(&mut self, method: &str, path: &str, body: Option<&str>) -> Value {
        self.try_ask(method, path, body, PATIENCE).await.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }
}

/// A modbus client's config, as sites have them.
pub fn modbus_client(name: &str, address: &str, port: u16) -> (String, String) {
    let config = serde_json::json!({
        "connection": {"name": name, "ip_address": address, "port": port},
        "components": [{"id": name, "device_id": 1, "frequency": 1000, "registers": [
            {"type": "Holding Registers", "starting_offset": 0, "number_of_registers": 1, "map": [{"id": "value", "offset": 0}]}
        ]}],
    });
    (format!("modbus_client/{name}.json"), config.to_string())
}

/// A modbus server's config.
pub fn modbus_server(name: &str, address: &str, port: u16) -> (String, String) {
    let config = serde_json::json!({
        "system": {"id": name, "ip_address": address, "port": port, "device_id": 1},
        "registers": {"holding_registers": [{"uri": "/site", "id": "value", "offset": 0}]},
    });
    (format!("modbus_server/{name}.json"), config.to_string())
}

/// The result of the endpoint of that name.
pub fn named<'a>(result: &'a Value, name: &str) -> &'a Value {
    let endpoints = result["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap_or_else(|| panic!("no {name} in {result:#}"))
}

/// The result of one endpoint.
pub fn endpoint<'a>(result: &'a Value, endpoint_id: &str) -> &'a Value {
    let endpoints = result["endpoints"].as_array().unwrap();
    endpoints
        .iter()
        .find(|endpoint| endpoint["endpoint_id"] == endpoint_id)
        .unwrap_or_else(|| panic!("no {endpoint_id} in {result:#}"))
}
