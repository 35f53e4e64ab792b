//! `pcap:FILE`: a capture file as a receive-only port.

use linerate_common::{ErrorKind, SetupError};

use super::{Opened, Request};
use crate::any::AnyRx;
use crate::error::OpenError;
use crate::file::FileRx;
use crate::port::Direction;
use crate::uri::Uri;

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let refuse = |detail: &'static str, remedy: &'static str| {
        let e = SetupError::new(ErrorKind::Unsupported, "open", detail);
        Err(e.on(&uri.text).remedy(remedy).into())
    };
    if request.direction == Direction::Tx {
        return refuse("a file cannot be sent to", "write it with linerate::file::Writer");
    }
    if request.flows.iter().any(|flow| *flow != linerate_common::FlowSpec::ALL) {
        return refuse("a file has no filter", "ask for all frames and use FlowSpec::matches");
    }
    let rx = FileRx::open(&uri.target)?;
    Ok(Opened { rx: vec![AnyRx::File(Box::new(rx))], ..Opened::default() })
}
