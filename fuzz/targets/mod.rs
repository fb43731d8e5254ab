//! What each fuzz target does with its bytes: shared by the targets and by the test that replays what they found.

pub mod analysis_checks;
pub mod analysis_packets;
pub mod analysis_setup;
pub mod bus_requests;
pub mod capture_file;
pub mod cut_recording;
pub mod dnp3_application;
pub mod dnp3_frames;
pub mod fims_codec;
pub mod greetings;
pub mod heartbeat_definitions;
pub mod ip_fragments;
pub mod modbus_frames;
pub mod packet_headers;
pub mod remembered_endpoints;
pub mod saved_topology;
pub mod settings_file;
pub mod socket_table;
pub mod state_directory;
pub mod topology_config;
pub mod topology_starters;
pub mod trigger_rules;
pub mod whole_captures;

/// What a target does with its bytes.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const ALL: &[(&str, Target)] = &[
    ("analysis_packets", analysis_packets::run),
    ("bus_requests", bus_requests::run),
    ("capture_file", capture_file::run),
    ("cut_recording", cut_recording::run),
    ("dnp3_application", dnp3_application::run),
    ("dnp3_frames", dnp3_frames::run),
    ("fims_codec", fims_codec::run),
    ("greetings", greetings::run),
    ("heartbeat_definitions", heartbeat_definitions::run),
    ("ip_fragments", ip_fragments::run),
    ("modbus_frames", modbus_frames::run),
    ("packet_headers", packet_headers::run),
    ("remembered_endpoints", remembered_endpoints::run),
    ("saved_topology", saved_topology::run),
    ("settings_file", settings_file::run),
    ("socket_table", socket_table::run),
    ("state_directory", state_directory::run),
    ("topology_config", topology_config::run),
    ("topology_starters", topology_starters::run),
    ("trigger_rules", trigger_rules::run),
    ("whole_captures", whole_captures::run),
];
