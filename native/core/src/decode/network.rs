//! IPv4 and IPv6: from the IP header to layer 4. They differ in the header step; fragments are one rule for both.
//!
//! The order of the checks is that of `qfilter/engine/network.py`, because both engines must name the same code first:
//! IPv4: header short, header length, header short again, total length, option, source route, fragment.
//! IPv6: header short, jumbogram, payload length, then for each extension header: count, order, repeated fragment,
//! length, and its content (option, jumbogram; routing type; fragment; AH length).

use super::options::{Layout, Walk};
use super::{AH, Decoded, Fragment, TCP, require};
use crate::malformed::Malformed;
use crate::value::{Cause, Numbers, Unknown, Value};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const MOST_EXTENSIONS: u8 = 16;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const JUMBO_PAYLOAD: u8 = 0xC2;
const HOME_ADDRESS: u8 = 0xC9;
const MAX_LENGTH: usize = 0xFFFF;
const MORE_FRAGMENTS: u16 = 0x2000;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;

/// Read an IPv4 header. Gives the offset of layer 4, None when that is not here.
#[inline]
pub(super) fn ipv4(d: &mut Decoded) -> Result<Option<usize>, Malformed> {
    require(d.end >= IPV4_HEADER, Malformed::Ipv4HeaderShort)?;
    let Some(header) = d.copied::<IPV4_HEADER>(0) else {
        return Ok(None);
    };
    let protocol = header[9];
    d.protocol = Some(protocol);
    let behind = ipv4_header_length(header[0]);
    require(behind >= IPV4_HEADER, Malformed::Ipv4HeaderLength)?;
    require(behind <= d.end, Malformed::Ipv4HeaderShort)?;
    let place = u16::from_be_bytes([header[6], header[7]]);
    let (more, offset) = (place & MORE_FRAGMENTS != 0, place << 3);
    let claimed = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let big = big_tcp(claimed, protocol, d.end) && !more && offset == 0;
    let end = if big { d.end } else { claimed };
    require(behind <= end && end <= d.end, Malformed::Ipv4TotalLength)?;
    d.shrink(end);
    if behind > IPV4_HEADER {
        ipv4_options(d, behind)?;
    }
    if more || offset > 0 {
        fragment(d, offset, more, behind, behind, Malformed::Ipv4Fragment)?;
    }
    Ok((d.fragment != Fragment::Later).then_some(behind))
}

/// Bytes of an IPv4 header, by its first byte.
pub(super) fn ipv4_header_length(first: u8) -> usize {
    usize::from(first & 0xF) * 4
}

/// Read an IPv6 header and its extension headers. Gives the offset of layer 4, None when that is not here.
#[inline]
pub(super) fn ipv6(d: &mut Decoded) -> Result<Option<usize>, Malformed> {
    require(d.end >= IPV6_HEADER, Malformed::Ipv6HeaderShort)?;
    let Some(header) = d.copied::<IPV6_HEADER>(0) else {
        return Ok(None);
    };
    let following = header[6];
    let claimed = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let big = big_tcp(claimed, following, d.end - IPV6_HEADER);
    let end = if big { d.end } else { IPV6_HEADER + claimed };
    require(claimed != 0 || end == d.end, Malformed::Ipv6Jumbogram)?;
    require(end <= d.end, Malformed::Ipv6PayloadLength)?;
    d.shrink(end);
    extensions(d, following)
}

/// Read an AH (RFC 4302), an extension header of IPv6 and a protocol of IPv4. Gives its size, None when cut.
pub(super) fn authentication(d: &mut Decoded, at: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = d.header::<12>(at, Malformed::AhLength)? else {
        return Ok(None);
    };
    let size = extension_size(AH, header[1]);
    require(size >= 12, Malformed::AhLength)?;
    d.require_inside(at, size, Malformed::AhLength)?;
    Ok(Some(size))
}

fn ipv4_options(d: &mut Decoded, behind: usize) -> Result<(), Malformed> {
    let mut options = ipv4_walk(d.data, behind);
    for option in options.by_ref() {
        let kind = option.map_err(|_| Malformed::Ipv4Option)?.kind;
        d.rerouted |= matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
    }
    if options.cut() {
        d.cut = Some(Cause::Truncated);
    }
    d.require_unless_allowed(!d.rerouted, Malformed::Ipv4SourceRoute)
}

fn ipv4_walk(data: &[u8], behind: usize) -> Walk<'_> {
    Walk::new(data, IPV4_HEADER, behind, Layout::Ipv4AndTcp)
}

/// What Linux walks over as well (`ipv6_ext_hdr`): any other number is the layer-4 protocol.
fn is_walked(kind: u8) -> bool {
    matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AH | DESTINATION)
}

/// ESP, Mobility, HIP, Shim6: extension headers by IANA's list that are the protocol here, as in Linux.
fn is_last(kind: u8) -> bool {
    matches!(kind, 50 | 135 | 139 | 140)
}

/// Walk the chain. What one header announces is known even where the next one is not here.
fn extensions(d: &mut Decoded, following: u8) -> Result<Option<usize>, Malformed> {
    let (mut kind, mut at) = (following, IPV6_HEADER);
    let mut fragmented = false;
    while is_walked(kind) && d.fragment != Fragment::Later {
        require(d.extensions < MOST_EXTENSIONS, Malformed::Ipv6ExtensionCount)?;
        require(kind != HOP_BY_HOP || at == IPV6_HEADER, Malformed::Ipv6ExtensionOrder)?;
        require(kind != FRAGMENT || !fragmented, Malformed::Ipv6FragmentRepeated)?;
        fragmented |= kind == FRAGMENT;
        d.extensions += 1;
        let Some(size) = extension(d, kind, at)? else {
            return Ok(None);
        };
        kind = d.data[at];
        at += size;
    }
    if is_walked(kind) {
        // A later fragment of a datagram whose chain goes on behind the fragment header: layer 4 may be anything.
        d.extensions += 1;
        return Ok(None);
    }
    // A later fragment's next header is taken at its word, as Linux does (ipv6_find_hdr): what counts in the end is the
    // first fragment's, and that one is judged with its whole chain.
    d.protocol = Some(kind);
    d.extensions += u8::from(is_last(kind));
    Ok((d.fragment != Fragment::Later).then_some(at))
}

/// Check one extension header. Gives its size, None when it was not copied.
fn extension(d: &mut Decoded, kind: u8, at: usize) -> Result<Option<usize>, Malformed> {
    if kind == AH {
        return authentication(d, at);
    }
    let Some(header) = d.header::<8>(at, Malformed::Ipv6ExtensionLength)? else {
        return Ok(None);
    };
    if kind == FRAGMENT {
        let place = u16::from_be_bytes([header[2], header[3]]);
        let (more, offset) = (place & 1 != 0, place & !7);
        // Neither is an atomic fragment: a whole packet (RFC 6946).
        if more || offset > 0 {
            fragment(d, offset, more, at + 8, at - IPV6_HEADER, Malformed::Ipv6Fragment)?;
        }
        return Ok(Some(8));
    }
    let size = extension_size(kind, header[1]);
    d.require_inside(at, size, Malformed::Ipv6ExtensionLength)?;
    if !d.is_copied(at, size) {
        return Ok(None);
    }
    if kind == ROUTING {
        d.require_unless_allowed(header[2] != 0, Malformed::Ipv6RoutingType0)?;
        d.rerouted |= header[3] > 0; // segments left
    } else {
        ipv6_options(d, at, size)?;
    }
    Ok(Some(size))
}

fn ipv6_options(d: &mut Decoded, at: usize, size: usize) -> Result<(), Malformed> {
    let mut jumbo = false;
    for option in Walk::new(d.data, at + 2, at + size, Layout::Ipv6) {
        let kind = option.map_err(|_| Malformed::Ipv6ExtensionOption)?.kind;
        jumbo |= kind == JUMBO_PAYLOAD;
        d.rerouted |= kind == HOME_ADDRESS;
    }
    require(!jumbo, Malformed::Ipv6Jumbogram)
}

/// Bytes of an extension header, by its kind and its second byte.
fn extension_size(kind: u8, length: u8) -> usize {
    match kind {
        AH => (usize::from(length) + 2) * 4,
        FRAGMENT => 8,
        _ => (usize::from(length) + 1) * 8,
    }
}

/// Check a real fragment. `before` is what the reassembled length counts in front of the fragments' data; all in bytes.
///
/// Where other fragments overlap this one is not known here: a datagram with overlaps is the reassembler's to refuse
/// (RFC 5722), and a rule that needs layer 4 of a later fragment gets the cause `fragment`.
fn fragment(
    d: &mut Decoded,
    offset: u16,
    more: bool,
    data: usize,
    before: usize,
    code: Malformed,
) -> Result<(), Malformed> {
    let size = d.end - data;
    let fits = before + usize::from(offset) + size <= MAX_LENGTH;
    require(size > 0 && (!more || size.is_multiple_of(8)) && fits, code)?;
    d.fragment_offset = offset;
    if offset > 0 {
        d.fragment = Fragment::Later;
        d.cut = Some(Cause::Fragment);
    } else {
        d.fragment = Fragment::First;
    }
    Ok(())
}

/// A super-packet whose length does not fit 16 bits says 0 (Linux: BIG TCP, `iph_totlen`, `ipv6_payload_len`).
///
/// No wire carries such a packet without a jumbo payload option, so only this kernel can have made it. The kernels that
/// did add the option for IPv6 (5.19 until it was dropped again) made true jumbograms; those stay refused.
fn big_tcp(claimed: usize, protocol: u8, size: usize) -> bool {
    claimed == 0 && protocol == TCP && size > MAX_LENGTH
}

impl<'a> Decoded<'a> {
    /// `ip.options` of an IPv4 header whose fixed part is here.
    pub(super) fn ipv4_option_kinds(&self, header: &[u8; IPV4_HEADER], rest: Unknown) -> Value<'a> {
        ipv4_walk(self.data, ipv4_header_length(header[0])).kinds(Unknown {
            cause: Cause::Truncated,
            ..rest
        })
    }

    /// `ip6.exthdrs` of an IPv6 header that is here.
    pub(super) fn extension_kinds(&self, rest: Unknown) -> Value<'a> {
        self.chain_values(self.chain().map(|(kind, _)| kind), rest)
    }

    /// `ip6.routing` of an IPv6 header that is here.
    pub(super) fn routing_types(&self, rest: Unknown) -> Value<'a> {
        let routing = self.read_chain().filter(|(kind, _)| *kind == ROUTING);
        self.chain_values(routing.map(|(_, at)| self.data[at + 2]), rest)
    }

    /// Where the first AH of an IPv6 chain begins.
    pub(super) fn authentication_in_chain(&self) -> Option<usize> {
        self.read_chain().find(|(kind, _)| *kind == AH).map(|(_, at)| at)
    }

    fn chain_values(&self, values: impl Iterator<Item = u8>, rest: Unknown) -> Value<'a> {
        let mut known = Numbers::new();
        values.for_each(|value| known.push(value));
        if self.protocol.is_none() {
            Value::PartialNumbers { known, rest }
        } else {
            Value::Numbers(known)
        }
    }

    /// The extension headers that `extensions` counted: kind, and where each begins.
    fn chain(&self) -> impl Iterator<Item = (u8, usize)> + use<'a> {
        let data = self.data;
        let following =
            |&(kind, at): &(u8, usize)| Some((*data.get(at)?, at + extension_size(kind, *data.get(at + 1)?)));
        std::iter::successors(Some((data[6], IPV6_HEADER)), following).take(self.extensions.into())
    }

    /// Those that were read: of a chain that is not here as a whole, the last one is only announced.
    fn read_chain(&self) -> impl Iterator<Item = (u8, usize)> + use<'a> {
        let announced = usize::from(self.protocol.is_none());
        self.chain().take(usize::from(self.extensions) - announced)
    }
}
