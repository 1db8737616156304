//! A second opinion on sound packets, and that no bytes panic.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::read;
use super::wire::{frame, ipv4, ipv6, packet, tcp, udp};
use crate::decode::{Clock, Decoded, Inside, decode};
use crate::fields::{FIELDS, Field};
use crate::malformed::{Allow, CODES};
use crate::packet::Packet;
use crate::value::{Address, Base, Value};

proptest! {
    #[test]
    fn sound_packets_are_what_etherparse_says(
        sport in 1_u16.., dport in 1_u16.., six: bool, is_tcp: bool, payload in prop::collection::vec(any::<u8>(), 0..40),
        source: u128, ttl: u8, sequence: u32, window: u16,
    ) {
        let mut bytes = Vec::new();
        let builder = if six {
            etherparse::PacketBuilder::ipv6(source.to_be_bytes(), [9; 16], ttl)
        } else {
            etherparse::PacketBuilder::ipv4((source as u32).to_be_bytes(), [9; 4], ttl)
        };
        if is_tcp {
            builder.tcp(sport, dport, sequence, window).syn().write(&mut bytes, &payload)?;
        } else {
            builder.udp(sport, dport).write(&mut bytes, &payload)?;
        }
        let sliced = SlicedPacket::from_ip(&bytes)?;
        let get = |field| read(&bytes, bytes.len(), field, 0);
        let (saddr, hops) = match sliced.net {
            Some(NetSlice::Ipv4(net)) => (Address::V4(u32::from(net.header().source_addr())), net.header().ttl()),
            Some(NetSlice::Ipv6(net)) => (Address::V6(net.header().source_addr().into()), net.header().hop_limit()),
            other => panic!("{other:?}: expected IP"),
        };
        prop_assert_eq!((get(Field::Saddr), get(Field::Ttl)), (Value::Address(saddr), Value::Number(hops.into())));
        let (ports, inside) = match sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                prop_assert_eq!(get(Field::TcpSeq), Value::Number(tcp.sequence_number().into()));
                prop_assert_eq!(get(Field::TcpWindow), Value::Number(tcp.window_size().into()));
                ((tcp.source_port(), tcp.destination_port()), tcp.payload().to_vec())
            }
            Some(TransportSlice::Udp(udp)) => ((udp.source_port(), udp.destination_port()), udp.payload().to_vec()),
            other => panic!("{other:?}: expected TCP or UDP"),
        };
        prop_assert_eq!((get(Field::Sport), get(Field::Dport)), (Value::Number(ports.0.into()), Value::Number(ports.1.into())));
        prop_assert_eq!(get(Field::Payload), Value::Bytes(&inside));
        prop_assert_eq!(get(Field::Checksum), Value::Number(0));
        let mut wrong = bytes.clone();
        wrong[19] ^= 1;
        prop_assert_eq!(read(&wrong, wrong.len(), Field::Checksum, 0), Value::Number(1));
    }

    #[test]
    fn no_bytes_panic(
        mut data in prop_oneof![near_headers(), prop::collection::vec(any::<u8>(), 0..120)],
        first in prop_oneof![Just(0x45_u8), Just(0x4F), Just(0x60), any::<u8>()],
        missing in prop_oneof![Just(0_u64), Just(1), Just(100), Just(70_000), Just(u64::MAX / 2), Just(u64::MAX - 400)],
        allowed in any::<u64>(), offset in any::<i64>(), near in -80_i64..80, size in 0_usize..80,
    ) {
        if let Some(byte) = data.first_mut() {
            *byte = first;
        }
        let codes = CODES.iter().map(|(code, _)| *code);
        let allow = codes.filter(|code| allowed >> *code as u8 & 1 == 1).fold(Allow::default(), Allow::with);
        let mut found = packet(&data, data.len());
        found.wire_length += missing;
        if let Ok(decoded) = decode(&found, allow) {
            read_everything(decoded, &found);
            for base in [Base::Network, Base::Transport, Base::Payload] {
                let _ = decoded.read_bytes(base, offset, size);
                let _ = decoded.read_bytes(base, near, size);
            }
        }
    }
}

fn read_everything<'a>(mut level: Decoded<'a>, packet: &Packet<'a>) {
    for depth in 0..=4 {
        assert_eq!(level.depth(), depth);
        for (field, _) in FIELDS {
            let _ = level.read(
                field,
                packet,
                &Clock {
                    wall: 0.0,
                    zone: &TimeZone::UTC,
                },
            );
        }
        match level.inside() {
            Inside::Packet(inner) => level = inner,
            _ => return,
        }
    }
}

/// Headers one behind another that announce nothing but headers, with lengths that often fit.
fn near_headers() -> impl Strategy<Value = Vec<u8>> {
    let number = prop::sample::select(vec![
        0_u8, 1, 4, 6, 17, 33, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 136,
    ]);
    let header = prop_oneof![
        (number.clone(), prop::collection::vec(any::<u8>(), 7)).prop_map(|(kind, rest)| [vec![kind], rest].concat()),
        number.clone().prop_map(|kind| vec![kind, 0, 1, 4, 0, 0, 0, 0]),
        Just(tcp()),
        Just(udp(4789, &frame(1, [8, 0], &[]))),
        Just(b"\0\0\x08\0".to_vec()),
        Just(ipv4(4, &[])),
    ];
    let body = prop::collection::vec(header, 0..6).prop_map(|headers| headers.concat());
    (body, number, any::<bool>(), 0_usize..300).prop_map(|(body, number, six, cut)| {
        let mut whole = if six { ipv6(number, &body) } else { ipv4(number, &body) };
        whole.truncate(cut);
        whole
    })
}
