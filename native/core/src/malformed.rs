//! Why a packet is malformed: the codes of `qfilter/model/malformed.py`, in its order, and no others.

use std::fmt;

/// A header that lies or contradicts another; `qfilter/model/malformed.py` says what each code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "malformed.py says what each is")]
pub enum Malformed {
    Empty,
    IpVersion,
    Ipv4HeaderShort,
    Ipv4HeaderLength,
    Ipv4TotalLength,
    Ipv4Option,
    Ipv4SourceRoute,
    Ipv4Fragment,
    Ipv6HeaderShort,
    Ipv6PayloadLength,
    Ipv6Jumbogram,
    Ipv6ExtensionLength,
    Ipv6ExtensionCount,
    Ipv6ExtensionOrder,
    Ipv6ExtensionOption,
    Ipv6FragmentRepeated,
    Ipv6Fragment,
    Ipv6RoutingType0,
    FragmentShort,
    TransportShort,
    TcpDataOffset,
    TcpOption,
    TcpFlags,
    UdpLength,
    PortZero,
    IcmpFamily,
    DccpDataOffset,
    AhLength,
}

/// Every code with its name, by number.
pub const CODES: [(Malformed, &str); 28] = [
    (Malformed::Empty, "empty"),
    (Malformed::IpVersion, "ip-version"),
    (Malformed::Ipv4HeaderShort, "ipv4-header-short"),
    (Malformed::Ipv4HeaderLength, "ipv4-header-length"),
    (Malformed::Ipv4TotalLength, "ipv4-total-length"),
    (Malformed::Ipv4Option, "ipv4-option"),
    (Malformed::Ipv4SourceRoute, "ipv4-source-route"),
    (Malformed::Ipv4Fragment, "ipv4-fragment"),
    (Malformed::Ipv6HeaderShort, "ipv6-header-short"),
    (Malformed::Ipv6PayloadLength, "ipv6-payload-length"),
    (Malformed::Ipv6Jumbogram, "ipv6-jumbogram"),
    (Malformed::Ipv6ExtensionLength, "ipv6-extension-length"),
    (Malformed::Ipv6ExtensionCount, "ipv6-extension-count"),
    (Malformed::Ipv6ExtensionOrder, "ipv6-extension-order"),
    (Malformed::Ipv6ExtensionOption, "ipv6-extension-option"),
    (Malformed::Ipv6FragmentRepeated, "ipv6-fragment-repeated"),
    (Malformed::Ipv6Fragment, "ipv6-fragment"),
    (Malformed::Ipv6RoutingType0, "ipv6-routing-type-0"),
    (Malformed::FragmentShort, "fragment-short"),
    (Malformed::TransportShort, "transport-short"),
    (Malformed::TcpDataOffset, "tcp-data-offset"),
    (Malformed::TcpOption, "tcp-option"),
    (Malformed::TcpFlags, "tcp-flags"),
    (Malformed::UdpLength, "udp-length"),
    (Malformed::PortZero, "port-zero"),
    (Malformed::IcmpFamily, "icmp-family"),
    (Malformed::DccpDataOffset, "dccp-data-offset"),
    (Malformed::AhLength, "ah-length"),
];

impl Malformed {
    /// Its name, such as `ipv4-header-short`.
    #[must_use]
    pub fn name(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The code of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        CODES.iter().find(|(_, each)| *each == name).map(|(code, _)| *code)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The codes that a policy lets through (`allow:`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow(u64);

impl Allow {
    /// With one more code.
    #[must_use]
    pub fn with(self, code: Malformed) -> Self {
        Self(self.0 | 1 << code as u8)
    }

    /// Whether a code is let through.
    #[must_use]
    pub fn allows(self, code: Malformed) -> bool {
        self.0 >> (code as u8) & 1 == 1
    }
}
