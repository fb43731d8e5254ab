//! What stands in for live capture in a build without libpcap: nothing can be opened.

use super::{OpenError, error::OpenSettings};
use crate::packet::LinkType;
use std::os::fd::BorrowedFd;

/// Why nothing can be captured.
pub const LIBRARY: Result<&str, &str> =
    Err("this netdiag was built without libpcap: install libpcap-dev and build it with the feature `libpcap`");

/// A filter for packets that are here already; there are none.
pub enum Screen {}

impl Screen {
    pub fn new(_: LinkType, _: &str) -> Result<Self, OpenError> {
        Err(OpenError::Other(LIBRARY.unwrap_or_else(|reason| reason).into()))
    }

    pub fn passes(&self, _: &[u8]) -> bool {
        match *self {}
    }
}

/// Nothing is known of filters here.
///
/// # Errors
/// None.
pub fn check_filter(_: &str) -> Result<(), OpenError> {
    Ok(())
}

/// An open interface; there is none.
pub enum Live {}

impl Live {
    pub fn open(_: &str, _: &OpenSettings<'_>) -> Result<Self, OpenError> {
        Err(OpenError::Other(LIBRARY.unwrap_or_else(|reason| reason).into()))
    }

    pub fn link_type(&self) -> LinkType {
        match *self {}
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub fn dispatch(&mut self, _: usize, _: impl FnMut(i64, u32, &[u8])) -> Result<usize, String> {
        match *self {}
    }

    pub fn set_filter(&mut self, _: &str) -> Result<(), OpenError> {
        match *self {}
    }

    pub fn losses(&mut self) -> super::lane::Losses {
        match *self {}
    }
}
