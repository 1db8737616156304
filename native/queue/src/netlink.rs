//! Netlink's wire format (linux/netlink.h, RFC 3549). Bytes only: nothing here panics on any input.
//!
//! Headers are in native byte order. Headers and attributes begin on 4-byte boundaries; the padding before the next
//! one is not part of the length that precedes it.

use std::fmt;

/// `nlmsg_type` of a message that asks for nothing.
pub const NOOP: u16 = 1;
/// `nlmsg_type` of the answer to a request: `NLMSG_ERROR`, also for success.
pub const ERROR: u16 = 2;
/// `nlmsg_type` of the end of a dump.
pub const DONE: u16 = 3;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x001;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x004;
/// `NLM_F_DUMP_INTR`: what was dumped changed meanwhile.
pub const INTERRUPTED: u16 = 0x010;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
// NLA_F_NESTED and NLA_F_NET_BYTEORDER stand above the type.
const TYPE_MASK: u16 = 0x3FFF;

/// Bytes that are not what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Such as `netlink message length`.
    pub what: &'static str,
    /// The number that cannot be.
    pub found: u64,
    /// What was expected, in words.
    pub expected: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}: expected {}", self.what, self.found, self.expected)
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The errno of an answer to a request, 0 for success; `None` for another message.
    pub fn errno(&self) -> Option<i32> {
        let number = self.body.first_chunk().filter(|_| self.kind == ERROR)?;
        Some(i32::from_ne_bytes(*number).wrapping_neg())
    }
}

/// The messages of a datagram, up to the first damaged one.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Damaged>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take_message(rest);
        rest = taken.as_ref().map_or(&[], |(_, after)| *after);
        Some(taken.map(|(message, _)| message))
    })
}

fn take_message(rest: &[u8]) -> Result<(Message<'_>, &[u8]), Damaged> {
    let (Some(length), Some(kind), Some(flags), Some(sequence), true) = (
        native_u32(rest, 0),
        native_u16(rest, 4),
        native_u16(rest, 6),
        native_u32(rest, 8),
        rest.len() >= HEADER,
    ) else {
        return Err(Damaged {
            what: "bytes",
            found: rest.len() as u64,
            expected: "a netlink header of 16",
        });
    };
    let Some(body) = rest.get(HEADER..length as usize) else {
        let expected = "16 to the rest of the datagram";
        return Err(Damaged {
            what: "netlink message length",
            found: length.into(),
            expected,
        });
    };
    Ok((
        Message {
            kind,
            flags,
            sequence,
            body,
        },
        after(rest, length as usize),
    ))
}

/// Types, their flags removed, with values; up to the first damaged one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Damaged>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take_attribute(rest);
        rest = taken.as_ref().map_or(&[], |(_, after)| *after);
        Some(taken.map(|(attribute, _)| attribute))
    })
}

type Attribute<'a> = (u16, &'a [u8]);

fn take_attribute(rest: &[u8]) -> Result<(Attribute<'_>, &[u8]), Damaged> {
    let (Some(length), Some(kind)) = (native_u16(rest, 0), native_u16(rest, 2)) else {
        return Err(Damaged {
            what: "bytes",
            found: rest.len() as u64,
            expected: "an attribute header of 4",
        });
    };
    let Some(value) = rest.get(ATTRIBUTE..length as usize) else {
        let expected = "4 to the rest of the message";
        return Err(Damaged {
            what: "attribute length",
            found: length.into(),
            expected,
        });
    };
    Ok(((kind & TYPE_MASK, value), after(rest, length as usize)))
}

fn after(rest: &[u8], length: usize) -> &[u8] {
    rest.get(length.next_multiple_of(4)..).unwrap_or(&[])
}

fn native_u16(bytes: &[u8], start: usize) -> Option<u16> {
    bytes
        .get(start..)?
        .first_chunk()
        .map(|number| u16::from_ne_bytes(*number))
}

/// The number at `start` in native byte order; `None` where the bytes end before it does.
pub fn native_u32(bytes: &[u8], start: usize) -> Option<u32> {
    bytes
        .get(start..)?
        .first_chunk()
        .map(|number| u32::from_ne_bytes(*number))
}

/// Messages, one after the other, for one `send`.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    start: usize,
}

impl Writer {
    /// Forget what was written, keep the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begin a message; `head` is what stands before its attributes, a multiple of 4 bytes.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32, head: &[u8]) -> &mut Self {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(head);
        self.close()
    }

    /// One more attribute of the message; its value is a few bytes long.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (ATTRIBUTE + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.close()
    }

    // Every value written here is a multiple of 4 bytes long or the last: the padding may count as the message's.
    fn close(&mut self) -> &mut Self {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}
