//! Lists of addresses to packed ranges, a million lines at once.
//!
//! Only what is certain is read here. Every other line goes back: what it means, or what is wrong with it, says
//! `qfilter/policy/values.py` alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::from_utf8;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The addresses of a set while it is read.
#[pyclass(module = "qfilter._native")]
#[derive(Default)]
pub struct AddressList {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

#[pymethods]
impl AddressList {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes a text of one element a line, in UTF-8. Gives the lines that it has not read, with their numbers from 1.
    fn read(&mut self, py: Python<'_>, text: &[u8]) -> Vec<(usize, String)> {
        py.detach(|| {
            let numbered = (1..).zip(Lines(Some(text)));
            let others = numbered.filter(|(_, line)| !self.take(line));
            others
                .map(|(number, line)| (number, String::from_utf8_lossy(line).into_owned()))
                .collect()
        })
    }

    /// Adds an inclusive range of addresses of 32 or 128 bits.
    fn add(&mut self, bits: u32, low: u128, high: u128) -> PyResult<()> {
        match (bits, u32::try_from(low), u32::try_from(high)) {
            (32, Ok(low), Ok(high)) => self.v4.push((low, high)),
            (128, ..) => self.v6.push((low, high)),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "{bits} bits: expected 32 or 128 that hold the range"
                )));
            }
        }
        Ok(())
    }

    /// All that was added, IPv4 and IPv6: first and last address of each range, big endian, in sorted ranges that do not
    /// touch. Nothing is left.
    fn take_packed<'py>(&mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (mut v4, mut v6) = (std::mem::take(&mut self.v4), std::mem::take(&mut self.v6));
        py.detach(|| {
            merge(&mut v4);
            merge(&mut v6);
        });
        Ok((packed(py, v4)?, packed(py, v6)?))
    }
}

impl AddressList {
    /// Takes a line; false where it is none of a known form.
    fn take(&mut self, line: &[u8]) -> bool {
        let element = without_comment(line);
        if element.is_empty() {
            return true;
        }
        match from_utf8(element).ok().and_then(range) {
            Some((IpAddr::V4(low), IpAddr::V4(high))) => self.v4.push((low.to_bits(), high.to_bits())),
            Some((IpAddr::V6(low), IpAddr::V6(high))) => self.v6.push((low.to_bits(), high.to_bits())),
            _ => return false,
        }
        true
    }
}

/// The lines of a text; a line ends with CR, LF or both.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            return self.0.take();
        };
        let (line, rest) = text.split_at(end);
        self.0 = Some(rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]));
        Some(line)
    }
}

/// A `#` begins a comment where the line begins or behind a space.
fn without_comment(line: &[u8]) -> &[u8] {
    let begins = |at: &usize| line[*at] == b'#' && (*at == 0 || line[*at - 1].is_ascii_whitespace());
    let end = (0..line.len()).find(begins).unwrap_or(line.len());
    line[..end].trim_ascii()
}

/// The first and the last address of an address, a prefix without host bits, or a range.
fn range(element: &str) -> Option<(IpAddr, IpAddr)> {
    let (low, high) = if let Some((base, length)) = element.split_once('/') {
        prefix(base.parse().ok()?, length)?
    } else if let Some((first, last)) = element.split_once('-') {
        (first.trim_ascii().parse().ok()?, last.trim_ascii().parse().ok()?)
    } else {
        let address = element.parse().ok()?;
        (address, address)
    };
    (low <= high && low.is_ipv4() == high.is_ipv4() && !mapped(low) && !mapped(high)).then_some((low, high))
}

fn prefix(low: IpAddr, length: &str) -> Option<(IpAddr, IpAddr)> {
    if length.len() > 3 || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length: u32 = length.parse().ok()?;
    let (bits, hosts) = match low {
        IpAddr::V4(low) => (low.to_bits().into(), u32::BITS.checked_sub(length)?),
        IpAddr::V6(low) => (low.to_bits(), u128::BITS.checked_sub(length)?),
    };
    let last = 1_u128.checked_shl(hosts).map_or(u128::MAX, |size| size - 1);
    (bits & last == 0).then(|| (low, above(low, last)))
}

/// An address with the bits behind its prefix set.
fn above(low: IpAddr, hosts: u128) -> IpAddr {
    match low {
        IpAddr::V4(low) => Ipv4Addr::from_bits(low.to_bits() | hosts as u32).into(),
        IpAddr::V6(low) => Ipv6Addr::from_bits(low.to_bits() | hosts).into(),
    }
}

/// IPv4-mapped: most of these are mistakes, which is not for here to say.
fn mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// The numbers of addresses of one family.
trait Number: Copy + Ord {
    fn after(self) -> Option<Self>;
    fn pack(self, into: &mut [u8]);
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            fn after(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn pack(self, into: &mut [u8]) {
                into.copy_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
number!(u32, u128);

/// The same numbers in sorted ranges that do not touch.
fn merge<N: Number>(ranges: &mut Vec<(N, N)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|(low, high), (_, end)| {
        let joins = end.after().is_none_or(|after| *low <= after);
        if joins {
            *end = (*end).max(*high);
        }
        joins
    });
}

fn packed<N: Number>(py: Python<'_>, ranges: Vec<(N, N)>) -> PyResult<Bound<'_, PyBytes>> {
    let size = size_of::<N>();
    PyBytes::new_with(py, 2 * size * ranges.len(), |bytes| {
        let numbers = ranges.into_iter().flat_map(|(low, high)| [low, high]);
        for (number, into) in numbers.zip(bytes.chunks_exact_mut(size)) {
            number.pack(into);
        }
        Ok(())
    })
}
