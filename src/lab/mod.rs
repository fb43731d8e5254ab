//! A simulated site: network namespaces, and devices in them that really speak Modbus TCP and DNP3. The demo and the tests use it.
