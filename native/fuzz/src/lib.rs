//! What the targets share: packets of arbitrary bytes, and engines to put before them.

#![forbid(unsafe_code)]

pub mod nodes;

use jiff::tz::TimeZone;
use qfilter_core::engine::{Engine, Now};
use qfilter_core::fields::{FIELDS, Field};
use qfilter_core::malformed::Allow;
use qfilter_core::packet::{HOOKS, Packet};
use qfilter_core::plan::{Decision, Kind, Plan};

/// A moment for everything.
pub const NOW: Now = Now {
    monotonic: 1_000_000_000,
    wall: 0.0,
};

/// The packet that arbitrary bytes are: two say what the kernel knows of it, two how many bytes more it has than were
/// copied, the others are those that were copied. None where there are fewer.
pub fn packet(bytes: &[u8]) -> Option<Packet<'_>> {
    let ([known, how, high, low], data) = bytes.split_first_chunk()?;
    let has = |bit: u8| known >> bit & 1 == 1;
    let missing = if has(7) { u16::from_be_bytes([*high, *low]) } else { 0 };
    Some(Packet {
        wire_length: data.len() as u64 + u64::from(missing),
        iifname: has(0).then_some(b"eth0"),
        oifname: has(1).then_some(b"lo"),
        mark: u32::from(how >> 4),
        uid: has(2).then_some(1000),
        gid: has(3).then_some(0),
        ct_state: has(2).then_some(1 << (low & 3)),
        ct_mark: has(3).then_some(u32::from(*low)),
        hwaddr: has(4).then_some(b"02:00:00:00:00:01"),
        timestamp: has(5).then(|| f64::from(*low) * 1e10),
        checksum_ready: has(6),
        ..Packet::new(data, HOOKS[usize::from(how % 5)])
    })
}

/// A policy without rules.
pub fn empty_plan(allow: Allow) -> Plan {
    Plan {
        allow,
        defaults: [Some(Decision {
            kind: Kind::Accept,
            argument: 0,
        }); 5],
        ..Plan::default()
    }
}

/// In force, in UTC.
///
/// # Errors
/// See [`Engine::new`].
pub fn engine(plan: Plan) -> Result<Engine, String> {
    Engine::new(plan, TimeZone::UTC)
}

/// Every field.
pub fn fields() -> impl Iterator<Item = Field> {
    FIELDS.iter().map(|(field, _)| *field)
}
