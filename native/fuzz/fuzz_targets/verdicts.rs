//! Any sequence of packets, losses, answers and failed sends: no packet gets a verdict that was not decided for it, and
//! nothing stays behind in the kernel.

#![no_main]

#[path = "../../queue/tests/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use model::{Event, Scene};
use qfilter_queue::Final;

fuzz_target!(|bytes: &[u8]| {
    let Some((start, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let mut scene = Scene::after(u32::from_le_bytes(*start));
    for [kind, number] in bytes.as_chunks().0 {
        scene.run(&event(*kind, *number));
    }
    assert_eq!(scene.end(), []);
});

fn event(kind: u8, number: u8) -> Event {
    let decided = match number % 5 {
        0 => Final::DROP,
        1 => Final::ACCEPT.with_mark(7),
        2 => Final::queue(2),
        _ => Final::ACCEPT,
    };
    match kind % 8 {
        0 => Event::ArriveAndWait,
        1 => Event::ArriveUnreadable(decided),
        2 => Event::Lose(number.into()),
        3 | 4 => Event::Answer(usize::from(number / 5), decided),
        5 => Event::Flush {
            fails: number.is_multiple_of(8),
        },
        _ => Event::Arrive(decided),
    }
}
