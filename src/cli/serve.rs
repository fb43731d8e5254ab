//! `netdiag serve`.

use super::{EXIT_CANNOT_RUN, EXIT_OK, EXIT_USAGE, block_on};
use crate::service::{ServeError, Settings, SettingsError, serve};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Run the service on the message bus.
///
/// The service needs a bus (the site's `fims_server`, or `netdiag fims broker`) and, for pings and captures, root or CAP_NET_RAW;
/// without that right it still tests, and says what it could not do. `netdiag doctor` checks all of it.
///
/// Ask it over the bus:
///
///   netdiag fims send -m get -u /netdiag/status -r /reply/me
///   netdiag fims send -m set -u /netdiag/connectivity/start -r /reply/me true
///   netdiag fims send -m set -u /netdiag/connectivity/start -r /reply/me '{"targets": ["192.168.112.0/24"], "ping_count": 1}'
///   netdiag fims listen -u /netdiag
///
/// SIGTERM and SIGINT end it in order: a running job becomes `interrupted` and keeps what it had found.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// What to log to stderr: error, warn, info, debug or trace, also per module as `RUST_LOG` has it.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVEL")]
    log: String,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

// The settings file and the flags that override it. No doc comment: it would stand in the help in place of the command's own.
#[allow(missing_docs)]
#[derive(Debug, clap::Args)]
pub(super) struct SettingsArgs {
    /// A settings file, JSON or (by its ending .toml) TOML; see docs/settings.md.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The bus's socket [default: $FIMS_SOCKET or /tmp/FlexGen_FIMS_Server.socket].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A directory of config files, read recursively; may be given several times
    /// [default: those of /usr/local/etc/config/{modbus_client,modbus_server,dnp3_client,dnp3_server} that exist].
    #[arg(long, value_name = "DIR")]
    config_dir: Vec<PathBuf>,
    /// Where jobs, results and captures are kept [default: $STATE_DIRECTORY or /var/lib/netdiag].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The uri under which the service answers [default: /netdiag].
    #[arg(long, value_name = "URI")]
    base_uri: Option<String>,
    /// The name by which the bus knows the service [default: netdiag].
    #[arg(long, value_name = "NAME")]
    process_name: Option<String>,
}

impl SettingsArgs {
    /// The settings of the file, or the defaults, with the flags laid over them.
    pub(super) fn load(&self) -> Result<Settings, SettingsError> {
        let mut settings = match &self.settings {
            Some(path) => Settings::from_file(path)?,
            None => Settings::default(),
        };
        if let Some(socket) = &self.socket {
            settings.socket.clone_from(socket);
        }
        if !self.config_dir.is_empty() {
            settings.config_dirs.clone_from(&self.config_dir);
        }
        if let Some(state_dir) = &self.state_dir {
            settings.state_dir.clone_from(state_dir);
        }
        if let Some(base_uri) = &self.base_uri {
            settings.base_uri.clone_from(base_uri);
        }
        if let Some(process_name) = &self.process_name {
            settings.process_name.clone_from(process_name);
        }
        settings.validate()?;
        Ok(settings)
    }
}

pub(super) fn run(args: &Args) -> u8 {
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("netdiag serve: --log {}: {error}", args.log);
            return EXIT_USAGE;
        }
    };
    let settings = match args.settings.load() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("netdiag serve: {error}");
            return EXIT_USAGE;
        }
    };
    if args.exit_with_parent
        && let Err(error) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)
    {
        eprintln!("netdiag serve: --exit-with-parent: {error}");
        return EXIT_CANNOT_RUN;
    }
    super::log::init(filter);
    block_on(async {
        let stop = CancellationToken::new();
        if let Err(error) = super::stop_on_signals(&stop) {
            eprintln!("netdiag serve: cannot wait for signals: {error}");
            return EXIT_CANNOT_RUN;
        }
        match serve(settings, stop).await {
            Ok(()) => EXIT_OK,
            Err(error) => {
                eprintln!("netdiag serve: {error}");
                if matches!(error, ServeError::Settings(_)) { EXIT_USAGE } else { EXIT_CANNOT_RUN }
            }
        }
    })
    .unwrap_or_else(|code| code)
}
