//! The edge to the network: ping, port connect, the kernel's socket tables, routes and interfaces.
