//! Reading fields of a decoded packet: `read` for those of the field table, `read_bytes` for bytes at an offset. See
//! `qfilter/engine/readers.py`.

use std::num::NonZeroU16;

use super::network::{IPV4_HEADER, IPV6_HEADER};
use super::transport::has_ports;
use super::{AH, Clock, Decoded, ESP, Fragment, GRE, ICMP, ICMPV6, TCP, UDP};
use crate::fields::Field;
use crate::packet::{Family, Packet};
use crate::value::{Address, Base, Cause, Unknown, Value, What};

impl<'a> Decoded<'a> {
    /// The value of a field of the field table, of this packet and not of one inside it. What is unknown is named by its
    /// field and this packet's depth. Metadata is that of `packet`, the outermost one, but for `family`.
    #[inline]
    #[must_use]
    pub fn read(&self, field: Field, packet: &Packet<'a>, clock: &Clock) -> Value<'a> {
        match field {
            Field::Hook => number(packet.hook as u8),
            Field::Family => number(self.family as u8),
            Field::Iifname => text(packet.iifname),
            Field::Oifname => text(packet.oifname),
            Field::Physin => text(packet.physin),
            Field::Physout => text(packet.physout),
            Field::Mark => number(packet.mark),
            Field::Length => number(packet.wire_length),
            Field::Uid => packet.uid.map_or(Value::Absent, number),
            Field::Gid => packet.gid.map_or(Value::Absent, number),
            Field::CtState => packet.ct_state.map_or(Value::Absent, number),
            Field::CtMark => packet.ct_mark.map_or(Value::Absent, number),
            Field::Hwaddr => text(packet.hwaddr),
            Field::Hour => of_time(packet, clock, |(hour, _)| hour),
            Field::Weekday => of_time(packet, clock, |(_, weekday)| weekday),
            Field::Saddr => self.address(0).map_or_else(|| self.missing(field), Value::Address),
            Field::Daddr => self.address(1).map_or_else(|| self.missing(field), Value::Address),
            Field::IpOptions | Field::Ip6Exthdrs | Field::Ip6Routing | Field::TcpOptions => self.many(field),
            Field::Checksum => self.checksum(packet),
            Field::Payload => self.payload(),
            _ => self.number(field).map_or_else(|| self.missing(field), Value::Number),
        }
    }

    /// `size` bytes of the packet, `offset` bytes behind a base: absent where the packet ends before.
    #[must_use]
    pub fn read_bytes(&self, base: Base, offset: i64, size: usize) -> Value<'a> {
        let unknown = |cause| {
            Value::Unknown(Unknown {
                cause,
                what: What::Bytes(base, offset),
            })
        };
        let start = match base {
            Base::Network => Some(0),
            Base::Transport => self.transport.map(NonZeroU16::get),
            Base::Payload => self.payload.map(NonZeroU16::get),
        };
        let Some(start) = start else {
            return self.cut.map_or(Value::Absent, unknown);
        };
        // Neither a policy's offset nor a packet's length is bounded here: their sum is, in 128 bits.
        let begin = i128::from(start) + i128::from(offset);
        let end = begin + size as i128;
        if begin < 0 {
            return Value::Absent;
        }
        if end > self.end as i128 {
            return if self.fragment == Fragment::First {
                unknown(Cause::Fragment)
            } else {
                Value::Absent
            };
        }
        let bytes = usize::try_from(begin)
            .ok()
            .and_then(|begin| self.data.get(begin..)?.get(..size));
        bytes.map_or(unknown(Cause::Truncated), Value::Bytes)
    }

    /// Source and destination address; None where the IP header was not copied.
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> Option<(Address, Address)> {
        Some((self.address(0)?, self.address(1)?))
    }

    /// Source and destination port; None of a protocol without ports, and where its header was not copied.
    #[inline]
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        let header = self.layer_4(has_ports)?;
        Some((half(header, 0)?, half(header, 2)?))
    }

    /// The source's at index 0, the destination's at 1.
    #[inline]
    fn address(&self, index: usize) -> Option<Address> {
        Some(match self.family {
            Family::Ipv4 => Address::V4(word(self.ipv4()?, 12 + 4 * index)?),
            Family::Ipv6 => Address::V6(u128::from_be_bytes(*self.ipv6()?.get(8 + 16 * index..)?.first_chunk()?)),
        })
    }

    /// A number in a header that was read.
    ///
    /// Numbers do not pass through a `Value` on their way: putting one together and taking it apart again, piece by
    /// piece, costs more than reading the number does.
    #[inline]
    fn number(&self, field: Field) -> Option<u64> {
        let of = |protocol: u8| self.layer_4(move |found| found == protocol);
        Some(match field {
            Field::Protocol => self.protocol?.into(),
            Field::Ttl => self.hops_and_class()?.0.into(),
            Field::Dscp => (self.hops_and_class()?.1 >> 2).into(),
            Field::Ecn => (self.hops_and_class()?.1 & 3).into(),
            Field::Fragment => self.fragment_number()?,
            Field::IpId => half(self.ipv4()?, 4)?.into(),
            Field::IpDf => (self.ipv4()?[6] >> 6 & 1).into(),
            Field::Ip6Flowlabel => (word(self.ipv6()?, 0)? & 0xF_FFFF).into(),
            Field::Sport => self.ports()?.0.into(),
            Field::Dport => self.ports()?.1.into(),
            Field::TcpFlags => (*of(TCP)?.get(13)?).into(),
            Field::TcpSeq => word(of(TCP)?, 4)?.into(),
            Field::TcpWindow => half(of(TCP)?, 14)?.into(),
            Field::TcpMss => self.tcp_mss()?.into(),
            Field::UdpLength => half(of(UDP)?, 4)?.into(),
            Field::IcmpType => (*of(ICMP)?.first()?).into(),
            Field::IcmpCode => (*of(ICMP)?.get(1)?).into(),
            Field::Icmpv6Type => (*of(ICMPV6)?.first()?).into(),
            Field::Icmpv6Code => (*of(ICMPV6)?.get(1)?).into(),
            Field::AhSpi => self.authentication_index()?.into(),
            Field::EspSpi => word(of(ESP)?, 0)?.into(),
            Field::GreProtocol => self.gre_protocol()?.into(),
            Field::GreKey => self.gre_key()?.into(),
            _ => return None,
        })
    }

    /// A field with several values.
    #[inline(never)]
    fn many(&self, field: Field) -> Value<'a> {
        let rest = self.rest(self.cut.unwrap_or(Cause::Truncated), field);
        let value = match field {
            Field::IpOptions => self.ipv4().map(|header| self.ipv4_option_kinds(header, rest)),
            Field::Ip6Exthdrs => self.ipv6().map(|_| self.extension_kinds(rest)),
            Field::Ip6Routing => self.ipv6().map(|_| self.routing_types(rest)),
            _ => self.tcp_option_kinds(rest),
        };
        value.unwrap_or_else(|| self.missing(field))
    }

    /// A field that was not read: impossible in this packet, or in a header that is not here.
    #[inline(never)]
    fn missing(&self, field: Field) -> Value<'a> {
        match self.cut {
            Some(cause) if self.may_have(field) => self.unknown(cause, field),
            _ => Value::Absent,
        }
    }

    /// Whether the field's families and protocols, as `qfilter/fields.py` has them, leave it possible.
    fn may_have(&self, field: Field) -> bool {
        let is = |family| self.family == family;
        let carries = |has: fn(u8) -> bool| self.protocol.is_none_or(has);
        match field {
            Field::IpId | Field::IpDf | Field::IpOptions => is(Family::Ipv4),
            Field::Ip6Flowlabel | Field::Ip6Exthdrs | Field::Ip6Routing => is(Family::Ipv6),
            Field::Sport | Field::Dport => carries(has_ports),
            Field::TcpFlags | Field::TcpSeq | Field::TcpWindow | Field::TcpMss | Field::TcpOptions => {
                carries(|protocol| protocol == TCP)
            }
            Field::UdpLength => carries(|protocol| protocol == UDP),
            Field::IcmpType | Field::IcmpCode => is(Family::Ipv4) && carries(|protocol| protocol == ICMP),
            Field::Icmpv6Type | Field::Icmpv6Code => is(Family::Ipv6) && carries(|protocol| protocol == ICMPV6),
            // One in an extension chain is read before the protocol is known; later it can only be the protocol itself.
            Field::AhSpi => carries(|protocol| protocol == AH),
            Field::EspSpi => carries(|protocol| protocol == ESP),
            Field::GreProtocol | Field::GreKey => carries(|protocol| protocol == GRE),
            _ => true,
        }
    }

    pub(super) fn unknown(&self, cause: Cause, field: Field) -> Value<'a> {
        Value::Unknown(self.rest(cause, field))
    }

    fn rest(&self, cause: Cause, field: Field) -> Unknown {
        Unknown {
            cause,
            what: What::Field(field, self.depth),
        }
    }

    #[inline]
    fn ipv4(&self) -> Option<&'a [u8; IPV4_HEADER]> {
        self.data.first_chunk().filter(|_| self.family == Family::Ipv4)
    }

    #[inline]
    fn ipv6(&self) -> Option<&'a [u8; IPV6_HEADER]> {
        self.data.first_chunk().filter(|_| self.family == Family::Ipv6)
    }

    /// Time to live or hop limit, and type of service or traffic class.
    fn hops_and_class(&self) -> Option<(u8, u8)> {
        match self.family {
            Family::Ipv4 => self.ipv4().map(|header| (header[8], header[1])),
            Family::Ipv6 => self.ipv6().map(|header| (header[7], header[0] << 4 | header[1] >> 4)),
        }
    }

    /// Of IPv6 it is known when a fragment header was read, or when the chain is at its end without one.
    fn fragment_number(&self) -> Option<u64> {
        (self.fragment != Fragment::Whole || self.protocol.is_some()).then_some(self.fragment as u64)
    }

    /// Of the first AH: in a chain, or as IPv4's layer 4.
    fn authentication_index(&self) -> Option<u32> {
        match self.family {
            Family::Ipv4 => word(self.layer_4(|protocol| protocol == AH)?, 4),
            Family::Ipv6 => self
                .ipv6()
                .and_then(|_| word(self.data, self.authentication_in_chain()? + 4)),
        }
    }

    /// What the packet carries. A first fragment carries only a part, and the kernel may have copied only a part.
    fn payload(&self) -> Value<'a> {
        let Some(start) = self.payload else {
            return self.missing(Field::Payload);
        };
        let start = usize::from(start.get());
        let (known, length) = (self.data.get(start..).unwrap_or_default(), self.end - start);
        let cause = if known.len() < length {
            Cause::Truncated
        } else {
            Cause::Fragment
        };
        let rest = self.rest(cause, Field::Payload);
        match self.fragment {
            Fragment::First => Value::PartialBytes {
                known,
                length: None,
                rest,
            },
            _ if known.len() == length => Value::Bytes(known),
            _ => Value::PartialBytes {
                known,
                length: Some(length),
                rest,
            },
        }
    }
}

#[inline]
fn number<'v>(number: impl Into<u64>) -> Value<'v> {
    Value::Number(number.into())
}

/// What the kernel said about a packet. What it did not say, the packet does not have.
#[inline]
fn text(said: Option<&[u8]>) -> Value<'_> {
    said.map_or(Value::Absent, Value::Bytes)
}

fn of_time<'v>(packet: &Packet, clock: &Clock, part: fn((u8, u8)) -> u8) -> Value<'v> {
    let timestamp = packet.timestamp.unwrap_or(clock.wall);
    let no_time = Value::Unknown(Unknown {
        cause: Cause::Error,
        what: What::Time(timestamp),
    });
    clock.local(timestamp).map_or(no_time, |local| number(part(local)))
}

#[inline]
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
