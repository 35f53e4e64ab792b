//! `pcap:FILE`: a capture file as a receive-only port.

use linerate_common::{ErrorKind, SetupError};

use super::{Opened, Request};
use crate::any::AnyRx;
use crate::error::OpenError;
use crate::file::FileRx;
use crate::port::Direction;
use crate::uri::Uri;

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    if request.direction == Direction::Tx {
        let e = SetupError::new(ErrorKind::Unsupported, "open", "a file cannot be sent to");
        return Err(e.on(&uri.text).remedy("write it with linerate::file::Writer").into());
    }
    let rx = FileRx::open(&uri.target)?.with_flows(request.flows.iter().copied());
    Ok(Opened { rx: vec![AnyRx::File(Box::new(rx))], ..Opened::default() })
}
