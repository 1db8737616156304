//! Where the IP packet is in a captured frame. `qfilter/queues/link_types.py` is the specification.

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
const PF_INET: u32 = 2;
const PF_INET6: [u32; 4] = [10, 24, 28, 30];

/// What a frame carries.
pub enum Carried<'a> {
    /// An IP packet as far as it was captured, and its bytes on the wire.
    Ip(&'a [u8], u64),
    Other,
}

/// Reads a link header; None for a link type without a reader.
pub fn read(link_type: u16, frame: &[u8], wire_length: u32) -> Option<Carried<'_>> {
    let (network, padded) = match link_type {
        12 | 101 | 228 | 229 => (Some(0), false),
        0 | 108 => (null(frame), false),
        1 => (after_tags(frame, 12), true),
        113 => (after_tags(frame, 14), true),
        276 => (sll2(frame), true),
        _ => return None,
    };
    let Some(data) = network.and_then(|network| frame.get(network..)) else {
        return Some(Carried::Other);
    };
    let length = u64::from(wire_length) - (frame.len() - data.len()) as u64;
    if !padded {
        return Some(Carried::Ip(data, length));
    }
    let length = network_length(data, length);
    let here = usize::try_from(length).map_or(data.len(), |length| length.min(data.len()));
    Some(Carried::Ip(&data[..here], length))
}

/// The family in the byte order of the machine that captured.
fn null(frame: &[u8]) -> Option<usize> {
    let family = u32::from_le_bytes(*frame.first_chunk()?);
    let is_ip = |family: u32| family == PF_INET || PF_INET6.contains(&family);
    (is_ip(family) || is_ip(family.swap_bytes())).then_some(4)
}

/// The header stays in front, tags follow it.
fn sll2(frame: &[u8]) -> Option<usize> {
    let protocol = half(frame, 0)?;
    if is_tag(protocol) {
        return after_tags(frame, 22);
    }
    (is_ip(protocol) && frame.len() >= 20).then_some(20)
}

/// The offset behind the Ethernet type at `at`, or behind that of the last VLAN tag.
fn after_tags(frame: &[u8], mut at: usize) -> Option<usize> {
    while is_tag(half(frame, at)?) {
        at += 4;
    }
    is_ip(half(frame, at)?).then_some(at + 2)
}

fn is_tag(protocol: u16) -> bool {
    matches!(protocol, 0x8100 | 0x88A8 | 0x9100 | 0x9200 | 0x9300)
}

fn is_ip(protocol: u16) -> bool {
    matches!(protocol, IPV4 | IPV6)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What the link added behind the length that IP claims is cut off; a claim that cannot be is left to the engine.
fn network_length(data: &[u8], wire_length: u64) -> u64 {
    let (claimed, least) = match (data.first().map(|first| first >> 4), half(data, 2), half(data, 4)) {
        (Some(4), Some(total), _) => (u64::from(total), 20),
        (Some(6), _, Some(payload)) if payload != 0 => (40 + u64::from(payload), 40),
        _ => return wire_length,
    };
    if (least..=wire_length).contains(&claimed) {
        claimed
    } else {
        wire_length
    }
}
