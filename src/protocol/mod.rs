//! Modbus TCP and DNP3 frames from bytes and to bytes. Pure: what is unknown is a value, not an error; after garbage it finds its
//! place again.
