//! What decoding costs: nanoseconds a packet, of one packet again and again and of so many that no cache holds them.
//!
//!     cargo run --release --example decode

use std::hint::black_box;
use std::time::Instant;

use jiff::tz::TimeZone;
use qfilter_core::decode::{Clock, decode};
use qfilter_core::fields::Field;
use qfilter_core::malformed::Allow;
use qfilter_core::packet::{Hook, Packet};

/// Short runs, of which the least counts: whoever else is on the machine must not.
const RUNS: usize = 4_000;
const PACKETS_OF_A_RUN: u32 = 500;
/// Bytes from one packet to the next, as in the slots of a queue that copies 2 KiB.
const SLOT: usize = 2048;
const COLD_PACKETS: usize = 20_000;
const HEADERS: [Field; 6] = [
    Field::Iifname,
    Field::Saddr,
    Field::Daddr,
    Field::Protocol,
    Field::Sport,
    Field::Dport,
];

fn main() {
    let syn = [0x04, 0xD2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 2, 0, 0, 0, 0, 0];
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let mut long = syn;
    long[12] = 0x80;
    let udp = [0x04, 0xD2, 0, 53, 0, 26, 0, 0];
    let rows = [
        ("IPv4 UDP, 18 bytes", ipv4(17, &[&udp[..], &[0; 18]].concat())),
        ("IPv4 TCP", ipv4(6, &syn)),
        (
            "IPv4 TCP, timestamps",
            ipv4(6, &[&long[..], &timestamps, &[0; 1400]].concat()),
        ),
        ("IPv6 UDP, 18 bytes", ipv6(17, &[&udp[..], &[0; 18]].concat())),
        (
            "IPv6 hop-by-hop TCP",
            ipv6(0, &[&[6, 0, 5, 2, 0, 0, 1, 0][..], &syn].concat()),
        ),
    ];
    println!(
        "{:<24}{:>10}{:>12}{:>12}{:>14}",
        "ns a packet", "decode", "+ 6 fields", "cold decode", "cold + 6"
    );
    for (name, bytes) in &rows {
        let hot = std::slice::from_ref(bytes);
        let cold: Vec<Vec<u8>> = (0..COLD_PACKETS).map(|_| spaced(bytes)).collect();
        let figures = [
            nanoseconds(hot, &[]),
            nanoseconds(hot, &HEADERS),
            nanoseconds(&cold, &[]),
            nanoseconds(&cold, &HEADERS),
        ];
        println!(
            "{name:<24}{:>10.1}{:>12.1}{:>12.1}{:>14.1}",
            figures[0], figures[1], figures[2], figures[3]
        );
    }
}

fn nanoseconds(packets: &[Vec<u8>], fields: &[Field]) -> f64 {
    let clock = Clock {
        wall: 0.0,
        zone: &TimeZone::UTC,
    };
    let mut next = packets.iter().cycle();
    let mut run = || {
        let began = Instant::now();
        for data in next.by_ref().take(PACKETS_OF_A_RUN as usize) {
            let packet = packet(black_box(data));
            let decoded = black_box(decode(&packet, Allow::default())).expect("the packets are sound");
            for field in fields {
                black_box(decoded.read(*field, &packet, &clock));
            }
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS_OF_A_RUN)
    };
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn packet(data: &[u8]) -> Packet<'_> {
    Packet {
        data,
        hook: Hook::Forward,
        wire_length: data.len() as u64,
        iifname: Some(b"eth0"),
        oifname: None,
        physin: None,
        physout: None,
        mark: 0,
        uid: None,
        gid: None,
        ct_state: None,
        ct_mark: None,
        hwaddr: None,
        timestamp: None,
        checksum_ready: true,
    }
}

fn spaced(bytes: &[u8]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT);
    slot.extend_from_slice(bytes);
    slot
}

fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = (20 + body.len() as u16).to_be_bytes();
    let header = [
        0x45, 0, length[0], length[1], 0, 7, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1,
    ];
    [&header, body].concat()
}

fn ipv6(following: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [
        &[0x60, 0, 0, 0, length[0], length[1], following, 64][..],
        &[0x20; 32],
        body,
    ]
    .concat()
}
