//! From bytes to headers: lengths are checked here, once, and nothing behind this can fail on any bytes.
//!
//! What the headers say is judged in the order in which the packet has them: empty, IP version, then the checks of
//! `network` and of `transport` in the order that they give; the first one that fails is the packet's code. Two kinds of
//! missing bytes are kept apart: a header that claims more than the packet has on the wire lies (malformed), one that
//! the kernel did not copy is unknown (truncated). Bytes behind IP's own length are no part of the packet.
//!
//! The specification is `qfilter/engine/decode.py`. Values are not stored but read where they stand when a rule asks.

mod checksum;
mod clock;
mod ends;
mod network;
mod options;
mod read;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;

use std::num::NonZeroU16;

pub use self::clock::Clock;
pub use self::ends::{Ends, ends};
pub use self::tunnel::Inside;
use crate::malformed::{Allow, Malformed};
use crate::packet::{Family, Packet};
use crate::value::Cause;

const ICMP: u8 = 1;
const IPENCAP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// Whether a packet is a whole datagram: the values of the field `fragment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// All of it; an atomic fragment (RFC 6946) is.
    Whole,
    /// Its beginning.
    First,
    /// A part without its beginning.
    Later,
}

/// What the headers of one IP packet say, how far they could be read, and where their parts begin: a packet, or a packet
/// inside its tunnel. Offsets count bytes from its IP header on.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    /// From its IP header on, without what is behind its end, as far as it was copied.
    data: &'a [u8],
    /// Its length: what its container has, and from the IP header on what that header claims of it.
    end: usize,
    allow: Allow,
    transport: Option<NonZeroU16>,
    payload: Option<NonZeroU16>,
    /// Bytes of the datagram before this fragment's.
    fragment_offset: u16,
    /// None while nobody can say, see `cut`.
    protocol: Option<u8>,
    family: Family,
    fragment: Fragment,
    /// Why headers that were not read may exist all the same: TRUNCATED or FRAGMENT. None: there are no more.
    cut: Option<Cause>,
    /// The header's addresses are not those of the layer-4 checksum: source routed, or a mobile node's home address.
    rerouted: bool,
    /// How many IPv6 extension headers were seen, at most 17.
    extensions: u8,
    /// How many tunnels it is inside.
    depth: u8,
}

/// Read a packet's headers; `allow` names codes that are let through, of which only those of ALLOWABLE in
/// `qfilter/model/malformed.py` can be. Never panics, on any bytes.
///
/// # Errors
/// The first lie of the packet's headers: no rule sees it.
#[inline]
pub fn decode<'a>(packet: &Packet<'a>, allow: Allow) -> Result<Decoded<'a>, Malformed> {
    let mut decoded = Decoded::unread(packet, allow);
    decoded.read_headers()?;
    Ok(decoded)
}

fn version(first: u8) -> Result<Family, Malformed> {
    match first >> 4 {
        4 => Ok(Family::Ipv4),
        6 => Ok(Family::Ipv6),
        _ => Err(Malformed::IpVersion),
    }
}

#[inline]
fn require(truth: bool, code: Malformed) -> Result<(), Malformed> {
    if truth { Ok(()) } else { Err(code) }
}

impl<'a> Decoded<'a> {
    /// A packet of which nothing has been read.
    #[inline]
    pub(crate) fn unread(packet: &Packet<'a>, allow: Allow) -> Self {
        let end = usize::try_from(packet.wire_length).unwrap_or(usize::MAX);
        Self::begin(packet.data, end, Family::Ipv4, allow)
    }

    /// Reads the headers of an unread packet, in place: to move what was just written costs more than to read it.
    ///
    /// # Errors
    /// See [`decode`].
    #[inline]
    pub(crate) fn read_headers(&mut self) -> Result<(), Malformed> {
        // Nothing copied is nothing known, and the queue always copies the header's beginning.
        self.family = version(*self.data.first().ok_or(Malformed::Empty)?)?;
        self.walk()
    }

    #[inline]
    fn begin(data: &'a [u8], end: usize, family: Family, allow: Allow) -> Self {
        Self {
            data: &data[..end.min(data.len())],
            end,
            allow,
            transport: None,
            payload: None,
            fragment_offset: 0,
            protocol: None,
            family,
            fragment: Fragment::Whole,
            cut: None,
            rerouted: false,
            extensions: 0,
            depth: 0,
        }
    }

    #[inline]
    fn walk(&mut self) -> Result<(), Malformed> {
        let behind = match self.family {
            Family::Ipv4 => network::ipv4(self)?,
            Family::Ipv6 => network::ipv6(self)?,
        };
        transport::transport(self, behind)
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The layer-4 protocol behind all extension headers; None where that was not copied.
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        self.protocol
    }

    /// Whether it is a whole datagram; of a packet of which nobody can say, WHOLE.
    #[must_use]
    pub fn fragment(&self) -> Fragment {
        self.fragment
    }

    /// How many tunnels it is inside: 0 for the packet itself.
    #[must_use]
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// What its container has behind the packet's own length is no part of it.
    fn shrink(&mut self, end: usize) {
        self.end = end;
        self.data = &self.data[..end.min(self.data.len())];
    }

    /// Whether these bytes of the packet are here. When not, that is written down in `cut`.
    #[inline]
    fn is_copied(&mut self, offset: usize, size: usize) -> bool {
        let copied = offset + size <= self.data.len();
        if !copied {
            self.cut = Some(Cause::Truncated);
        }
        copied
    }

    /// The bytes of the packet at an offset. When they are not here, that is written down in `cut`.
    #[inline]
    fn copied<const SIZE: usize>(&mut self, offset: usize) -> Option<&'a [u8; SIZE]> {
        let found = self.data.get(offset..).and_then(<[u8]>::first_chunk);
        if found.is_none() {
            self.cut = Some(Cause::Truncated);
        }
        found
    }

    /// A header of at least that size, which must end inside the packet; None when it was not copied.
    #[inline]
    fn header<const SIZE: usize>(&mut self, at: usize, code: Malformed) -> Result<Option<&'a [u8; SIZE]>, Malformed> {
        self.require_inside(at, SIZE, code)?;
        Ok(self.copied(at))
    }

    /// A header must end inside its packet, and the whole header chain inside a first fragment (RFC 7112).
    #[inline]
    fn require_inside(&self, offset: usize, size: usize, code: Malformed) -> Result<(), Malformed> {
        let code = if self.fragment == Fragment::First {
            Malformed::FragmentShort
        } else {
            code
        };
        require(offset + size <= self.end, code)
    }

    fn require_unless_allowed(&self, truth: bool, code: Malformed) -> Result<(), Malformed> {
        require(truth || self.allow.allows(code), code)
    }
}
