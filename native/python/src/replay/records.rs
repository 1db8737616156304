//! Records of captures that are whole and plain. All others, and every word about damage, are Python's:
//! `qfilter/queues/pcap.py` and `qfilter/queues/pcapng.py`.

/// Bytes of one captured frame at most, as `MAX_FRAME` in `qfilter/queues/capture_source.py`.
const MAX_FRAME: usize = 256 * 1024;
const MAX_BLOCK: usize = 2 * MAX_FRAME;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
const SECOND: u64 = 1_000_000_000;
/// The year 10000, in nanoseconds since the epoch.
const END_OF_TIME: i128 = 253_402_300_800 * SECOND as i128;

/// One record of a capture, before its link header is read.
pub struct Record<'a> {
    pub frame: &'a [u8],
    pub wire_length: u32,
    /// Since the epoch.
    pub nanoseconds: Option<u128>,
    /// Index of the interface.
    pub interface: usize,
    /// Bytes of the record.
    pub size: usize,
}

/// The order of a number's bytes.
#[derive(Clone, Copy)]
pub struct Order {
    pub big: bool,
}

impl Order {
    fn half(self, bytes: &[u8], at: usize) -> Option<u16> {
        let raw = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big {
            u16::from_be_bytes(raw)
        } else {
            u16::from_le_bytes(raw)
        })
    }

    fn word(self, bytes: &[u8], at: usize) -> Option<u32> {
        let raw = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        })
    }
}

/// What a pcapng says about an interface's frames.
pub struct Clocked {
    /// Bytes of a frame at most; 0 is any number.
    pub snap_length: u32,
    /// Units of a timestamp in a second; None when they do not fit.
    pub units: Option<u128>,
    /// Seconds to add to every timestamp.
    pub offset: i64,
}

impl Clocked {
    /// None for a time that no calendar has.
    fn nanoseconds(&self, stamp: u64) -> Option<u128> {
        let since = self
            .units
            .map_or(0, |units| u128::from(stamp) * u128::from(SECOND) / units);
        let time = i128::from(self.offset) * i128::from(SECOND) + since.cast_signed();
        (0..END_OF_TIME).contains(&time).then_some(time.cast_unsigned())
    }
}

/// The record that some bytes begin with; `unit` nanoseconds are one of a time's fraction.
pub fn pcap(rest: &[u8], order: Order, unit: u64) -> Option<Record<'_>> {
    let seconds = u64::from(order.word(rest, 0)?);
    let fraction = u64::from(order.word(rest, 4)?);
    let (captured, original) = (order.word(rest, 8)?, order.word(rest, 12)?);
    Some(Record {
        frame: frame(rest.get(16..)?, captured)?,
        wire_length: captured.max(original),
        nanoseconds: Some((seconds * SECOND + fraction * unit).into()),
        interface: 0,
        size: 16 + captured as usize,
    })
}

/// The same for a block with a packet; `clocked` are the interfaces of its section.
pub fn pcapng<'a, 'c>(
    rest: &'a [u8],
    order: Order,
    clocked: impl Fn(usize) -> Option<&'c Clocked>,
) -> Option<Record<'a>> {
    let (kind, size) = (order.word(rest, 0)?, order.word(rest, 4)? as usize);
    if !(12..=MAX_BLOCK).contains(&size) || size % 4 != 0 || order.word(rest, size - 4)? as usize != size {
        return None;
    }
    let body = &rest[8..size - 4];
    match kind {
        ENHANCED => {
            let interface = order.word(body, 0)? as usize;
            let stamp = u64::from(order.word(body, 4)?) << 32 | u64::from(order.word(body, 8)?);
            let (captured, original) = (order.word(body, 12)?, order.word(body, 16)?);
            let data = &body[20..];
            let record = Record {
                frame: frame(data, captured)?,
                wire_length: captured.max(original),
                nanoseconds: clocked(interface)?.nanoseconds(stamp),
                interface,
                size,
            };
            are_sound(data.get(padded(captured as usize)..)?, order).then_some(record)
        }
        SIMPLE => {
            let original = order.word(body, 0)?;
            let most = clocked(0)?.snap_length;
            let captured = if most == 0 { original } else { original.min(most) };
            let data = &body[4..];
            data.get(..padded(captured as usize))?;
            Some(Record {
                frame: frame(data, captured)?,
                wire_length: original,
                nanoseconds: None,
                interface: 0,
                size,
            })
        }
        _ => None,
    }
}

fn frame(data: &[u8], captured: u32) -> Option<&[u8]> {
    data.get(..captured as usize).filter(|frame| frame.len() <= MAX_FRAME)
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Whether a block ends with options that are whole.
fn are_sound(mut options: &[u8], order: Order) -> bool {
    while !options.is_empty() {
        let (Some(code), Some(length)) = (order.half(options, 0), order.half(options, 2)) else {
            return false;
        };
        if code == 0 {
            break;
        }
        let Some(rest) = options.get(4 + padded(length.into())..) else {
            return false;
        };
        options = rest;
    }
    true
}
