//! Figures that go on over several analyses which overlap: each packet counts once.

use super::meter::Meter;
use std::collections::BTreeMap;

/// The figures of the watched endpoints, by id, summed up over analyses that follow on one another.
///
/// ```text
///   analysis A  ├──────────────────────┤
///   analysis B                    ├──────────────────────┤
///   readings    0    1     2      3        4     5
///                A-A₀  A-A₁  A₃-A₂ │ B₄-B₃   B-B₄          at 3 both are read; B₃ is where B goes on from
/// ```
#[derive(Debug, Default)]
pub struct Account {
    /// The latest reading of the analysis that is counted now; empty: it is counted from its beginning.
    baseline: BTreeMap<String, Meter>,
    sum: BTreeMap<String, Meter>,
}

impl Account {
    /// Takes a reading of the analysis that is counted now.
    pub fn read(&mut self, meters: Vec<(String, Meter)>) {
        let reading: BTreeMap<String, Meter> = meters.into_iter().collect();
        for (endpoint_id, now) in &reading {
            let sum = self.sum.entry(endpoint_id.clone()).or_default();
            match self.baseline.get(endpoint_id) {
                Some(before) => sum.add(&now.since(before)),
                None => sum.add(now),
            }
        }
        self.baseline = reading;
    }

    /// From here on another analysis is counted, whose figures are these now.
    pub fn go_on_with(&mut self, meters: Vec<(String, Meter)>) {
        self.baseline = meters.into_iter().collect();
    }

    /// Ends a period: gives what was summed up since the last one.
    pub fn take(&mut self) -> BTreeMap<String, Meter> {
        std::mem::take(&mut self.sum)
    }
}
