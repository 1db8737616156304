//! Packets inside packets: IPIP, 6in4, GRE and VXLAN. See `qfilter/engine/tunnel.py`.

use super::{Decoded, Fragment, GRE, IPENCAP, IPV6, UDP, require, version};
use crate::malformed::Malformed;
use crate::packet::Family;
use crate::value::Cause;

const VXLAN_PORT: u16 = 4789;
const VXLAN_HEADER: usize = 8;
const ETHERNET: u16 = 0x6558;
const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88A8];

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub enum Inside<'a> {
    /// The packet inside.
    Packet(Decoded<'a>),
    /// It is no tunnel.
    Absent,
    /// A packet whose headers lie; the outer one does not: a host that does not end the tunnel only forwards it.
    Malformed(Malformed),
    /// That cannot be seen: FRAGMENT or TRUNCATED. What is unknown is the field that was asked for.
    Unknown(Cause),
}

impl<'a> Decoded<'a> {
    /// The packet that this one carries. A fragment shows only a part of what is inside, so nothing of it is known.
    #[must_use]
    pub fn inside(&self) -> Inside<'a> {
        if !self.may_be_tunnel() {
            return Inside::Absent;
        }
        if self.fragment != Fragment::Whole {
            return Inside::Unknown(Cause::Fragment);
        }
        if let Some(cause) = self.cut {
            return Inside::Unknown(cause);
        }
        let (Some(_), Some(payload)) = (self.transport, self.payload) else {
            return Inside::Absent;
        };
        let payload = usize::from(payload.get());
        match self.protocol {
            Some(IPENCAP) => self.carried(payload, Family::Ipv4),
            Some(IPV6) => self.carried(payload, Family::Ipv6),
            Some(GRE) if !self.gre_carries() => Inside::Absent,
            Some(GRE) => match self.gre_protocol().and_then(family) {
                Some(family) => self.carried(payload, family),
                None => self.frame(payload),
            },
            _ => self.frame(payload + VXLAN_HEADER),
        }
    }

    /// False when the headers that are here rule it out.
    fn may_be_tunnel(&self) -> bool {
        match self.protocol {
            None | Some(IPENCAP | IPV6) => true,
            Some(UDP) => self.ports().is_none_or(|(_, dport)| dport == VXLAN_PORT),
            Some(GRE) => self
                .gre_protocol()
                .is_none_or(|carried| carried == ETHERNET || family(carried).is_some()),
            Some(_) => false,
        }
    }

    /// The IP packet from an offset on, of the family that the tunnel announced.
    fn carried(&self, start: usize, announced: Family) -> Inside<'a> {
        match self.dissect(start, announced) {
            Ok(decoded) => Inside::Packet(decoded),
            Err(code) => Inside::Malformed(code),
        }
    }

    fn dissect(&self, start: usize, announced: Family) -> Result<Self, Malformed> {
        require(start < self.end, Malformed::Empty)?;
        let data = self.data.get(start..).unwrap_or_default();
        let mut inner = Decoded::begin(data, self.end - start, announced, self.allow);
        inner.depth = self.depth + 1;
        if let Some(first) = inner.copied::<1>(0) {
            require(version(first[0])? == announced, Malformed::IpVersion)?;
            inner.walk()?;
        }
        Ok(inner)
    }

    /// What an Ethernet frame carries, behind its VLAN tags. VXLAN's flags are not asked: not all hosts do.
    fn frame(&self, start: usize) -> Inside<'a> {
        let mut at = start + ETHERNET_HEADER;
        loop {
            if at > self.end {
                return Inside::Malformed(Malformed::TransportShort);
            }
            let Some([.., high, low]) = self.data.get(..at) else {
                return Inside::Unknown(Cause::Truncated);
            };
            let kind = u16::from_be_bytes([*high, *low]);
            if !VLAN_TAGS.contains(&kind) {
                return family(kind).map_or(Inside::Absent, |family| self.carried(at, family));
            }
            at += VLAN_TAG;
        }
    }
}

/// The IP family of an Ethernet type.
fn family(kind: u16) -> Option<Family> {
    match kind {
        0x0800 => Some(Family::Ipv4),
        0x86DD => Some(Family::Ipv6),
        _ => None,
    }
}
