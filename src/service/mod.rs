//! The wiring: router, publishers, COPS, settings, shutdown.
//!
//! A message is read by [`route`] (pure) and answered at once from what is known; long work becomes a job. Nothing here waits for a
//! probe, a disk or a scan before it replies, and the supervisor's questions overtake all others.

mod dir_watch;
mod events;
mod first_look;
mod freshness;
mod monitor;
mod names;
mod publisher;
mod remembered;
mod replies;
mod results;
mod router;
mod runners;
mod series_settings;
mod serve;
mod settings;
mod site_bodies;
mod sites;
mod state_files;
mod supervised;

pub use monitor::changed_monitor_settings;
pub use remembered::read_remembered_endpoints;
pub use router::{Request, route};
pub(crate) use runners::{disk_bytes, free_bytes};
pub use series_settings::{InfluxSettings, SeriesSettings};
pub use serve::{ServeError, serve};
pub use settings::{Settings, SettingsError};
pub use sites::{read_topology, read_topology_of_others};
