//! Layer 4: the header behind IP, its own lengths, and where the payload begins.
//!
//! The order of the checks is that of `qfilter/engine/transport.py`, because both engines must name the same code first:
//! family of ICMP; later fragment of TCP at offset 8; header short; the header's own lengths; its options; port zero;
//! TCP flags. The fixed part of a header is wholly here or unknown as a whole; options may be cut behind it.

use std::num::NonZeroU16;

use super::network::authentication;
use super::options::{Layout, Walk};
use super::{AH, DCCP, Decoded, ESP, Fragment, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, require};
use crate::malformed::Malformed;
use crate::packet::Family;
use crate::value::{Cause, Unknown, Value};

pub(super) const TCP_HEADER: usize = 20;
const NO_NEXT_HEADER: u8 = 59;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const URG: u8 = 32;
/// ECN's two bits are not looked at: a null scan with one of them set is still a null scan.
const RFC793_FLAGS: u8 = 0x3F;
const MSS: u8 = 2;
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_ROUTING: u16 = 0x4000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;
const GRE_VERSION: u16 = 7;

/// Read layer 4 at an offset; None where IP said that it is not here.
#[inline]
pub(super) fn transport(d: &mut Decoded, at: Option<usize>) -> Result<(), Malformed> {
    let other_family = match d.family {
        Family::Ipv4 => ICMPV6,
        Family::Ipv6 => ICMP,
    };
    require(d.protocol != Some(other_family), Malformed::IcmpFamily)?;
    // It would overwrite the flags of a first fragment that a filter has already judged (RFC 1858, RFC 3128).
    let overwrites = d.fragment == Fragment::Later && d.fragment_offset == 8;
    require(!overwrites || d.protocol != Some(TCP), Malformed::FragmentShort)?;
    let (Some(at), Some(protocol)) = (at, d.protocol) else {
        return Ok(());
    };
    let nothing_there = at == d.end && d.fragment == Fragment::Whole;
    if nothing_there || protocol == NO_NEXT_HEADER {
        d.payload = offset(at);
        return Ok(());
    }
    d.transport = offset(at);
    let size = match protocol {
        TCP => tcp(d, at),
        UDP => udp(d, at),
        ICMP | ICMPV6 | ESP => whole::<8>(d, at),
        UDPLITE => with_ports::<8>(d, at),
        SCTP => with_ports::<12>(d, at),
        DCCP => dccp(d, at),
        AH => match d.header::<12>(at, Malformed::TransportShort)? {
            Some(_) => authentication(d, at),
            None => Ok(None),
        },
        GRE => gre(d, at),
        _ => Ok(Some(0)),
    }?;
    d.payload = size.and_then(|size| offset(at + size));
    Ok(())
}

/// Headers end 33,836 bytes behind the packet's beginning at most: 40 of IPv6, 16 extension headers of 2,048, and 1,028
/// of the longest header behind them.
fn offset(at: usize) -> Option<NonZeroU16> {
    NonZeroU16::new(at as u16)
}

#[inline]
fn tcp(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = d.header::<TCP_HEADER>(at, Malformed::TransportShort)? else {
        return Ok(None);
    };
    let size = tcp_header_length(header);
    require(size >= TCP_HEADER, Malformed::TcpDataOffset)?;
    d.require_inside(at, size, Malformed::TcpDataOffset)?;
    if size > TCP_HEADER {
        let mut options = tcp_options(d.data, at, size);
        for option in options.by_ref() {
            option.map_err(|_| Malformed::TcpOption)?;
        }
        if options.cut() {
            d.cut = Some(Cause::Truncated);
        }
    }
    require_ports(header)?;
    let six = header[13] & RFC793_FLAGS;
    let xmas = six == FIN | PSH | URG;
    let scan = six == 0 || xmas || (six & SYN != 0 && six & (FIN | RST) != 0);
    d.require_unless_allowed(!scan, Malformed::TcpFlags)?;
    Ok(Some(size))
}

fn tcp_header_length(header: &[u8; TCP_HEADER]) -> usize {
    usize::from(header[12] >> 4) * 4
}

fn tcp_options(data: &[u8], at: usize, size: usize) -> Walk<'_> {
    Walk::new(data, at + TCP_HEADER, at + size, Layout::Ipv4AndTcp)
}

#[inline]
fn udp(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = d.header::<8>(at, Malformed::TransportShort)? else {
        return Ok(None);
    };
    let size = usize::from(u16::from_be_bytes([header[4], header[5]]));
    require(size >= 8, Malformed::UdpLength)?;
    if d.fragment != Fragment::First {
        require(at + size <= d.end, Malformed::UdpLength)?;
        // What IP carries behind it is not refused: the kernel cuts it off, and no application sees it.
        d.shrink(at + size);
    }
    require_ports(header)?;
    Ok(Some(8))
}

fn dccp(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = d.header::<12>(at, Malformed::TransportShort)? else {
        return Ok(None);
    };
    let (size, kind, extended) = (usize::from(header[4]) * 4, header[8] >> 1 & 0xF, header[8] & 1 == 1);
    let generic = if extended { 16 } else { 12 };
    require(
        size >= generic + dccp_type_specific(kind, extended),
        Malformed::DccpDataOffset,
    )?;
    d.require_inside(at, size, Malformed::DccpDataOffset)?;
    require_ports(header)?;
    Ok(Some(size))
}

/// Bytes behind the generic header by DCCP packet type, with short and with extended sequence numbers (RFC 4340).
fn dccp_type_specific(kind: u8, extended: bool) -> usize {
    match (kind, extended) {
        (0 | 3..=6 | 8 | 9, false) | (0, true) => 4,
        (1 | 7, false) | (3..=6 | 8 | 9, true) => 8,
        (1 | 7, true) => 12,
        _ => 0,
    }
}

fn gre(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = d.header::<4>(at, Malformed::TransportShort)? else {
        return Ok(None);
    };
    let flags = gre_flags(*header);
    if flags & (GRE_ROUTING | GRE_VERSION) != 0 {
        // Source routes (RFC 1701) and version 1 (PPTP) have other words behind these four bytes; Linux's GRE refuses
        // the first and does not look for IP in the second.
        return Ok(Some(4));
    }
    let words = (flags & (GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE)).count_ones() as usize;
    let size = 4 + 4 * words;
    d.require_inside(at, size, Malformed::TransportShort)?;
    Ok(d.is_copied(at, size).then_some(size))
}

fn gre_flags(header: [u8; 4]) -> u16 {
    u16::from_be_bytes([header[0], header[1]])
}

/// A header of fixed size of which nothing is judged.
fn whole<const SIZE: usize>(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    Ok(d.header::<SIZE>(at, Malformed::TransportShort)?.map(|_| SIZE))
}

/// A header of fixed size of which only the ports are judged.
fn with_ports<const SIZE: usize>(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = d.header::<SIZE>(at, Malformed::TransportShort)? else {
        return Ok(None);
    };
    require_ports(header)?;
    Ok(Some(SIZE))
}

/// Both ports of a header that begins with them must be there.
#[inline]
fn require_ports(header: &[u8]) -> Result<(), Malformed> {
    require(header[..2] != [0, 0] && header[2..4] != [0, 0], Malformed::PortZero)
}

/// Whether a protocol's header begins with a source and a destination port.
#[inline]
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDPLITE)
}

impl<'a> Decoded<'a> {
    /// The layer-4 header of a protocol and what is behind it, when its fixed part is here.
    #[inline]
    pub(super) fn layer_4(&self, has: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        self.protocol.filter(|protocol| has(*protocol))?;
        self.payload?;
        self.data.get(usize::from(self.transport?.get())..)
    }

    /// `tcp.options` of a header whose fixed part is here.
    pub(super) fn tcp_option_kinds(&self, rest: Unknown) -> Option<Value<'a>> {
        Some(self.tcp_walk()?.kinds(rest))
    }

    /// `tcp.mss`: of the first such option that is whole.
    pub(super) fn tcp_mss(&self) -> Option<u16> {
        let mut options = self
            .tcp_walk()?
            .map_while(Result::ok)
            .filter(|one| one.kind == MSS && one.whole);
        options.find_map(|one| Some(u16::from_be_bytes(one.value.try_into().ok()?)))
    }

    fn tcp_walk(&self) -> Option<Walk<'a>> {
        let at = usize::from(self.transport?.get());
        let header = self.layer_4(|protocol| protocol == TCP)?.first_chunk()?;
        Some(tcp_options(self.data, at, tcp_header_length(header)))
    }

    /// `gre.protocol`: known before the words behind it, which may not have been copied.
    pub(super) fn gre_protocol(&self) -> Option<u16> {
        let header = self.gre_header()?;
        Some(u16::from_be_bytes([header[2], header[3]]))
    }

    /// `gre.key` of a header that has one and is here.
    pub(super) fn gre_key(&self) -> Option<u32> {
        let flags = gre_flags(*self.gre_header()?);
        if flags & GRE_KEY == 0 || flags & (GRE_ROUTING | GRE_VERSION) != 0 {
            return None;
        }
        let words = self.layer_4(|protocol| protocol == GRE)?;
        let at = if flags & GRE_CHECKSUM == 0 { 4 } else { 8 };
        Some(u32::from_be_bytes(*words.get(at..)?.first_chunk()?))
    }

    /// Whether a GRE header that is here has IP or Ethernet right behind it, as far as its flags say.
    pub(super) fn gre_carries(&self) -> bool {
        self.gre_header()
            .is_some_and(|header| gre_flags(*header) & (GRE_ROUTING | GRE_VERSION) == 0)
    }

    fn gre_header(&self) -> Option<&'a [u8; 4]> {
        self.protocol.filter(|protocol| *protocol == GRE)?;
        self.data.get(usize::from(self.transport?.get())..)?.first_chunk()
    }
}
