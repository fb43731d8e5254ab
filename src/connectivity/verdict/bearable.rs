//! Warnings with which an endpoint is still well. Whatever is not here degrades, so that no new finding is missed.

use crate::analysis::catalogue::{self, Entry};

/// Each with the reason why.
const BEARABLE: &[(&Entry, &str)] = &[
    (catalogue::MODBUS_UNANSWERED, "the count of unanswered requests tells it"),
    (catalogue::DNP3_UNANSWERED, "the count of unanswered requests tells it"),
    (catalogue::DNP3_CRC_ERRORS, "the count of wrong check sums tells it"),
    (catalogue::MODBUS_EXCEPTIONS, "a few registers that are refused spoil no endpoint; their share decides"),
    (catalogue::TCP_RETRANSMISSIONS, "a few segments sent again spoil no endpoint; their share decides"),
    (catalogue::TCP_RESET, "the count of connections of others that were reset tells it; the test may reset its own"),
    (catalogue::TCP_SYN_RETRIED, "the count of repeated requests of the test itself tells it; those of others opened in the end"),
    (catalogue::TCP_HALF_OPEN, "the client never came back; the endpoint did its part"),
    (catalogue::HEARTBEAT_NOT_SEEN, "nobody asks for the register, in a test that may be shorter than its period"),
    (catalogue::KERNEL_SESSION_LOST, "the test itself may have pushed the session out; it is told beside the verdict"),
];

/// Why a warning of this code leaves the verdict as it is; `None` if it does not.
pub(super) fn why(code: &str) -> Option<&'static str> {
    BEARABLE.iter().find(|(entry, _)| entry.code == code).map(|(_, why)| *why)
}
