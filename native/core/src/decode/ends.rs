//! A packet in five fields, for people. See `qfilter/engine/summary.py`.

use super::transport::TCP_HEADER;
use super::{DCCP, Decoded, SCTP, TCP, UDP, UDPLITE};
use crate::malformed::{Allow, Malformed};
use crate::packet::Packet;
use crate::value::Address;

/// Between whom a packet goes, as far as it is known: of a malformed one what stands before the lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Source and destination.
    pub addresses: Option<(Address, Address)>,
    /// Source and destination.
    pub ports: Option<(u16, u16)>,
    /// Of layer 4.
    pub protocol: Option<u8>,
}

/// Reads a packet's ends; `allow` as in [`super::decode`].
#[must_use]
pub fn ends(packet: &Packet<'_>, allow: Allow) -> Ends {
    let mut decoded = Decoded::unread(packet, allow);
    if let Err(Malformed::Empty | Malformed::IpVersion) = decoded.read_headers() {
        return Ends::default();
    }
    // Any other lie ended the walk, and what was written down before it holds.
    Ends {
        addresses: decoded.addresses(),
        ports: decoded.ports_of_header(),
        protocol: decoded.protocol,
    }
}

impl Decoded<'_> {
    /// The ports of a header whose fixed part is here, whatever comes behind them.
    fn ports_of_header(&self) -> Option<(u16, u16)> {
        let fixed = match self.protocol? {
            TCP => TCP_HEADER,
            SCTP | DCCP => 12,
            UDP | UDPLITE => 8,
            _ => return None,
        };
        let header = self.data.get(usize::from(self.transport?.get())..)?.get(..fixed)?;
        Some((
            u16::from_be_bytes([header[0], header[1]]),
            u16::from_be_bytes([header[2], header[3]]),
        ))
    }
}
