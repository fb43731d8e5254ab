//! One recording for two: a connectivity test takes a window of the capture that the monitor has open, where that one has all of it.

use crate::{
    analysis::Analysis,
    api::Endpoint,
    capture::{Continuous, ContinuousOptions, Recording, RecordingOptions, covers},
};
use std::sync::{Arc, Mutex};

/// A snapshot length that no packet of a plant's network reaches.
const WHOLE_PACKETS: u32 = 65_535;

/// The monitor's capture, for others to take windows of.
pub(super) struct Offer {
    pub capture: Continuous<Analysis>,
    pub options: ContinuousOptions,
    /// The endpoints that its filter is made of.
    pub endpoints: Vec<Endpoint>,
}

impl Offer {
    /// A recording of these endpoints as it is asked for, if all of it passes through the monitor's capture now. Blocks for some
    /// milliseconds.
    pub fn record(&self, endpoints: &[Endpoint], wanted: &RecordingOptions, sink: &Arc<Mutex<Analysis>>) -> Option<Recording> {
        let lanes = self.capture.interfaces();
        let is_captured = |name: &String| lanes.iter().any(|lane| lane.name == *name && lane.captured);
        let is_whole = self.options.snaplen >= wanted.snaplen.min(WHOLE_PACKETS)
            && self.capture.ended().is_none()
            && wanted.interfaces.iter().all(is_captured)
            && covers(&self.endpoints, endpoints);
        is_whole.then(|| Recording::within(self.capture.clone(), wanted.clone(), Arc::clone(sink)))
    }
}
