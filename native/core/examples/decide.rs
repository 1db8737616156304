//! How long a packet takes from its bytes to its verdict, without any queue: plan documents in, a line each out.
//!
//! `cargo run --release --example decide -- PLAN...` with documents of `qfilter/compiler/encode.py`. The packet is the flood's
//! of benchmarks/: 18 bytes of UDP over IPv4, on forward, to 16 ports. Also says how often memory was allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use jiff::tz::TimeZone;
use qfilter_core::engine::{Desk, Engine, Now};
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::plan::Plan;

const PACKETS: u32 = 200_000;
const ROUNDS: usize = 7;

struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: all is left to the system's allocator; only a number is counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    for path in std::env::args().skip(1) {
        let document = std::fs::read(&path).expect("the document can be read");
        let plan = Plan::from_bytes(&document).expect("it is a plan");
        let rules = plan.rules.len();
        let engine = Engine::new(plan, TimeZone::UTC).expect("its patterns compile");
        let mut desk = engine.desk();
        let datagrams: Vec<[u8; 46]> = (0..16).map(datagram).collect();
        decide_all(&engine, &mut desk, &datagrams);
        let before = ALLOCATED.load(Relaxed);
        let times = (0..ROUNDS).map(|_| decide_all(&engine, &mut desk, &datagrams));
        let best = times.fold(f64::INFINITY, f64::min);
        let allocations = ALLOCATED.load(Relaxed) - before;
        println!("{{\"rules\": {rules}, \"ns\": {best:.1}, \"allocations\": {allocations}}}");
    }
}

/// Nanoseconds a packet.
fn decide_all(engine: &Engine, desk: &mut Desk, datagrams: &[[u8; 46]]) -> f64 {
    let now = Now {
        monotonic: 1,
        wall: 0.0,
    };
    let begin = Instant::now();
    for number in 0..PACKETS {
        let packet = packet(&datagrams[number as usize % datagrams.len()]);
        black_box(engine.decide(black_box(&packet), now, desk));
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS)
}

fn packet(data: &[u8]) -> Packet<'_> {
    Packet {
        data,
        hook: Hook::Forward,
        wire_length: data.len() as u64,
        iifname: Some(b"client"),
        oifname: Some(b"server"),
        physin: None,
        physout: None,
        mark: 0,
        uid: None,
        gid: None,
        hwaddr: None,
        timestamp: None,
        checksum_ready: true,
        ct_state: None,
        ct_mark: None,
    }
}

fn datagram(number: u8) -> [u8; 46] {
    let mut data = [0; 46];
    data[..20].copy_from_slice(&[
        0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 198, 51, 100, 2,
    ]);
    let [high, low] = (9_000 + u16::from(number)).to_be_bytes();
    data[20..28].copy_from_slice(&[0x9C, 0x40, high, low, 0, 26, 0, 0]);
    data
}
