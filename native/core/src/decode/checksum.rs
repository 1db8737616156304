//! The field `checksum`: the IPv4 header's sum (RFC 1071) and the layer-4 sum over a pseudo-header (RFC 8200). See
//! `qfilter/engine/checksum.py`.

use super::network::{IPV6_HEADER, ipv4_header_length};
use super::{Decoded, Fragment, ICMP, ICMPV6, TCP, UDP};
use crate::fields::Field;
use crate::packet::{Family, Packet};
use crate::value::{Cause, Value};

const GOOD: Value = Value::Number(0);
const BAD: Value = Value::Number(1);

impl<'a> Decoded<'a> {
    /// BAD when one of the packet's sums is wrong; GOOD only when its layer-4 sum was checked and is right.
    ///
    /// Absent where there is nothing to check: the hardware is still to fill it in, the protocol has no sum of this kind,
    /// a UDP sender over IPv4 gave none, or the addresses that it covers are not those of the header (source routes).
    #[inline(never)]
    pub(super) fn checksum(&self, packet: &Packet<'a>) -> Value<'a> {
        if !packet.checksum_ready {
            return Value::Absent;
        }
        let header = self.ipv4_header();
        if header.is_some_and(|header| !is_right(sum(header))) {
            return BAD;
        }
        let nothing = match (self.family, header) {
            (Family::Ipv4, None) => self.unknown(Cause::Truncated, Field::Checksum),
            _ => Value::Absent,
        };
        if !matches!(self.protocol, None | Some(ICMP | ICMPV6 | TCP | UDP)) {
            return nothing;
        }
        if self.fragment != Fragment::Whole {
            return self.unknown(Cause::Fragment, Field::Checksum);
        }
        if let Some(cause) = self.cut {
            return self.unknown(cause, Field::Checksum);
        }
        match (self.transport, self.protocol) {
            (Some(start), Some(protocol)) if !self.rerouted => self.layer_4_sum(start.get().into(), protocol),
            _ => nothing,
        }
    }

    fn ipv4_header(&self) -> Option<&'a [u8]> {
        let first = self.data.first().filter(|_| self.family == Family::Ipv4)?;
        self.data.get(..ipv4_header_length(*first))
    }

    /// Of UDP too, because what is behind its length is no part of the packet.
    fn layer_4_sum(&self, start: usize, protocol: u8) -> Value<'a> {
        let covered = &self.data[start..];
        let length = self.end - start;
        if covered.len() < length {
            return self.unknown(Cause::Truncated, Field::Checksum);
        }
        if protocol == UDP && self.family == Family::Ipv4 && covered[6..8] == [0, 0] {
            return Value::Absent;
        }
        let total = sum(covered) + self.pseudo_header(protocol, length);
        if is_right(total) { GOOD } else { BAD }
    }

    /// The sum of what a layer-4 sum covers besides its bytes: both addresses, protocol, length in bytes.
    ///
    /// Nothing for ICMP, whose sum covers no addresses. That IPv4 writes its own shorter changes no sum.
    fn pseudo_header(&self, protocol: u8, length: usize) -> u64 {
        let addresses = match (protocol, self.family) {
            (ICMP, _) => return 0,
            (_, Family::Ipv4) => 12..20,
            (_, Family::Ipv6) => 8..IPV6_HEADER,
        };
        sum(&self.data[addresses]) + length as u64 + u64::from(protocol)
    }
}

/// The sum of big-endian 32-bit words, the last one filled up with zeros: modulo 65535 that of 16-bit words, because
/// 2^16 is 1 there. Exact for less than 16 GiB.
fn sum(covered: &[u8]) -> u64 {
    let (words, rest) = covered.as_chunks();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words
        .iter()
        .chain([&last])
        .map(|word| u64::from(u32::from_be_bytes(*word)))
        .sum()
}

/// Whether 16-bit words, the sum among them, add up to all ones, which is 0 modulo 65535. Only words that are all zero
/// add up to the other 0.
fn is_right(sum: u64) -> bool {
    sum != 0 && sum.is_multiple_of(0xFFFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// RFC 1071, word by word.
        #[test]
        fn sums_are_those_of_words(covered in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut total = 0_u32;
            for word in covered.chunks(2) {
                total += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            }
            while total > 0xFFFF {
                total = (total & 0xFFFF) + (total >> 16);
            }
            prop_assert_eq!(is_right(sum(&covered)), total == 0xFFFF);
        }
    }
}
