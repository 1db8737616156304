//! Rows of a replay: what is the same for many comes from Python once, in pieces; the rest is written between them.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use jiff::Span;
use jiff::civil::{Date, date};
use pyo3::prelude::*;
use qfilter_core::decode::Ends;
use qfilter_core::value::Address;

const SECOND: u128 = 1_000_000_000;
const DAY: u64 = 86_400;

/// What stands before, between and behind a row's three slots.
pub type Pieces = (Box<str>, Box<str>, Box<str>, Box<str>);

/// What a row's slots are.
#[derive(Clone, Copy)]
pub enum Form {
    /// Number of the frame, time or null, bytes of the packet.
    Object,
    /// Number of the frame, time of the day, ends in so many columns.
    Line { width: usize },
}

/// What one row tells beside its verdict.
pub struct Told {
    pub n: u64,
    /// Since the epoch.
    pub nanoseconds: Option<u128>,
    pub wire_length: u64,
    pub ends: Ends,
}

/// Rows that wait to be written.
pub struct Writer {
    pub text: String,
    form: Form,
    /// The day of the last row, by its number since the epoch.
    day: (u64, Date),
}

impl Writer {
    pub fn new(form: Form) -> Self {
        Self {
            text: String::new(),
            form,
            day: (0, date(1970, 1, 1)),
        }
    }

    /// # Errors
    /// What Python raises.
    pub fn row(&mut self, pieces: &Pieces, told: &Told) -> PyResult<()> {
        self.text.push_str(&pieces.0);
        match self.form {
            Form::Object => {
                self.put(format_args!("{}", told.n));
                self.text.push_str(&pieces.1);
                self.time(told.nanoseconds);
                self.text.push_str(&pieces.2);
                self.put(format_args!("{}", told.wire_length));
            }
            Form::Line { width } => {
                self.put(format_args!("{:>6}", told.n));
                self.text.push_str(&pieces.1);
                self.clock(told.nanoseconds);
                self.text.push_str(&pieces.2);
                let begin = self.text.len();
                self.ends(&told.ends)?;
                let missing = (begin + width).saturating_sub(self.text.len());
                self.put(format_args!("{:missing$}", ""));
            }
        }
        self.text.push_str(&pieces.3);
        self.text.push('\n');
        Ok(())
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.text.write_fmt(what).expect("a string takes everything");
    }

    /// RFC 3339 in UTC, cut to microseconds, in quotes.
    fn time(&mut self, nanoseconds: Option<u128>) {
        let Some(nanoseconds) = nanoseconds else {
            return self.text.push_str("null");
        };
        let (seconds, micros) = ((nanoseconds / SECOND) as u64, (nanoseconds % SECOND / 1_000) as u32);
        if self.day.0 != seconds / DAY {
            let days = Span::new().days((seconds / DAY).cast_signed());
            self.day = (seconds / DAY, date(1970, 1, 1).saturating_add(days));
        }
        let day = self.day.1;
        self.put(format_args!("\"{day}T"));
        self.of_day(seconds % DAY, micros);
        self.text.push_str("Z\"");
    }

    /// The time of the day as Python's `datetime.fromtimestamp` has it of a float: rounded to microseconds, half to even.
    /// Without a time it is that of the epoch.
    fn clock(&mut self, nanoseconds: Option<u128>) {
        let timestamp = seconds(nanoseconds.unwrap_or(0));
        let micros = ((timestamp.fract() * 1e6).round_ties_even() as i32).cast_unsigned();
        let (carry, micros) = if micros == 1_000_000 { (1, 0) } else { (0, micros) };
        self.of_day(((timestamp as i64).cast_unsigned() + carry) % DAY, micros);
    }

    fn of_day(&mut self, second: u64, micros: u32) {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        self.put(format_args!("{hour:02}:{minute:02}:{second:02}.{micros:06}"));
    }

    fn ends(&mut self, ends: &Ends) -> PyResult<()> {
        let (saddr, daddr) = ends.addresses.unzip();
        let (sport, dport) = ends.ports.unzip();
        self.end(saddr, sport)?;
        self.text.push_str(" -> ");
        self.end(daddr, dport)
    }

    fn end(&mut self, address: Option<Address>, port: Option<u16>) -> PyResult<()> {
        match (address, port) {
            (None, _) => self.text.push('-'),
            (Some(address @ Address::V6(_)), Some(_)) => {
                self.text.push('[');
                self.address(address)?;
                self.text.push(']');
            }
            (Some(address), _) => self.address(address)?,
        }
        if let Some(port) = port {
            self.put(format_args!(":{port}"));
        }
        Ok(())
    }

    fn address(&mut self, address: Address) -> PyResult<()> {
        match address {
            // How one that maps IPv4 is written depends on Python's version.
            Address::V6(number) if number >> 32 == 0xFFFF => {
                let text: String = Python::attach(|py| Ipv6Addr::from(number).into_pyobject(py)?.str()?.extract())?;
                self.text.push_str(&text);
            }
            address => self.put(format_args!("{address}")),
        }
        Ok(())
    }
}

/// As Python divides.
pub fn seconds(nanoseconds: u128) -> f64 {
    nanoseconds as f64 / 1e9
}
