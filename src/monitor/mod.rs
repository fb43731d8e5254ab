//! The rules of continuous recording, without I/O and without a clock: when snapshots begin and end ([`Schedule`]), which are suspect
//! and which of those are kept ([`suspicious`], [`Recurrence`]) and with what beside them ([`neighbours_before`]), what makes the flight
//! recorder save ([`Rules`], [`RateLimit`]), and what waits for a historian ([`Queue`]). Which interfaces are wanted while a link is lost
//! ([`Ways`]), what was not recorded meanwhile ([`Outages`]), who has fallen silent ([`Silences`]), and what is told of problems that last
//! ([`Problems`]).
//! How each endpoint was in a period ([`health()`]), and how that is written for a time-series database ([`write_point`]), stands here, too.
//! The threads that run by them are in the service.

mod health;
mod line_protocol;
mod neighbours;
mod outages;
mod problems;
mod queue;
mod schedule;
mod silence;
mod trigger;
mod verdict;
mod ways;

pub use health::{Expected, Past, health};
pub use line_protocol::{Field, Point, write_point};
pub use neighbours::{Earlier, NeighboursAfter, neighbours_before};
pub use outages::{Outage, Outages};
pub use problems::Problems;
pub use queue::{Queue, Refusal, Setback};
pub use schedule::{MAX_OPEN, OpenSnapshot, Schedule, Step};
pub use silence::{Seen, Silence, Silences};
pub use trigger::{Condition, RateLimit, Rule, Rules};
pub use verdict::{FindingPattern, Judgement, Keep, Recurrence, gone_after, suspicious};
pub use ways::Ways;
