//! Rows that are easily got wrong.

mod laws;
mod wire;

use jiff::tz::TimeZone;

use self::wire::{
    DESTINATION, EXTENSION, FRAGMENT, MORE, TCP, UDP, frag, frame, ipv4, ipv4_with, ipv6, packet, tcp, tcp_with, udp,
    vxlan, with,
};
use super::{Clock, Ends, Inside, decode, ends};
use crate::fields::Field;
use crate::malformed::{Allow, Malformed};
use crate::packet::Packet;
use crate::value::{Address, Base, Cause, Unknown, Value, What};

fn code(data: &[u8], wire_length: usize) -> Option<Malformed> {
    decode(&packet(data, wire_length), Allow::default()).err()
}

/// Fields of a packet of which the kernel holds `wire_length` bytes, so many tunnels inside.
fn read(data: &[u8], wire_length: usize, field: Field, depth: u8) -> Value<'_> {
    let packet = packet(data, wire_length);
    let mut level = decode(&packet, Allow::default()).expect("the headers are sound");
    for _ in 0..depth {
        level = match level.inside() {
            Inside::Packet(inner) => inner,
            Inside::Absent => return Value::Absent,
            Inside::Malformed(code) => return lie(code),
            Inside::Unknown(cause) => return unknown(cause, field, depth),
        };
    }
    level.read(
        field,
        &packet,
        &Clock {
            wall: 1.7e9,
            zone: &TimeZone::UTC,
        },
    )
}

fn unknown<'v>(cause: Cause, field: Field, depth: u8) -> Value<'v> {
    Value::Unknown(Unknown {
        cause,
        what: What::Field(field, depth),
    })
}

fn lie<'v>(code: Malformed) -> Value<'v> {
    Value::Unknown(Unknown {
        cause: Cause::Malformed,
        what: What::Malformed(code),
    })
}

fn numbers(value: Value) -> (Vec<u8>, Option<Cause>) {
    match value {
        Value::Numbers(all) => (all.as_slice().to_vec(), None),
        Value::PartialNumbers { known, rest } => (known.as_slice().to_vec(), Some(rest.cause)),
        other => panic!("{other:?}: expected numbers"),
    }
}

#[test]
fn the_first_lie_of_ip_headers_is_the_code() {
    let chain = |count: usize| {
        let more = [DESTINATION, 0, 1, 4, 0, 0, 0, 0].repeat(count - 1);
        ipv6(DESTINATION, &[&more, &EXTENSION[..], &tcp()].concat())
    };
    let rows = [
        ("no bytes", vec![], Some(Malformed::Empty)),
        ("version 5", vec![0x55; 40], Some(Malformed::IpVersion)),
        (
            "19 bytes",
            ipv4(TCP, &[])[..19].to_vec(),
            Some(Malformed::Ipv4HeaderShort),
        ),
        (
            "header of 4 words",
            with(ipv4(TCP, &tcp()), 0, 0x44),
            Some(Malformed::Ipv4HeaderLength),
        ),
        (
            "header past the packet",
            with(ipv4(TCP, &[]), 0, 0x46),
            Some(Malformed::Ipv4HeaderShort),
        ),
        (
            "total length 0",
            with(ipv4(TCP, &tcp()), 3, 0),
            Some(Malformed::Ipv4TotalLength),
        ),
        (
            "a broken option behind a source route",
            ipv4_with(b"\x83\x03\x04\x07", 0, TCP, &tcp()),
            Some(Malformed::Ipv4Option),
        ),
        (
            "a source route",
            ipv4_with(b"\x01\x89\x03\x04", 0, TCP, &tcp()),
            Some(Malformed::Ipv4SourceRoute),
        ),
        (
            "a fragment past 65,535",
            ipv4_with(&[], 8189, UDP, &[0; 8]),
            Some(Malformed::Ipv4Fragment),
        ),
        (
            "a fragment of 9 bytes",
            ipv4_with(&[], MORE, UDP, &udp(53, b"x")),
            Some(Malformed::Ipv4Fragment),
        ),
        (
            "payload length 0",
            with(ipv6(TCP, &tcp()), 5, 0),
            Some(Malformed::Ipv6Jumbogram),
        ),
        (
            "payload length above the packet",
            with(ipv6(TCP, &tcp()), 5, 21),
            Some(Malformed::Ipv6PayloadLength),
        ),
        ("16 extension headers", chain(16), None),
        ("17 extension headers", chain(17), Some(Malformed::Ipv6ExtensionCount)),
    ];
    for (name, data, expected) in rows {
        assert_eq!(code(&data, data.len()), expected, "{name}");
    }
}

#[test]
fn the_first_lie_of_layer_4_is_the_code() {
    let rows = [
        (
            "an atomic fragment is whole",
            ipv6(FRAGMENT, &[&frag(TCP, 0)[..], &tcp()[..19]].concat()),
            Some(Malformed::TransportShort),
        ),
        (
            "a first fragment is not",
            ipv6(FRAGMENT, &[&frag(TCP, 1)[..], &tcp()[..16]].concat()),
            Some(Malformed::FragmentShort),
        ),
        (
            "TCP at offset 8",
            ipv4_with(&[], 1, TCP, &[0; 16]),
            Some(Malformed::FragmentShort),
        ),
        ("TCP at offset 16", ipv4_with(&[], 2, TCP, &[0; 16]), None),
        (
            "ICMP family before a short header",
            ipv6(1, b"x"),
            Some(Malformed::IcmpFamily),
        ),
        (
            "AH is layer 4 in IPv4",
            ipv4(51, &[0; 11]),
            Some(Malformed::TransportShort),
        ),
        ("and a header in IPv6", ipv6(51, &[0; 11]), Some(Malformed::AhLength)),
        (
            "GRE without its key",
            ipv4(47, b"\x20\0\x08\0"),
            Some(Malformed::TransportShort),
        ),
        (
            "SYN and FIN to port 0",
            ipv4(TCP, &with(tcp_with(3, &[]), 3, 0)),
            Some(Malformed::PortZero),
        ),
        ("SYN and FIN", ipv4(TCP, &tcp_with(3, &[])), Some(Malformed::TcpFlags)),
        (
            "bytes behind IP's length do not count",
            [ipv4(UDP, &with(udp(53, b""), 5, 9)), vec![0]].concat(),
            Some(Malformed::UdpLength),
        ),
        (
            "a DCCP reset of 6 words",
            ipv4(33, &[&[0, 5, 0, 6, 6, 0, 0, 0, 15][..], &[0; 19]].concat()),
            Some(Malformed::DccpDataOffset),
        ),
    ];
    for (name, data, expected) in rows {
        assert_eq!(code(&data, data.len()), expected, "{name}");
    }
}

#[test]
fn a_super_packet_of_this_kernel_has_length_0() {
    let (v4, v6) = (with(ipv4(TCP, &tcp()), 3, 0), with(ipv6(TCP, &tcp()), 5, 0));
    assert_eq!((code(&v4, 70_000), code(&v6, 70_000)), (None, None));
    assert_eq!(
        code(&with(v4.clone(), 6, 0x20), 70_000),
        Some(Malformed::Ipv4TotalLength)
    );
    assert_eq!(
        (code(&v4, 65_535), code(&v6, 65_575)),
        (Some(Malformed::Ipv4TotalLength), Some(Malformed::Ipv6Jumbogram))
    );
    let rest = Unknown {
        cause: Cause::Truncated,
        what: What::Field(Field::Payload, 0),
    };
    let cut = Value::PartialBytes {
        known: &[],
        length: Some(69_960),
        rest,
    };
    assert_eq!(read(&v4, 70_000, Field::Payload, 0), cut);
}

#[test]
fn what_a_policy_allows_gets_on() {
    let route = ipv4_with(b"\x01\x89\x03\x04", 0, TCP, &tcp());
    let allow = Allow::default()
        .with(Malformed::Ipv4SourceRoute)
        .with(Malformed::PortZero);
    let decoded = decode(&packet(&route, route.len()), allow).expect("the route is allowed");
    assert_eq!(decoded.ports(), Some((1024, 80)));
    let found = packet(&route, route.len());
    let unsummed = Packet {
        checksum_ready: false,
        ..found
    };
    let checksum = |of| {
        decoded.read(
            Field::Checksum,
            of,
            &Clock {
                wall: 0.0,
                zone: &TimeZone::UTC,
            },
        )
    };
    assert_eq!(
        (checksum(&found), checksum(&unsummed)),
        (Value::Number(1), Value::Absent)
    );
    let zero = ipv4(TCP, &with(tcp(), 3, 0));
    assert_eq!(
        decode(&packet(&zero, zero.len()), allow).err(),
        Some(Malformed::PortZero),
        "a lie cannot be allowed"
    );
}

#[test]
fn the_copy_may_end_anywhere_and_that_is_no_lie() {
    let whole = ipv4_with(b"\x94\x04\0\0", 0, TCP, &[&tcp_with(2, &[1; 8]), &b"GET"[..]].concat());
    for size in 1..whole.len() {
        let known = read(&whole[..size], whole.len(), Field::Dport, 0);
        let expected = if size < 44 {
            unknown(Cause::Truncated, Field::Dport, 0)
        } else {
            Value::Number(80)
        };
        assert_eq!(known, expected, "{size}");
        assert_eq!(
            read(&whole[..size], whole.len(), Field::UdpLength, 0) == Value::Absent,
            size >= 20,
            "{size}"
        );
    }
}

#[test]
fn many_values_are_those_that_are_here() {
    let chain = ipv6(
        0,
        &[&[DESTINATION, 0, 1, 4, 0, 0, 0, 0], &EXTENSION[..], &tcp()].concat(),
    );
    let esp = ipv6(
        DESTINATION,
        &[&[50, 0, 1, 4, 0, 0, 0, 0][..], &[0, 0, 0, 8, 0, 0, 0, 0]].concat(),
    );
    let later = ipv6(
        43,
        &[&[FRAGMENT, 0, 4, 0, 0, 0, 0, 0], &frag(43, 8)[..], &[0; 8]].concat(),
    );
    let routed = ipv6(43, &[&[TCP, 0, 4, 0, 0, 0, 0, 0][..], &tcp()].concat());
    let v4 = ipv4_with(&[1, 0x94, 4, 0, 0, 0, 0, 0], 0, TCP, &tcp());
    let options = ipv4(TCP, &tcp_with(2, b"\x01\x08\x0a\0\0\0\0\0\0\0\0\x02\x04\x05\xb4\0"));
    let cut = Some(Cause::Truncated);
    let rows = [
        (&chain, chain.len(), Field::Ip6Exthdrs, vec![0, 60], None),
        (&chain, 50, Field::Ip6Exthdrs, vec![0, 60], cut),
        (&chain, 41, Field::Ip6Exthdrs, vec![0], cut),
        (&esp, esp.len(), Field::Ip6Exthdrs, vec![60, 50], None),
        (
            &later,
            later.len(),
            Field::Ip6Exthdrs,
            vec![43, 44, 43],
            Some(Cause::Fragment),
        ),
        (&later, later.len(), Field::Ip6Routing, vec![4], Some(Cause::Fragment)),
        (&later, 44, Field::Ip6Routing, vec![], cut),
        (&routed, routed.len(), Field::Ip6Routing, vec![4], None),
        (&v4, v4.len(), Field::IpOptions, vec![1, 148, 0], None),
        (&v4, 22, Field::IpOptions, vec![1, 148], cut),
        (&v4, 26, Field::IpOptions, vec![1, 148, 0], None),
        (&options, options.len(), Field::TcpOptions, vec![1, 8, 2, 0], None),
        (&options, 48, Field::TcpOptions, vec![1, 8], cut),
    ];
    for (data, copied, field, expected, cause) in rows {
        assert_eq!(
            numbers(read(&data[..copied], data.len(), field, 0)),
            (expected, cause),
            "{field:?} of {copied}"
        );
    }
    assert_eq!(read(&options, options.len(), Field::TcpMss, 0), Value::Number(1460));
    assert_eq!(
        read(&options[..48], options.len(), Field::TcpMss, 0),
        unknown(Cause::Truncated, Field::TcpMss, 0)
    );
    assert_eq!(read(&v4, v4.len(), Field::TcpMss, 0), Value::Absent);
}

#[test]
fn of_a_later_fragment_layer_4_is_unknown_where_it_may_be() {
    let v4 = ipv4_with(&[], 1, UDP, &[0; 8]);
    let v6 = ipv6(FRAGMENT, &[&frag(DESTINATION, 8)[..], &[0; 8]].concat());
    for (data, field, possible) in [
        (&v4, Field::Sport, true),
        (&v4, Field::Payload, true),
        (&v4, Field::IcmpType, false),
        (&v6, Field::Protocol, true),
        (&v6, Field::Icmpv6Type, true),
        (&v6, Field::AhSpi, true),
        (&v6, Field::IcmpType, false),
    ] {
        let expected = if possible {
            unknown(Cause::Fragment, field, 0)
        } else {
            Value::Absent
        };
        assert_eq!(read(data, data.len(), field, 0), expected, "{field:?}");
    }
    assert_eq!(read(&v6, v6.len(), Field::Fragment, 0), Value::Number(2));
}

#[test]
fn bytes_at_an_offset() {
    let whole = ipv4(UDP, &udp(53, b"GET"));
    let first = ipv4_with(&[], MORE, UDP, &udp(53, &[0; 8]));
    let bare = ipv4(TCP, &[]);
    let unknown = |cause, base, offset| {
        Value::Unknown(Unknown {
            cause,
            what: What::Bytes(base, offset),
        })
    };
    let rows = [
        (&whole[..], whole.len(), Base::Network, 8, 2, Value::Bytes(b"\x40\x11")),
        (&whole, whole.len(), Base::Transport, 2, 2, Value::Bytes(b"\0\x35")),
        (&whole, whole.len(), Base::Payload, -1, 2, Value::Bytes(b"\0G")),
        (&whole, whole.len(), Base::Payload, 2, 2, Value::Absent),
        (&whole, whole.len(), Base::Payload, i64::MAX, usize::MAX, Value::Absent),
        (&whole, whole.len(), Base::Payload, i64::MIN, 1, Value::Absent),
        (
            &whole[..29],
            whole.len(),
            Base::Payload,
            0,
            2,
            unknown(Cause::Truncated, Base::Payload, 0),
        ),
        (
            &first,
            first.len(),
            Base::Payload,
            4,
            8,
            unknown(Cause::Fragment, Base::Payload, 4),
        ),
        (&bare, bare.len(), Base::Transport, 0, 1, Value::Absent),
        (&bare, bare.len(), Base::Network, -1, 1, Value::Absent),
    ];
    for (data, wire_length, base, offset, size, expected) in rows {
        let decoded = decode(&packet(data, wire_length), Allow::default()).expect("the headers are sound");
        assert_eq!(decoded.read_bytes(base, offset, size), expected, "{base:?} + {offset}");
    }
}

#[test]
fn a_timestamp_that_is_no_time() {
    let data = ipv4(TCP, &tcp());
    let decoded = decode(&packet(&data, data.len()), Allow::default()).expect("the headers are sound");
    let clock = Clock {
        wall: 0.0,
        zone: &TimeZone::UTC,
    };
    for (timestamp, text) in [
        (1e300, "timestamp 1e+300 is no time"),
        (-1e16, "timestamp -1e+16 is no time"),
        (253_402_300_800.0, "timestamp 253402300800.0 is no time"),
        (f64::INFINITY, "timestamp inf is no time"),
        (f64::NAN, "timestamp nan is no time"),
    ] {
        let found = Packet {
            timestamp: Some(timestamp),
            ..packet(&data, data.len())
        };
        let Value::Unknown(unknown) = decoded.read(Field::Hour, &found, &clock) else {
            panic!("{timestamp} is a time");
        };
        assert_eq!((unknown.cause, unknown.what.to_string()), (Cause::Error, text.into()));
    }
}

#[test]
fn what_the_kernel_said() {
    let data = ipv4(41, &ipv6(TCP, &tcp()));
    let rows = [
        (Field::Hook, Value::Number(2)),
        (Field::Family, Value::Number(2)),
        (Field::Iifname, Value::Bytes(b"eth0")),
        (Field::Oifname, Value::Absent),
        (Field::Mark, Value::Number(7)),
        (Field::Length, Value::Number(80)),
        (Field::Uid, Value::Number(0)),
        (Field::Gid, Value::Absent),
        (Field::CtState, Value::Number(2)),
        (Field::CtMark, Value::Absent),
        (Field::Hwaddr, Value::Absent),
        (Field::Hour, Value::Number(22)),
        (Field::Weekday, Value::Number(2)),
    ];
    for (field, expected) in rows {
        assert_eq!(read(&data, data.len(), field, 0), expected, "{field:?}");
    }
    assert_eq!(read(&data, data.len(), Field::Family, 1), Value::Number(10));
    assert_eq!(read(&data, data.len(), Field::Length, 1), Value::Number(80));
}

#[test]
fn packets_inside_packets() {
    let inner = ipv4(TCP, &tcp());
    let of_6 = ipv6(TCP, &tcp());
    let key = b"\xb0\0\x86\xdd\0\0\0\0\0\0\0\x07\0\0\0\0";
    let port = Value::Number(80);
    let rows = [
        ("IPIP", ipv4(4, &inner), port),
        ("6in6", ipv6(41, &of_6), port),
        ("GRE with all its words", ipv4(47, &[&key[..], &of_6].concat()), port),
        (
            "GRE with Ethernet",
            ipv4(47, &[b"\0\0\x65\x58", &frame(0, [8, 0], &inner)[..]].concat()),
            port,
        ),
        ("VXLAN with nine VLANs", vxlan(&frame(9, [0x86, 0xDD], &of_6)), port),
        ("VXLAN with ARP", vxlan(&frame(0, [8, 6], &[0; 28])), Value::Absent),
        (
            "GRE version 1",
            ipv4(47, &[b"\0\x01\x08\0", &inner[..]].concat()),
            Value::Absent,
        ),
        ("nothing behind the header", ipv4(4, &[]), Value::Absent),
        ("UDP to another port", ipv4(UDP, &udp(53, &inner)), Value::Absent),
        ("of the other family", ipv4(4, &of_6), lie(Malformed::IpVersion)),
        ("the GRE header is all", ipv4(47, b"\0\0\x08\0"), lie(Malformed::Empty)),
        (
            "half an Ethernet header",
            vxlan(&[0; 13]),
            lie(Malformed::TransportShort),
        ),
        (
            "a VLAN without its frame",
            vxlan(&frame(2, [0x81, 0], &[])),
            lie(Malformed::TransportShort),
        ),
        (
            "the inner one lies",
            ipv4(4, &ipv4(TCP, &with(tcp(), 3, 0))),
            lie(Malformed::PortZero),
        ),
        (
            "a first fragment",
            ipv4_with(&[], MORE, 4, &inner),
            unknown(Cause::Fragment, Field::Dport, 1),
        ),
        (
            "a later one that may be VXLAN",
            ipv4_with(&[], 1, UDP, &[0; 8]),
            unknown(Cause::Fragment, Field::Dport, 1),
        ),
    ];
    for (name, data, expected) in rows {
        assert_eq!(read(&data, data.len(), Field::Dport, 1), expected, "{name}");
    }
    let tunnel = vxlan(&frame(1, [8, 0], &inner));
    for size in [20, 39, 44, 59] {
        let cut = unknown(Cause::Truncated, Field::Dport, 1);
        assert_eq!(read(&tunnel[..size], tunnel.len(), Field::Dport, 1), cut, "{size}");
    }
    let deep = (0..4).fold(inner, |inside, _| ipv4(4, &inside));
    assert_eq!(
        (
            read(&deep, deep.len(), Field::Dport, 4),
            read(&deep, deep.len(), Field::Dport, 3)
        ),
        (port, Value::Absent)
    );
    assert_eq!(read(&deep[..60], deep.len(), Field::Ttl, 2), Value::Number(64));
    assert_eq!(
        read(&deep[..50], deep.len(), Field::Ttl, 2),
        unknown(Cause::Truncated, Field::Ttl, 2)
    );
}

#[test]
fn ends_are_those_that_stand_before_the_lie() {
    let four = Some((Address::V4(0xC000_0201), Address::V4(0xC633_6401)));
    let six = Some((
        Address::V6(u128::from_be_bytes([0x20; 16])),
        Address::V6(u128::from_be_bytes([0x30; 16])),
    ));
    let ends_of = |addresses, ports, protocol| Ends {
        addresses,
        ports,
        protocol,
    };
    let (sound, ports) = (ipv4(TCP, &tcp()), Some((1024, 80)));
    let rows = [
        (sound.clone(), 40, ends_of(four, ports, Some(TCP))),
        (sound[..39].to_vec(), 40, ends_of(four, None, Some(TCP))),
        (sound[..19].to_vec(), 40, Ends::default()),
        (vec![], 40, Ends::default()),
        (with(sound.clone(), 0, 0x55), 40, Ends::default()),
        (with(sound.clone(), 0, 0x44), 40, ends_of(four, None, Some(TCP))),
        (with(sound.clone(), 3, 41), 40, ends_of(four, None, Some(TCP))),
        (with(sound.clone(), 33, 0), 40, ends_of(four, ports, Some(TCP))),
        (with(sound, 32, 0x40), 40, ends_of(four, ports, Some(TCP))),
        (ipv4(TCP, &tcp()[..12]), 32, ends_of(four, None, Some(TCP))),
        (
            with(ipv4(UDP, &udp(53, b"x")), 25, 9),
            29,
            ends_of(four, Some((1024, 53)), Some(UDP)),
        ),
        (ipv4(UDP, &udp(0, b"")), 28, ends_of(four, Some((1024, 0)), Some(UDP))),
        (
            ipv6(DESTINATION, &[&EXTENSION[..], &tcp()].concat()),
            68,
            ends_of(six, ports, Some(TCP)),
        ),
        (ipv6(DESTINATION, &EXTENSION[..4]), 44, ends_of(six, None, None)),
    ];
    for (data, wire_length, expected) in rows {
        assert_eq!(
            ends(&packet(&data, wire_length), Allow::default()),
            expected,
            "{data:02x?}"
        );
    }
}
