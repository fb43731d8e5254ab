//! `netdiag fims broker|send|listen`: the bus for machines without one, and the tools that engineers know.

use super::{
    EXIT_CANNOT_RUN, EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, block_on,
    text::{print, print_and_exit},
};
use crate::{
    api::UtcTime,
    fims::{self, Broker, BrokerError, Cipher, ClientOptions, DEFAULT_KEY_FILE, DEFAULT_SOCKET, Message, Subscription},
};
use std::{
    fs,
    io::Read as _,
    ops::ControlFlow,
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// How long `send` waits for the answer, as `fims_send` does.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long `send` and `listen` wait for the bus to greet.
const BUS_PATIENCE: Duration = Duration::from_secs(2);

/// The message bus itself: a broker, and the tools to send and to listen.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: FimsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FimsCommand {
    Broker(BrokerArgs),
    Send(SendArgs),
    Listen(ListenArgs),
}

// Where the bus is, and its key.
#[derive(Debug, clap::Args)]
struct BusArgs {
    /// The bus's socket.
    #[arg(long, value_name = "PATH", env = "FIMS_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// The bus's key file; bodies are encrypted if it exists.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_KEY_FILE)]
    key: PathBuf,
}

/// Run a broker, for machines that have no fims_server.
///
/// It speaks the same protocol and has the same delivery rules. SIGTERM and SIGINT end it; its socket file goes with it.
#[derive(Debug, clap::Args)]
struct BrokerArgs {
    #[command(flatten)]
    bus: BusArgs,
}

/// Send one message; with a uri to reply to, wait 5 s for the answer and print its body.
///
///   netdiag fims send -m get -u /netdiag/status -r /reply/me
///   netdiag fims send -m set -u /netdiag/connectivity/start -r /reply/me '{"ping": false}'
///   netdiag fims send -m set -u /netdiag/connectivity/start -r /reply/me -f request.json
///
/// Exit code 0: sent, and answered if an answer was asked for. 1: no answer came. 2: wrong use. 3: no bus.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct SendArgs {
    /// The method: get, set, pub, post, del.
    #[arg(short, long)]
    method: String,
    /// The uri.
    #[arg(short, long)]
    uri: String,
    /// The uri to reply to.
    #[arg(short, long)]
    replyto: Option<String>,
    /// The user in whose name the message is sent.
    #[arg(short = 'n', long)]
    username: Option<String>,
    /// A file that holds the body; `-` is standard input.
    #[arg(short, long, conflicts_with = "body")]
    file: Option<PathBuf>,
    /// The body.
    body: Option<String>,
    #[command(flatten)]
    bus: BusArgs,
}

/// Print the messages that are sent to a uri and below.
///
///   netdiag fims listen -u /netdiag
///   netdiag fims listen -u /components -m pub -n 10 | grep Body
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct ListenArgs {
    /// The uri; everything below it is heard too.
    #[arg(short, long, default_value = "/")]
    uri: String,
    /// Only methods that begin so.
    #[arg(short, long)]
    method: Option<String>,
    /// End after so many messages.
    #[arg(short = 'n', long)]
    count: Option<u64>,
    #[command(flatten)]
    bus: BusArgs,
}

pub(super) fn run(args: Args) -> u8 {
    let bus = match &args.command {
        FimsCommand::Broker(args) => &args.bus,
        FimsCommand::Send(args) => &args.bus,
        FimsCommand::Listen(args) => &args.bus,
    };
    let cipher = match Cipher::from_file_if_present(&bus.key) {
        Ok(cipher) => cipher,
        Err(error) => return failed(EXIT_USAGE, &error),
    };
    let done = match &args.command {
        FimsCommand::Broker(args) => block_on(broker(args, cipher)),
        FimsCommand::Send(args) => match body(args) {
            Ok(body) => block_on(send(args, body, cipher)),
            Err(error) => return failed(EXIT_USAGE, &error),
        },
        FimsCommand::Listen(args) => block_on(listen(args, cipher)),
    };
    done.unwrap_or_else(|code| code)
}

async fn broker(args: &BrokerArgs, cipher: Cipher) -> u8 {
    let broker = match Broker::bind(&args.bus.socket, cipher) {
        Ok(broker) => broker,
        Err(error @ BrokerError::InUse(_)) => return failed(EXIT_CANNOT_RUN, &error),
        Err(error) => return failed(EXIT_CANNOT_RUN, &error),
    };
    let stop = CancellationToken::new();
    if let Err(error) = super::stop_on_signals(&stop) {
        return failed(EXIT_CANNOT_RUN, &error);
    }
    eprintln!("netdiag fims broker: listening at {}", args.bus.socket.display());
    broker.run(stop).await;
    EXIT_OK
}

fn body(args: &SendArgs) -> Result<Option<Vec<u8>>, String> {
    match (&args.file, &args.body) {
        (None, body) => Ok(body.as_ref().map(|body| body.clone().into_bytes())),
        (Some(file), _) if file.as_os_str() == "-" => {
            let mut body = Vec::new();
            let read = std::io::stdin().lock().take(fims::MAX_PACKET_LEN as u64 + 1).read_to_end(&mut body);
            read.map(|_| Some(body)).map_err(|error| format!("standard input: {error}"))
        }
        (Some(file), _) => fs::read(file).map(Some).map_err(|error| format!("{}: {error}", file.display())),
    }
}

async fn send(args: &SendArgs, body: Option<Vec<u8>>, cipher: Cipher) -> u8 {
    let replyto = args.replyto.clone().filter(|replyto| !replyto.is_empty());
    let mut options = ClientOptions::new(&args.bus.socket, "fims_send");
    options.cipher = cipher;
    options.subscriptions = replyto.iter().map(|uri| Subscription::all(uri.as_str())).collect();
    let (client, mut incoming) = fims::connect(options);
    if let Err(error) = client.ready(BUS_PATIENCE).await {
        return failed(EXIT_CANNOT_RUN, &error);
    }
    let message =
        Message { replyto: replyto.clone(), username: args.username.clone(), body, ..Message::new(&args.method, &args.uri) };
    if let Err(error) = client.send(message) {
        return failed(EXIT_USAGE, &error);
    }
    let Some(replyto) = replyto else {
        client.close().await;
        return EXIT_OK;
    };
    let answer = tokio::time::timeout(ANSWER_PATIENCE, incoming.recv()).await;
    client.close().await;
    match answer {
        Ok(Some(answer)) => print_and_exit(&format!("{}\n", answer.body_text().unwrap_or_default()), EXIT_OK),
        Ok(None) | Err(_) => {
            let waited = ANSWER_PATIENCE.as_secs();
            failed(EXIT_PROBLEMS, &format!("no answer came to {replyto} within {waited} s; does anybody listen to {}?", args.uri))
        }
    }
}

async fn listen(args: &ListenArgs, cipher: Cipher) -> u8 {
    let mut options = ClientOptions::new(&args.bus.socket, "fims_listen");
    options.cipher = cipher;
    options.subscriptions = vec![Subscription::all(&args.uri)];
    let (client, mut incoming) = fims::connect(options);
    if let Err(error) = client.ready(BUS_PATIENCE).await {
        return failed(EXIT_CANNOT_RUN, &error);
    }
    let stop = CancellationToken::new();
    if let Err(error) = super::stop_on_signals(&stop) {
        return failed(EXIT_CANNOT_RUN, &error);
    }
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(Some(message)) = stop.run_until_cancelled(incoming.recv()).await else { break };
        if args.method.as_ref().is_some_and(|method| !message.method.starts_with(method)) {
            continue;
        }
        left -= 1;
        let now = UtcTime::from(SystemTime::now()).to_millis();
        if let ControlFlow::Break(code) = print(&lines(&message, now)) {
            return code;
        }
    }
    EXIT_OK
}

/// A message in the lines that `fims_listen` prints; what is absent is `(null)` there.
fn lines(message: &Message, at: UtcTime) -> String {
    let or_null = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("(null)").to_owned();
    let body = message.body_text();
    let rows = [
        ("Method:", message.method.clone()),
        ("Uri:", message.uri.clone()),
        ("ReplyTo:", or_null(message.replyto.as_deref())),
        ("Process Name:", message.process_name.clone()),
        ("Username:", or_null(message.username.as_deref())),
        ("Body:", or_null(body.as_deref())),
        ("Timestamp:", at.to_string()),
    ];
    rows.iter().fold("\n".to_owned(), |text, (label, value)| format!("{text}{label:<14}{value}\n"))
}

fn failed(code: u8, error: &dyn std::fmt::Display) -> u8 {
    eprintln!("netdiag fims: {error}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_in_the_lines_that_scripts_grep() {
        let message = Message {
            replyto: Some("/reply/me".to_owned()),
            process_name: "fims_send".to_owned(),
            ..Message::new("set", "/netdiag/connectivity/start").with_body("{\"ping\":true}")
        };
        let shown = lines(&message, UtcTime::from_unix_ns(0));
        let body = shown.lines().find_map(|line| line.strip_prefix("Body:")).unwrap();
        assert_eq!(body.trim(), "{\"ping\":true}");
        assert!(shown.contains("\nMethod:       set\n") && shown.contains("\nUsername:     (null)\n"), "{shown}");
        assert!(lines(&Message::new("get", "/x"), UtcTime::from_unix_ns(0)).contains("\nBody:         (null)\n"));
    }
}
