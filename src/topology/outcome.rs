//! What the two Modbus clients do about a mistake in a file, and so how bad the mistake is.

use super::process::Process;
use crate::api::Severity;

/// What one process does about a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does<'a> {
    /// It does not start.
    Refuses,
    /// It goes on in the way that the text says, for instance `takes 502 instead`.
    GoesOn(&'a str),
    /// Nothing is known of it.
    Untold,
}

/// That a process refuses a file, as the operator sees it.
pub(super) fn refuses(process: &str) -> String {
    format!("{process} refuses this file and is restarted every 10 s")
}

/// How bad a mistake is for the client that reads the file, and what that client does. Where the directory does not tell which client
/// it is, both are told of, and what only one of them refuses is a warning.
pub(super) fn of_client(process: Option<Process>, legacy: Does<'_>, gcom: Does<'_>) -> (Severity, Option<String>) {
    let alone = |process: Process, does| match does {
        Does::Refuses => (Severity::Alarm, Some(refuses(process.as_str()))),
        Does::GoesOn(how) => (Severity::Warning, Some(format!("{process} {how}"))),
        Does::Untold => (Severity::Warning, None),
    };
    match process {
        Some(Process::ModbusClient) => alone(Process::ModbusClient, legacy),
        Some(Process::GcomModbusClient) => alone(Process::GcomModbusClient, gcom),
        _ => {
            let both = [(Process::ModbusClient, legacy), (Process::GcomModbusClient, gcom)];
            let does = both.into_iter().filter_map(|(process, does)| match does {
                Does::Refuses => Some(format!("{process} refuses the file")),
                Does::GoesOn(how) => Some(format!("{process} {how}")),
                Does::Untold => None,
            });
            let does: Vec<String> = does.collect();
            let severity = if (legacy, gcom) == (Does::Refuses, Does::Refuses) { Severity::Alarm } else { Severity::Warning };
            (severity, (!does.is_empty()).then(|| does.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_known_to_refuse_the_file_is_an_alarm() {
        let of = |process| of_client(process, Does::Refuses, Does::GoesOn("takes 502 instead"));
        let (severity, does) = of(Some(Process::ModbusClient));
        assert_eq!(
            (severity, does.as_deref()),
            (Severity::Alarm, Some("modbus_client refuses this file and is restarted every 10 s"))
        );
        let (severity, does) = of(Some(Process::GcomModbusClient));
        assert_eq!((severity, does.as_deref()), (Severity::Warning, Some("gcom_modbus_client takes 502 instead")));
        let (severity, does) = of(None);
        let both = "modbus_client refuses the file, gcom_modbus_client takes 502 instead";
        assert_eq!((severity, does.as_deref()), (Severity::Warning, Some(both)));
        assert_eq!(of_client(None, Does::Refuses, Does::Refuses).0, Severity::Alarm);
    }
}
