//! What each fuzz target does with its bytes: shared by the targets and by the test that replays what they found.

pub mod analysis_packets;
pub mod bus_requests;
pub mod capture_file;
pub mod dnp3_frames;
pub mod fims_codec;
pub mod ip_fragments;
pub mod modbus_frames;
pub mod packet_headers;
pub mod socket_table;
pub mod topology_config;
pub mod topology_starters;

/// What a target does with its bytes.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const ALL: &[(&str, Target)] = &[
    ("analysis_packets", analysis_packets::run),
    ("bus_requests", bus_requests::run),
    ("capture_file", capture_file::run),
    ("dnp3_frames", dnp3_frames::run),
    ("fims_codec", fims_codec::run),
    ("ip_fragments", ip_fragments::run),
    ("modbus_frames", modbus_frames::run),
    ("packet_headers", packet_headers::run),
    ("socket_table", socket_table::run),
    ("topology_config", topology_config::run),
    ("topology_starters", topology_starters::run),
];
