//! `netdiag demo`: a simulated site, its own bus, the real service, one connectivity test, and what came of it.

mod cast;
mod show;

use super::{EXIT_CANNOT_RUN, EXIT_OK, EXIT_PROBLEMS, block_on, text::print};
use crate::{
    api::{ConnectivityResult, Job, JobAccepted, JobState},
    fims::{self, Broker, Cipher, ClientOptions, Incoming, Message, Requester, Subscription},
    lab::{LabError, Placement, PollSettings, SiteBuilder, enter_private},
};
use serde::de::DeserializeOwned;
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The site's own clients give up on an answer quickly, so that a short test sees it.
const POLLING: PollSettings = PollSettings {
    period: Duration::from_millis(500),
    timeout: Duration::from_secs(1),
    reconnect_after: Duration::from_millis(500),
};
/// How long the live sessions of the site may take to begin.
const SESSIONS_PATIENCE: Duration = Duration::from_secs(8);
/// How long the service may take to read the configs.
const SERVICE_PATIENCE: Duration = Duration::from_secs(15);
/// How long an answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the whole test may take.
const TEST_PATIENCE: Duration = Duration::from_secs(60);

/// Run one connectivity test on a simulated site with its own bus, and print the verdicts.
///
/// The site is made of network namespaces where that is allowed (as root, or by a kernel that gives user namespaces), else on the
/// loopback. Its devices really speak Modbus TCP and DNP3, and most have something wrong with them. Nothing outside is touched, and
/// nothing is left behind.
///
/// Exit code 0: the verdicts are the expected ones. 1: they are not. 3: the demo could not run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Use the loopback even where namespaces could be made.
    #[arg(long)]
    loopback: bool,
    /// Print the result as the bus carries it, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error(transparent)]
    Broker(#[from] fims::BrokerError),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("the bus: {0}")]
    Bus(String),
    #[error("the service does not do as it should: {0}")]
    Service(String),
    #[error("interrupted")]
    Interrupted,
}

pub(super) fn run(args: &Args) -> u8 {
    // Before any thread is started, so that all of this process is in the private network.
    let placement = match args.loopback {
        true => Placement::Loopback,
        false => match enter_private() {
            Ok(()) => Placement::Namespaces,
            Err(error) => {
                eprintln!("on the loopback, because {error}");
                Placement::Loopback
            }
        },
    };
    match demo(placement, args.json) {
        Ok(true) => EXIT_OK,
        Ok(false) => EXIT_PROBLEMS,
        Err(error) => {
            eprintln!("netdiag demo: {error}");
            EXIT_CANNOT_RUN
        }
    }
}

fn demo(placement: Placement, json: bool) -> Result<bool, DemoError> {
    let dir = tempfile::Builder::new()
        .prefix("netdiag-demo-")
        .tempdir()
        .map_err(|source| DemoError::Io { what: "no temporary directory", source })?;
    let cast = cast::cast();
    let (devices, inbound): (Vec<_>, Vec<_>) = cast.iter().map(|role| (role.device(), role.inbound())).unzip();
    let mut builder = SiteBuilder::new(placement).devices(devices.into_iter().flatten()).polling(POLLING);
    for server in inbound.into_iter().flatten() {
        builder = builder.inbound(server);
    }
    let site = builder.build()?;
    site.write_configs(&dir.path().join("config"))?;
    site.wait_for_sessions(SESSIONS_PATIENCE);
    if !json {
        show::introduction(placement, &site, &cast);
    }
    let log = dir.path().join("service.log");
    let service = ServiceProcess::start(dir.path(), &log)?;
    let outcome = block_on(on_the_bus(dir.path(), json)).unwrap_or_else(|_| Err(DemoError::Bus("no runtime".to_owned())));
    drop(service);
    let result = outcome.inspect_err(|_| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        eprintln!("the service logged:\n{log}");
    })?;
    let verdicts = cast::compare(&cast, &site, &result);
    if json {
        let _ = print(&(serde_json::to_string(&result).unwrap_or_default() + "\n"));
    } else {
        show::result(&result, &site, &verdicts);
    }
    Ok(verdicts.iter().all(|verdict| verdict.mismatch.is_none()))
}

/// `netdiag serve`, as a site would run it; ended when this is dropped, and with this process however that ends.
struct ServiceProcess(Child);

impl ServiceProcess {
    fn start(dir: &Path, log: &Path) -> Result<Self, DemoError> {
        let io = |what| move |source| DemoError::Io { what, source };
        let settings = serde_json::json!({
            "socket": dir.join("fims.socket"),
            "fims_key": dir.join("no-key"),
            "config_dirs": [dir.join("config")],
            "state_dir": dir.join("state"),
            "min_free_bytes": 16 << 20,
        });
        let file = dir.join("settings.json");
        fs::write(&file, settings.to_string()).map_err(io("the settings cannot be written"))?;
        let log = fs::File::create(log).map_err(io("the log cannot be written"))?;
        let program = std::env::current_exe().map_err(io("this program cannot find itself"))?;
        let mut command = Command::new(program);
        command.args(["serve", "--exit-with-parent", "--log", "info", "--settings"]).arg(file);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(io("the service cannot be started"))?;
        Ok(Self(child))
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        use nix::{sys::signal, unistd::Pid};
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = signal::kill(Pid::from_raw(pid), signal::Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the bus, asks for the test over it, and follows it to its end. Ctrl-C ends it early, so that all is taken away again.
async fn on_the_bus(dir: &Path, quiet: bool) -> Result<ConnectivityResult, DemoError> {
    let socket = dir.join("fims.socket");
    let broker = Broker::bind(&socket, Cipher::PLAIN)?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(broker.run(stop.clone()));
    let result = tokio::select! {
        result = test(&socket, quiet) => result,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    };
    stop.cancel();
    let _ = serving.await;
    result
}

async fn test(socket: &Path, quiet: bool) -> Result<ConnectivityResult, DemoError> {
    let asker =
        Requester::open(socket, "demo", Cipher::PLAIN, ANSWER_PATIENCE).await.map_err(|error| DemoError::Bus(error.to_string()))?;
    let (_listener, mut heard) = fims::connect(ClientOptions {
        subscriptions: vec![Subscription::publications("/netdiag/jobs")],
        ..ClientOptions::new(socket, "demo_listener")
    });
    wait_for_service(&asker).await?;
    let mut progress = show::Progress::new(quiet);
    progress.asked();
    let accepted: JobAccepted = body(asker.set("/netdiag/connectivity/start", "true", ANSWER_PATIENCE).await)?;
    let ended = tokio::time::timeout(TEST_PATIENCE, follow(&asker, &accepted, &mut heard, &mut progress)).await;
    let job = ended.map_err(|_| DemoError::Service("the test does not end".to_owned()))??;
    progress.ended();
    if job.state != JobState::Succeeded {
        return Err(DemoError::Service(format!("the test ended as {:?}: {}", job.state, job.error.unwrap_or_default())));
    }
    let result = body(asker.get(&format!("{}/result", accepted.uri), ANSWER_PATIENCE).await)?;
    asker.close().await;
    Ok(result)
}

/// Waits until the service answers and has read the configs.
async fn wait_for_service(asker: &Requester) -> Result<(), DemoError> {
    let deadline = Instant::now() + SERVICE_PATIENCE;
    loop {
        let answer = asker.get("/netdiag/topology", Duration::from_millis(250)).await;
        if body::<crate::api::Topology>(answer).is_ok_and(|topology| topology.files_scanned > 0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(DemoError::Service("it does not answer on the bus".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Follows a job by what is published, and asks now and then in case a publication was lost.
async fn follow(
    asker: &Requester,
    accepted: &JobAccepted,
    heard: &mut Incoming,
    progress: &mut show::Progress,
) -> Result<Job, DemoError> {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(1), heard.recv()).await;
        let told = match message {
            Ok(Some(message)) if message.uri == accepted.uri => parse::<Job>(&message),
            Ok(Some(message)) if message.uri.starts_with(&format!("{}/endpoints/", accepted.uri)) => {
                if let Some(endpoint) = parse(&message) {
                    progress.decided(&endpoint);
                }
                None
            }
            Ok(Some(_)) => None,
            Ok(None) => return Err(DemoError::Bus("the listener has ended".to_owned())),
            Err(_) => Some(body(asker.get(&accepted.uri, ANSWER_PATIENCE).await)?),
        };
        if let Some(job) = told {
            progress.job(&job);
            if job.state.is_final() {
                return Ok(job);
            }
        }
    }
}

fn parse<T: DeserializeOwned>(message: &Message) -> Option<T> {
    serde_json::from_slice(message.body.as_deref()?).ok()
}

fn body<T: DeserializeOwned>(answer: Result<Message, fims::RequestError>) -> Result<T, DemoError> {
    let message = answer.map_err(|error| DemoError::Bus(error.to_string()))?;
    parse(&message).ok_or_else(|| DemoError::Service(message.body_text().unwrap_or_default().into_owned()))
}

/// One endpoint of the cast, and what was said of it.
#[derive(Debug)]
struct Compared {
    name: String,
    story: String,
    mismatch: Option<String>,
}
