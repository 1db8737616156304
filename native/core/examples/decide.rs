//! How long a packet takes from its bytes to its verdict, without any queue: plan documents in, a line each out.
//!
//! `cargo run --release --example decide -- PLAN...` with documents of `qfilter/compiler/encode.py`, of the header policies of
//! `benchmarks/policies.py`. A line says nanoseconds of CPU a packet, the median of some runs, of two traffics: the flood's,
//! which is 16 flows again and again, so that whatever remembers remembers all of them, and one in which no packet is like
//! another. And how often memory was allocated meanwhile.

#[path = "../tests/counting/mod.rs"]
mod counting;

use std::hint::black_box;

use counting::allocated;
use jiff::tz::TimeZone;
use qfilter_core::engine::{Desk, Engine, Now};
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::plan::Plan;
use rustix::time::{ClockId, clock_gettime};

const PACKETS: u32 = 4 << 16;
const RUNS: usize = 7;
const FLOWS: u32 = 16;
const SOURCES: u32 = 1 << 16;

/// 18 bytes of UDP over IPv4.
type Datagram = [u8; 46];

fn main() {
    for path in std::env::args().skip(1) {
        let document = std::fs::read(&path).expect("the document can be read");
        let plan = Plan::from_bytes(&document).expect("it is a plan");
        let rules = plan.rules.len() as u32;
        let engine = Engine::new(plan, TimeZone::UTC).expect("its patterns compile");
        let flood: Vec<Datagram> = (0..FLOWS).map(flooded).collect();
        let sources: Vec<Datagram> = (0..SOURCES).map(|number| changing(number, rules)).collect();
        let (ns, once) = measured(&engine, &flood);
        let (changing_ns, twice) = measured(&engine, &sources);
        let allocations = once + twice;
        println!(
            "{{\"rules\": {rules}, \"ns\": {ns:.1}, \"changing_ns\": {changing_ns:.1}, \"allocations\": {allocations}}}"
        );
    }
}

/// Nanoseconds a packet, and allocations of all packets.
fn measured(engine: &Engine, datagrams: &[Datagram]) -> (f64, u64) {
    let mut desk = engine.desk();
    decide_all(engine, &mut desk, datagrams);
    let mut times = [0.0; RUNS];
    let before = allocated();
    for time in &mut times {
        *time = decide_all(engine, &mut desk, datagrams);
    }
    let allocations = allocated() - before;
    times.sort_by(f64::total_cmp);
    (times[RUNS / 2], allocations)
}

/// Nanoseconds of CPU time a packet: whoever else is on the machine must not count.
fn decide_all(engine: &Engine, desk: &mut Desk, datagrams: &[Datagram]) -> f64 {
    let now = Now {
        monotonic: 1,
        wall: 0.0,
    };
    let begin = spent();
    for data in datagrams.iter().cycle().take(PACKETS as usize) {
        black_box(engine.decide(black_box(&packet(data)), now, desk));
    }
    (spent() - begin) / f64::from(PACKETS)
}

/// Nanoseconds of CPU time of this thread so far.
fn spent() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn packet(data: &Datagram) -> Packet<'_> {
    Packet {
        iifname: Some(b"client"),
        oifname: Some(b"server"),
        ..Packet::new(data, Hook::Forward)
    }
}

/// One of the flood's: none of the rules but the last holds for it.
fn flooded(number: u32) -> Datagram {
    datagram(0xC000_0202 + number, 40_000, 9_000 + number as u16)
}

/// From another source and source port than all others. In turn, but in no order: of the client's network, of the rules'
/// prefixes, of where the addresses of the set lie, of anywhere. A fourth of the source ports are the rules' own.
fn changing(number: u32, rules: u32) -> Datagram {
    let mixed = number.wrapping_mul(0x9E37_79B1);
    let source = match mixed >> 30 {
        0 => 0xC000_0200 | number >> 10,
        1 => 0xAC00_0000 | ((mixed % rules) & !3) << 8 | number >> 10,
        2 => 0x0A00_0000 + number * 10,
        _ => mixed,
    };
    let flood = 9_000 + (mixed >> 8) as u16 % FLOWS as u16;
    datagram(source, (number % 1_024) as u16, flood)
}

fn datagram(source: u32, sport: u16, dport: u16) -> Datagram {
    let mut data = [0; 46];
    data[..12].copy_from_slice(&[0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0]);
    data[12..16].copy_from_slice(&source.to_be_bytes());
    data[16..20].copy_from_slice(&[198, 51, 100, 2]);
    data[20..22].copy_from_slice(&sport.to_be_bytes());
    data[22..24].copy_from_slice(&dport.to_be_bytes());
    data[24..26].copy_from_slice(&[0, 26]);
    data
}
