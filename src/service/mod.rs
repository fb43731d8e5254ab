//! The wiring: router, publishers, COPS, settings, shutdown.
