//! Headers as bytes, field by field.

use crate::packet::{Hook, Packet};

const V4: [u8; 8] = [192, 0, 2, 1, 198, 51, 100, 1];
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const DESTINATION: u8 = 60;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const MORE: u16 = 0x2000;
/// A destination header in front of TCP: a padding option of four bytes.
pub(super) const EXTENSION: [u8; 8] = [TCP, 0, 1, 4, 0, 0, 0, 0];

pub(super) fn ipv4_with(options: &[u8], place: u16, protocol: u8, body: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() as u8 / 4;
    let total = ((20 + options.len() + body.len()) as u16).to_be_bytes();
    let place = place.to_be_bytes();
    let fixed = [
        0x40 | words,
        0xB9,
        total[0],
        total[1],
        0,
        7,
        place[0],
        place[1],
        64,
        protocol,
        0,
        0,
    ];
    [&fixed, &V4[..], options, body].concat()
}

pub(super) fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    ipv4_with(&[], 0, protocol, body)
}

pub(super) fn ipv6(following: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let fixed = [0x6B, 0x9F, 0xFF, 0xFE, length[0], length[1], following, 64];
    [&fixed, &[0x20; 16][..], &[0x30; 16], body].concat()
}

pub(super) fn tcp_with(flags: u8, options: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() as u8 / 4;
    let fixed = [4, 0, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, words << 4, flags, 2, 0, 0, 0, 0, 0];
    [&fixed[..], options].concat()
}

pub(super) fn tcp() -> Vec<u8> {
    tcp_with(2, &[])
}

pub(super) fn udp(dport: u16, payload: &[u8]) -> Vec<u8> {
    let (dport, length) = (dport.to_be_bytes(), (8 + payload.len() as u16).to_be_bytes());
    [&[4, 0, dport[0], dport[1], length[0], length[1], 0, 0], payload].concat()
}

/// `place`: the offset in bytes, and 1 when more is to come.
pub(super) fn frag(following: u8, place: u16) -> [u8; 8] {
    let place = place.to_be_bytes();
    [following, 0, place[0], place[1], 0, 0, 0, 1]
}

pub(super) fn vxlan(frame: &[u8]) -> Vec<u8> {
    ipv4(UDP, &udp(4789, &[&[8, 0, 0, 0, 0, 0, 0, 0], frame].concat()))
}

pub(super) fn frame(tags: usize, kind: [u8; 2], inner: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &[0x81, 0, 0, 5].repeat(tags), &kind, inner].concat()
}

pub(super) fn with(mut data: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    data[at] = byte;
    data
}

pub(super) fn packet(data: &[u8], wire_length: usize) -> Packet<'_> {
    Packet {
        wire_length: wire_length as u64,
        iifname: Some(b"eth0"),
        mark: 7,
        uid: Some(0),
        ct_state: Some(2),
        ..Packet::new(data, Hook::Forward)
    }
}
