//! The thresholds that can be given at the prompt; each has the name of the setting that it overrides.

use crate::service::Settings;

/// Those that are seldom needed are in the long help only.
#[derive(Debug, clap::Args)]
pub(super) struct Thresholds {
    /// A request that waits longer than this is unanswered [default: 2000].
    #[arg(long, value_name = "MS", alias = "timeout-ms")]
    response_timeout_ms: Option<u64>,
    /// An answer that takes this long is slow [default: 1000].
    #[arg(long, value_name = "MS", alias = "slow-ms")]
    slow_response_ms: Option<u64>,
    /// A heartbeat register that has not changed for this long is frozen [default: 10000].
    #[arg(long, value_name = "MS")]
    heartbeat_timeout_ms: Option<u64>,
    /// A server that talked and says nothing for this long, while it is asked, has gone silent [default: 10000].
    #[arg(long, value_name = "MS")]
    silence_ms: Option<u64>,
    /// So many frames to all within a second are a storm [default: 1000].
    #[arg(long, value_name = "FRAMES")]
    storm_per_s: Option<u64>,
    /// A SYN, or a question for a hardware address, that waits longer than this is unanswered [default: 1000].
    #[arg(long, value_name = "MS", hide_short_help = true)]
    attempt_timeout_ms: Option<u64>,
    /// Segments sent again are a warning from this number on [default: 3].
    #[arg(long, value_name = "SEGMENTS", hide_short_help = true)]
    retransmissions_min: Option<u64>,
    /// Segments sent again are a warning if they are at least one in so many of those with payload [default: 100].
    #[arg(long, value_name = "SEGMENTS", hide_short_help = true)]
    retransmissions_one_in: Option<u64>,
    /// So many connections of one server that were made anew, after an end that was not the client's own close, are a warning [default: 3].
    #[arg(long, value_name = "CONNECTIONS", hide_short_help = true)]
    reconnects_min: Option<u64>,
    /// A configured endpoint of which nothing is seen for this long is missing [default: 60].
    #[arg(long, value_name = "S", hide_short_help = true)]
    never_seen_after_s: Option<u64>,
    /// What follows a stall of a whole host within this time is told as a part of it [default: 60].
    #[arg(long, value_name = "S", hide_short_help = true)]
    stall_aftermath_s: Option<u64>,
    /// Two masters of one outstation that speak in turn, each again within this time, are there at once [default: 60].
    #[arg(long, value_name = "S", hide_short_help = true)]
    two_masters_within_s: Option<u64>,
    /// Two packets alike within this time are one, captured twice; 0: only those that are numbered [default: 100].
    #[arg(long, value_name = "US", hide_short_help = true)]
    copy_window_us: Option<u64>,
    /// Two packets alike, also in the number or the time stamp that their sender gave them, are one within this time; 0: never [default: 100].
    #[arg(long, value_name = "MS", hide_short_help = true)]
    numbered_copy_window_ms: Option<u64>,
    /// How long bytes that the capture does not have, and the receiver does, are waited for [default: 200].
    #[arg(long, value_name = "MS", hide_short_help = true)]
    gap_patience_ms: Option<u64>,
    /// A packet that is earlier than the one before by so much tells that the clock was set back [default: 1000].
    #[arg(long, value_name = "MS", hide_short_help = true)]
    clock_step_ms: Option<u64>,
}

impl Thresholds {
    /// Puts those that were given in the place of the settings'.
    pub fn override_in(&self, settings: &mut Settings) {
        for (setting, option) in [
            (&mut settings.response_timeout_ms, self.response_timeout_ms),
            (&mut settings.slow_response_ms, self.slow_response_ms),
            (&mut settings.heartbeat_timeout_ms, self.heartbeat_timeout_ms),
            (&mut settings.silence_ms, self.silence_ms),
            (&mut settings.storm_per_s, self.storm_per_s),
            (&mut settings.attempt_timeout_ms, self.attempt_timeout_ms),
            (&mut settings.retransmissions_min, self.retransmissions_min),
            (&mut settings.retransmissions_one_in, self.retransmissions_one_in),
            (&mut settings.reconnects_min, self.reconnects_min),
            (&mut settings.never_seen_after_s, self.never_seen_after_s),
            (&mut settings.stall_aftermath_s, self.stall_aftermath_s),
            (&mut settings.two_masters_within_s, self.two_masters_within_s),
            (&mut settings.copy_window_us, self.copy_window_us),
            (&mut settings.numbered_copy_window_ms, self.numbered_copy_window_ms),
            (&mut settings.gap_patience_ms, self.gap_patience_ms),
            (&mut settings.clock_step_ms, self.clock_step_ms),
        ] {
            *setting = option.unwrap_or(*setting);
        }
    }
}
