//! The fields that a rule can look at: one variant a row of `qfilter/fields.py`, in its order. A test on the Python side
//! holds both tables against each other.

/// A field of the field table. Its number is its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table in fields.py says what each is")]
pub enum Field {
    Hook,
    Family,
    Iifname,
    Oifname,
    Physin,
    Physout,
    Mark,
    Length,
    Uid,
    Gid,
    CtState,
    CtMark,
    Hwaddr,
    Hour,
    Weekday,
    Saddr,
    Daddr,
    Protocol,
    Ttl,
    Dscp,
    Ecn,
    Fragment,
    IpId,
    IpDf,
    IpOptions,
    Ip6Flowlabel,
    Ip6Exthdrs,
    Ip6Routing,
    Checksum,
    Sport,
    Dport,
    TcpFlags,
    TcpSeq,
    TcpWindow,
    TcpMss,
    TcpOptions,
    UdpLength,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Icmpv6Code,
    AhSpi,
    EspSpi,
    GreProtocol,
    GreKey,
    Payload,
}

/// Every field with its name in a policy, by number.
pub const FIELDS: [(Field, &str); 46] = [
    (Field::Hook, "hook"),
    (Field::Family, "family"),
    (Field::Iifname, "iifname"),
    (Field::Oifname, "oifname"),
    (Field::Physin, "physin"),
    (Field::Physout, "physout"),
    (Field::Mark, "mark"),
    (Field::Length, "length"),
    (Field::Uid, "uid"),
    (Field::Gid, "gid"),
    (Field::CtState, "ct.state"),
    (Field::CtMark, "ct.mark"),
    (Field::Hwaddr, "hwaddr"),
    (Field::Hour, "hour"),
    (Field::Weekday, "weekday"),
    (Field::Saddr, "saddr"),
    (Field::Daddr, "daddr"),
    (Field::Protocol, "protocol"),
    (Field::Ttl, "ttl"),
    (Field::Dscp, "dscp"),
    (Field::Ecn, "ecn"),
    (Field::Fragment, "fragment"),
    (Field::IpId, "ip.id"),
    (Field::IpDf, "ip.df"),
    (Field::IpOptions, "ip.options"),
    (Field::Ip6Flowlabel, "ip6.flowlabel"),
    (Field::Ip6Exthdrs, "ip6.exthdrs"),
    (Field::Ip6Routing, "ip6.routing"),
    (Field::Checksum, "checksum"),
    (Field::Sport, "sport"),
    (Field::Dport, "dport"),
    (Field::TcpFlags, "tcp.flags"),
    (Field::TcpSeq, "tcp.seq"),
    (Field::TcpWindow, "tcp.window"),
    (Field::TcpMss, "tcp.mss"),
    (Field::TcpOptions, "tcp.options"),
    (Field::UdpLength, "udp.length"),
    (Field::IcmpType, "icmp.type"),
    (Field::IcmpCode, "icmp.code"),
    (Field::Icmpv6Type, "icmpv6.type"),
    (Field::Icmpv6Code, "icmpv6.code"),
    (Field::AhSpi, "ah.spi"),
    (Field::EspSpi, "esp.spi"),
    (Field::GreProtocol, "gre.protocol"),
    (Field::GreKey, "gre.key"),
    (Field::Payload, "payload"),
];

impl Field {
    /// The field of a row; None behind the table's end.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        FIELDS.get(index).map(|(field, _)| *field)
    }

    /// Its name in a policy, such as `ip6.exthdrs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        FIELDS[self as usize].1
    }
}
