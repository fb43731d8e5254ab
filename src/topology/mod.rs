//! Config text to endpoints, hosts, heartbeats and problems. Pure, but for the one function that walks directories.
