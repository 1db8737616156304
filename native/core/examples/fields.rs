//! Every field of packets, as canonical text: what another decoder prints of the same packets must be the same.
//!
//! Lines of standard input are `hex wire_length checksum_ready allowed-codes-by-comma`; a line of standard output is the
//! malformed code, or every field of the table at depths 0 to 2 and some bytes at offsets, separated by tabs. Of the
//! packet's metadata all but its length is fixed.

use std::fmt::Write as _;
use std::io::{BufRead, BufWriter, Write, stdin, stdout};

use jiff::tz::TimeZone;
use qfilter_core::decode::{Clock, Decoded, Inside, decode};
use qfilter_core::fields::{FIELDS, Field};
use qfilter_core::malformed::{Allow, Malformed};
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::value::{Base, Cause, Unknown, Value, What};

const DEPTHS: u8 = 3;
const PLACES: [(Base, i64, usize); 7] = [
    (Base::Network, -1, 1),
    (Base::Network, 8, 4),
    (Base::Network, 60, 2),
    (Base::Transport, 2, 2),
    (Base::Transport, -4, 8),
    (Base::Payload, 0, 1),
    (Base::Payload, 7, 3),
];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut out = BufWriter::new(stdout().lock());
    for line in stdin().lock().lines() {
        writeln!(out, "{}", described(&line?)?)?;
    }
    Ok(out.flush()?)
}

fn described(line: &str) -> Result<String, Failure> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or("expected four words");
    let data = from_hex(word()?)?;
    let packet = Packet {
        data: &data,
        hook: Hook::Forward,
        wire_length: word()?.parse()?,
        iifname: None,
        oifname: None,
        physin: None,
        physout: None,
        mark: 0,
        uid: None,
        gid: None,
        ct_state: None,
        ct_mark: None,
        hwaddr: None,
        timestamp: Some(1.7e9),
        checksum_ready: word()? == "1",
    };
    let codes = word()?.split(',').filter_map(Malformed::from_name);
    match decode(&packet, codes.fold(Allow::default(), Allow::with)) {
        Ok(decoded) => Ok(fields(decoded, &packet)?),
        Err(code) => Ok(code.to_string()),
    }
}

fn fields(decoded: Decoded, packet: &Packet) -> Result<String, std::fmt::Error> {
    let clock = Clock {
        wall: 0.0,
        zone: &TimeZone::UTC,
    };
    let mut text = String::new();
    let mut level = Inside::Packet(decoded);
    for depth in 0..DEPTHS {
        for (field, _) in FIELDS {
            write!(text, "{}\t", shown(value(&level, field, depth, packet, &clock)))?;
        }
        if let Inside::Packet(found) = level {
            level = found.inside();
        }
    }
    for (base, offset, size) in PLACES {
        write!(text, "{}\t", shown(decoded.read_bytes(base, offset, size)))?;
    }
    Ok(text)
}

fn value<'a>(level: &Inside<'a>, field: Field, depth: u8, packet: &Packet<'a>, clock: &Clock) -> Value<'a> {
    match level {
        Inside::Packet(found) => found.read(field, packet, clock),
        Inside::Absent => Value::Absent,
        Inside::Malformed(code) => Value::Unknown(Unknown {
            cause: Cause::Malformed,
            what: What::Malformed(*code),
        }),
        Inside::Unknown(cause) => Value::Unknown(Unknown {
            cause: *cause,
            what: What::Field(field, depth),
        }),
    }
}

fn shown(value: Value) -> String {
    match value {
        Value::Absent => "-".to_owned(),
        Value::Unknown(unknown) => unknown_shown(unknown),
        Value::Number(number) => number.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Bytes(bytes) => format!("<{}>", hex(bytes)),
        Value::Numbers(numbers) => format!("{:?}", numbers.as_slice()),
        Value::PartialBytes { known, length, rest } => {
            format!("<{}> of {length:?} {}", hex(known), unknown_shown(rest))
        }
        Value::PartialNumbers { known, rest } => format!("{:?} {}", known.as_slice(), unknown_shown(rest)),
    }
}

fn unknown_shown(unknown: Unknown) -> String {
    format!("{:?}: {}", unknown.cause, unknown.what)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let pairs = text
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    pairs.collect()
}
