//! Any bytes as a packet: every field of every depth can be read, and missing bytes change no value into another.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qfilter_core::conditions::MAX_DEPTH;
use qfilter_core::decode::decode;
use qfilter_core::engine::Engine;
use qfilter_core::fields::Field;
use qfilter_core::malformed::{Allow, Malformed};
use qfilter_core::packet::Packet;
use qfilter_core::value::{Base, Value};
use qfilter_fuzz::{NOW, empty_plan, engine, fields, packet};

/// With everything allowed that can be: more headers are read.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| engine(empty_plan(allow())).expect("a plan without patterns"));

fn allow() -> Allow {
    let allowable = [
        Malformed::TcpFlags,
        Malformed::Ipv4SourceRoute,
        Malformed::Ipv6RoutingType0,
    ];
    allowable.into_iter().fold(Allow::default(), Allow::with)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_last() else { return };
    let Some(whole) = packet(bytes) else { return };
    read_bytes(&whole);
    let copied = whole.data.len().saturating_sub(usize::from(*cut));
    let part = Packet {
        data: &whole.data[..copied],
        ..whole
    };
    match (decode(&whole, allow()), decode(&part, allow())) {
        (_, Err(Malformed::Empty)) => {}
        (found, Err(code)) => assert!(found.is_err(), "{code} of a part, nothing of the whole"),
        (Err(_), Ok(_)) => read_all(&part, None),
        (Ok(_), Ok(_)) => read_all(&part, Some(&whole)),
    }
    read_all(&whole, None);
});

/// Every field; of one of which more was copied, too: what is known of the shorter one is true of the longer one.
fn read_all(packet: &Packet<'_>, longer: Option<&Packet<'_>>) {
    for field in fields() {
        for depth in 0..=MAX_DEPTH {
            let value = ENGINE.read(packet, field, depth, NOW);
            if let Value::Unknown(unknown) | Value::PartialBytes { rest: unknown, .. } = value {
                assert!(!unknown.what.to_string().is_empty());
            }
            if let Some(longer) = longer {
                assert_known(field, depth, value, ENGINE.read(longer, field, depth, NOW));
            }
        }
    }
}

fn assert_known(field: Field, depth: u8, known: Value<'_>, whole: Value<'_>) {
    let agree = match (known, whole) {
        (Value::Unknown(_), _) => true,
        // Deeper headers lie only where they were copied.
        (_, Value::Unknown(_)) if depth > 0 => true,
        (
            Value::PartialBytes { known, length, .. },
            Value::PartialBytes {
                known: more,
                length: same,
                ..
            },
        ) => more.starts_with(known) && length.is_none_or(|length| Some(length) == same),
        (Value::PartialBytes { known, length, .. }, Value::Bytes(more)) => {
            more.starts_with(known) && length.is_none_or(|length| length == more.len())
        }
        (Value::PartialNumbers { known, .. }, Value::PartialNumbers { known: more, .. } | Value::Numbers(more)) => {
            more.as_slice().starts_with(known.as_slice())
        }
        (known, whole) => known == whole,
    };
    assert!(
        agree,
        "{field:?} at depth {depth}: {known:?} of a part, {whole:?} of the whole"
    );
}

fn read_bytes(packet: &Packet<'_>) {
    let Ok(decoded) = decode(packet, allow()) else { return };
    for base in [Base::Network, Base::Transport, Base::Payload] {
        for offset in [i64::MIN, -20, -1, 0, 1, 60, 65_535, i64::MAX] {
            for size in [0, 1, 4, 128] {
                if let Value::Bytes(found) = decoded.read_bytes(base, offset, size) {
                    assert_eq!(found.len(), size);
                }
            }
        }
    }
}
