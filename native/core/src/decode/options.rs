//! The one walker over options, of IPv4, TCP and IPv6 headers: `qfilter/engine/options.py`.

use crate::value::{Numbers, Unknown, Value};

/// How a header writes its options: which are one byte, and what the length of the others counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// 0 ends the list, 1 is padding, the length counts kind and length too (RFC 791, RFC 9293).
    Ipv4AndTcp,
    /// 0 is padding, the length counts the value alone (RFC 8200 section 4.2).
    Ipv6,
}

/// One option. `value` is shorter than the option says when the copy ends inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opt<'a> {
    pub kind: u8,
    pub value: &'a [u8],
    pub whole: bool,
}

/// An option's length lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lie;

/// The options of one header, as far as they are copied.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    here: &'a [u8],
    /// Bytes that the header has for options, copied or not.
    size: usize,
    at: usize,
    layout: Layout,
}

impl<'a> Walk<'a> {
    /// The options between two offsets of a packet of which `data` was copied.
    pub fn new(data: &'a [u8], start: usize, end: usize, layout: Layout) -> Self {
        let here = data.get(start..end.min(data.len())).unwrap_or_default();
        Self {
            here,
            size: end - start,
            at: 0,
            layout,
        }
    }

    /// Whether, after the last one, there may be options that were not copied.
    pub fn cut(&self) -> bool {
        self.here.len() < self.size
    }

    /// The kinds of the options, of a header whose lengths have been checked.
    pub fn kinds<'v>(mut self, rest: Unknown) -> Value<'v> {
        let mut known = Numbers::new();
        for option in self.by_ref().map_while(Result::ok) {
            known.push(option.kind);
        }
        if self.cut() {
            Value::PartialNumbers { known, rest }
        } else {
            Value::Numbers(known)
        }
    }

    fn one_byte(&mut self, kind: u8) -> Opt<'a> {
        self.at += 1;
        Opt {
            kind,
            value: &[],
            whole: true,
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Opt<'a>, Lie>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.here.get(self.at..)?;
        let kind = *rest.first()?;
        let (padding, uncounted) = match self.layout {
            Layout::Ipv4AndTcp => (1, 0),
            Layout::Ipv6 => (0, 2),
        };
        if kind == padding {
            return Some(Ok(self.one_byte(kind)));
        }
        if kind == 0 {
            self.size = self.at + 1;
            self.here = &self.here[..self.size];
            return Some(Ok(self.one_byte(kind)));
        }
        let left = self.size - self.at;
        if left < 2 {
            return Some(Err(Lie));
        }
        let Some(length) = rest.get(1) else {
            self.at += 1;
            return Some(Ok(Opt {
                kind,
                value: &[],
                whole: false,
            }));
        };
        let length = usize::from(*length) + uncounted;
        if length < 2 || length > left {
            return Some(Err(Lie));
        }
        self.at += length;
        let value = &rest[2..length.min(rest.len())];
        Some(Ok(Opt {
            kind,
            value,
            whole: length <= rest.len(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds of the whole options, kinds of those that are cut, whether more may follow; or a lie.
    type Walked = Result<(Vec<u8>, Vec<u8>, bool), Lie>;

    fn walked(layout: Layout, here: &[u8], size: usize) -> Walked {
        let mut walk = Walk::new(here, 0, size, layout);
        let found: Vec<_> = walk.by_ref().collect::<Result<_, _>>()?;
        let kinds = |whole| {
            found
                .iter()
                .filter(|one| one.whole == whole)
                .map(|one| one.kind)
                .collect()
        };
        Ok((kinds(true), kinds(false), walk.cut()))
    }

    #[test]
    fn ipv4_and_tcp() {
        let rows: [(&[u8], usize, Walked); 12] = [
            (b"", 0, Ok((vec![], vec![], false))),
            (
                b"\x01\x94\x04\0\0\x01\x01\0",
                8,
                Ok((vec![1, 148, 1, 1, 0], vec![], false)),
            ),
            (b"\0\x07\x01\x83", 4, Ok((vec![0], vec![], false))),
            (b"\x01\0", 8, Ok((vec![1, 0], vec![], false))),
            (b"\x07\x01\0\0", 4, Err(Lie)),
            (b"\x07\0\0\0", 4, Err(Lie)),
            (b"\x07\x05\0\0", 4, Err(Lie)),
            (b"\x01\x01\x01\x07", 4, Err(Lie)),
            (b"\x01\x01", 4, Ok((vec![1, 1], vec![], true))),
            (b"\x01\x07", 4, Ok((vec![1], vec![7], true))),
            (b"\x08\x0a\0", 12, Ok((vec![], vec![8], true))),
            (b"", 4, Ok((vec![], vec![], true))),
        ];
        for (here, size, expected) in rows {
            assert_eq!(walked(Layout::Ipv4AndTcp, here, size), expected, "{here:?} of {size}");
        }
    }

    #[test]
    fn ipv6() {
        let rows: [(&[u8], Walked); 4] = [
            (b"\0\x01\x03\0\0\0", Ok((vec![0, 1], vec![], false))),
            (b"\x05\0\x07\0\0\0", Ok((vec![5, 7, 0, 0], vec![], false))),
            (b"\x01\x05\0\0\0\0", Err(Lie)),
            (b"\0\0\0\0\0\x01", Err(Lie)),
        ];
        for (here, expected) in rows {
            assert_eq!(walked(Layout::Ipv6, here, here.len()), expected, "{here:?}");
        }
    }
}
