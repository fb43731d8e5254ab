//! Packets made octet by octet, and what must be read from them.

mod captures;
mod files;
mod headers;
mod made;
mod properties;
