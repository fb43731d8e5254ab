//! Where the service's log goes: to a terminal or file as it is, to the systemd journal in the journal's own way.

use nix::sys::stat::fstat;
use std::{env, fmt, io};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

/// Logs to stderr from now on. The journal gets each line with its level as sd-daemon(3) has it, so that `journalctl -p warning` finds
/// it, and without a time, because it has its own.
pub(super) fn init(filter: EnvFilter) {
    let to_stderr = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if stderr_is_journal(env::var("JOURNAL_STREAM").ok().as_deref()) {
        let line = Format::default().without_time().with_level(false).with_ansi(false);
        to_stderr.with_ansi(false).event_format(WithPriority(line)).init();
    } else {
        to_stderr.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init();
    }
}

/// Whether stderr is the journal's stream: systemd says `device:inode` of it, and a redirection would make that untrue.
fn stderr_is_journal(stream: Option<&str>) -> bool {
    fstat(io::stderr()).is_ok_and(|stat| stream == Some(format!("{}:{}", stat.st_dev, stat.st_ino).as_str()))
}

/// Lines that begin with `<N>`, N a syslog priority.
struct WithPriority(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for WithPriority
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// The syslog priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
