//! Verdicts with `scope: flow`: the rest of the flow gets the same one, in both directions.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use super::key::Key;
use super::lru::Lru;
use super::unpoisoned;
use crate::packet::Hook;
use crate::value::Address;

/// How many flows are remembered.
pub const MAX_FLOWS: usize = 65_536;

const SECOND: i64 = 1_000_000_000;

/// How long a silent flow is remembered, in nanoseconds: conntrack's defaults (nf_conntrack-sysctl).
pub const TCP_IDLE: i64 = 432_000 * SECOND;
/// The same for any protocol but TCP.
pub const OTHER_IDLE: i64 = 180 * SECOND;

const TCP: u8 = 6;
const SYN: u64 = 0x02;
const ACK: u64 = 0x10;

/// What of a packet says which flow it is of. One whose ports are not known is of none.
#[derive(Clone, Copy, Debug)]
pub struct FlowPacket<'a> {
    /// Where it was seen.
    pub hook: Hook,
    /// The layer-4 protocol.
    pub protocol: u8,
    /// Source.
    pub saddr: Address,
    /// Destination.
    pub daddr: Address,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Input interface.
    pub iifname: Option<&'a [u8]>,
    /// Output interface.
    pub oifname: Option<&'a [u8]>,
    /// Of a TCP packet, where they are known.
    pub tcp_flags: Option<u64>,
}

impl FlowPacket<'_> {
    /// The same key for both directions of a flow.
    ///
    /// A flow that one hook accepted is not thereby accepted on another with other rules. Local traffic is one place:
    /// what output let out comes back by input. Each end of a flow stays behind its interface: who forges an end's
    /// address elsewhere has another flow. A hook that sees only one interface on the way of a routed packet tells
    /// nothing about the other direction.
    fn key(&self) -> Key {
        let (place, behind_source, behind_destination) = match self.hook {
            Hook::Prerouting => (0, Behind::Untold, Behind::Untold),
            Hook::Input => (1, Behind::of(self.iifname), Behind::Untold),
            Hook::Output => (1, Behind::Untold, Behind::of(self.oifname)),
            Hook::Forward => (2, Behind::of(self.iifname), Behind::of(self.oifname)),
            Hook::Postrouting => (3, Behind::Untold, Behind::Untold),
        };
        let source = End::new(self.saddr, self.sport, behind_source);
        let destination = End::new(self.daddr, self.dport, behind_destination);
        let (first, second) = if source <= destination {
            (source, destination)
        } else {
            (destination, source)
        };
        Key::new(&[
            &[place, self.protocol],
            first.numbers(),
            first.interface,
            second.numbers(),
            second.interface,
        ])
    }

    /// Whether this packet would open a connection.
    fn opens(&self) -> bool {
        self.protocol == TCP && self.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN)
    }
}

/// The interface that an end of a flow is behind.
#[derive(Clone, Copy)]
enum Behind<'a> {
    /// This hook does not tell.
    Untold,
    /// The packet has none.
    Absent,
    Named(&'a [u8]),
}

impl<'a> Behind<'a> {
    fn of(interface: Option<&'a [u8]>) -> Self {
        interface.map_or(Self::Absent, Self::Named)
    }
}

/// Of an IPv6 end: what is said of the interface (4), the port (2), the family (1), the address (16).
const NUMBERS: usize = 23;

/// One end of a flow, as bytes that tell where they end.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct End<'a> {
    numbers: [u8; NUMBERS],
    length: usize,
    interface: &'a [u8],
}

impl<'a> End<'a> {
    fn new(address: Address, port: u16, behind: Behind<'a>) -> Self {
        let (told, interface): (u32, &[u8]) = match behind {
            Behind::Untold => (0, &[]),
            Behind::Absent => (1, &[]),
            Behind::Named(name) => (name.len() as u32 + 2, name),
        };
        let mut numbers = [0; NUMBERS];
        numbers[..4].copy_from_slice(&told.to_le_bytes());
        numbers[4..6].copy_from_slice(&port.to_le_bytes());
        let length = match address {
            Address::V4(number) => {
                numbers[6] = 4;
                numbers[7..11].copy_from_slice(&number.to_le_bytes());
                11
            }
            Address::V6(number) => {
                numbers[6] = 6;
                numbers[7..].copy_from_slice(&number.to_le_bytes());
                NUMBERS
            }
        };
        Self {
            numbers,
            length,
            interface,
        }
    }

    fn numbers(&self) -> &[u8] {
        &self.numbers[..self.length]
    }
}

#[derive(Debug)]
struct Flow<T> {
    verdict: T,
    seen: i64,
}

/// Remembered verdicts. When the table is full the flow that was silent longest is judged by the rules again.
#[derive(Debug)]
pub struct Flows<T> {
    /// One lock: who was silent longest is a question about all of them.
    table: Mutex<Lru<Key, Flow<T>>>,
    length: AtomicUsize,
    size: usize,
}

impl<T: Copy> Flows<T> {
    /// Of at most [`MAX_FLOWS`].
    #[must_use]
    pub fn new() -> Self {
        Self::sized(MAX_FLOWS)
    }

    fn sized(size: usize) -> Self {
        Self {
            table: Mutex::new(Lru::new()),
            length: AtomicUsize::new(0),
            size,
        }
    }

    /// What `known` makes of the verdict of this packet's flow, if it has one at `now` (monotonic nanoseconds). Where it
    /// makes nothing of it the packet is no sign of life: a flow of another policy must not outlive this one's.
    pub fn recall<U>(&self, packet: &FlowPacket<'_>, now: i64, known: impl FnOnce(T) -> Option<U>) -> Option<U> {
        if self.is_empty() {
            return None;
        }
        let key = packet.key();
        let mut flows = self.lock();
        let place = flows.find(&key)?;
        let flow = flows.value(place);
        let idle = if packet.protocol == TCP { TCP_IDLE } else { OTHER_IDLE };
        if now - flow.seen >= idle {
            flows.remove(place);
            self.length.store(flows.len(), Relaxed);
            return None;
        }
        if packet.opens() {
            // For the rules to judge. The flow stays: a forged SYN must not cut it.
            return None;
        }
        let verdict = known(flow.verdict)?;
        flow.seen = now;
        flows.touch(place);
        Some(verdict)
    }

    /// Give the rest of this packet's flow its verdict.
    pub fn remember(&self, packet: &FlowPacket<'_>, verdict: T, now: i64) {
        let key = packet.key();
        let flow = Flow { verdict, seen: now };
        let mut flows = self.lock();
        // A flow that is known already keeps its turn: only a packet that it decides is a sign of life.
        if let Some(place) = flows.find(&key) {
            *flows.value(place) = flow;
        } else {
            flows.push(key, flow, self.size);
        }
        self.length.store(flows.len(), Relaxed);
    }

    /// Keep the flows whose verdicts `keep` says, as it leaves them: of a policy that takes another's place.
    pub fn retain(&self, mut keep: impl FnMut(&mut T) -> bool) {
        let mut flows = self.lock();
        flows.retain(|flow| keep(&mut flow.verdict));
        self.length.store(flows.len(), Relaxed);
    }

    /// Forget all flows; says how many there were.
    pub fn flush(&self) -> usize {
        let mut flows = self.lock();
        self.length.store(0, Relaxed);
        std::mem::replace(&mut *flows, Lru::new()).len()
    }

    /// How many are remembered, those that were silent too long and not asked for since among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length.load(Relaxed)
    }

    /// Whether none is remembered: then there is no flow to ask for.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Lru<Key, Flow<T>>> {
        unpoisoned(self.table.lock())
    }
}

impl<T: Copy> Default for Flows<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::HOOKS;
    use crate::state::key::INLINE;
    use proptest::prelude::*;

    const UDP: FlowPacket<'static> = FlowPacket {
        hook: Hook::Input,
        protocol: 17,
        saddr: Address::V4(0xC000_0201),
        daddr: Address::V4(0xC000_0202),
        sport: 1000,
        dport: 53,
        iifname: None,
        oifname: None,
        tcp_flags: None,
    };

    fn back(there: &FlowPacket<'static>) -> FlowPacket<'static> {
        let (saddr, daddr, sport, dport) = (there.daddr, there.saddr, there.dport, there.sport);
        FlowPacket {
            saddr,
            daddr,
            sport,
            dport,
            ..*there
        }
    }

    fn from_port(sport: u16) -> FlowPacket<'static> {
        FlowPacket { sport, ..UDP }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_silent_longest() {
        let flows = Flows::sized(2);
        flows.remember(&from_port(1), 'a', 1);
        flows.remember(&from_port(2), 'b', 2);
        assert_eq!(flows.recall(&from_port(1), 3, Some), Some('a'));
        flows.remember(&from_port(3), 'c', 4);
        let found = [1, 2, 3].map(|port| flows.recall(&from_port(port), 5, Some));
        assert_eq!((found, flows.len()), ([Some('a'), None, Some('c')], 2));
    }

    /// Who is let through by the policy before and no longer by this one sends on, and must not hold the table for it.
    #[test]
    fn a_verdict_that_means_nothing_any_more_is_no_sign_of_life() {
        let flows = Flows::sized(2);
        flows.remember(&from_port(1), 'a', 1);
        flows.remember(&from_port(2), 'b', 2);
        let known = |verdict| (verdict != 'a').then_some(verdict);
        assert_eq!(flows.recall(&from_port(1), OTHER_IDLE, known), None);
        flows.remember(&from_port(3), 'c', 4);
        let found = [1, 2, 3].map(|port| flows.recall(&from_port(port), 5, Some));
        assert_eq!(found, [None, Some('b'), Some('c')]);
    }

    #[test]
    fn a_verdict_that_is_given_again_replaces_and_keeps_the_turn() {
        let flows = Flows::sized(2);
        for (port, verdict) in [(1, 'a'), (2, 'b'), (1, 'c')] {
            flows.remember(&from_port(port), verdict, 0);
        }
        assert_eq!(flows.recall(&from_port(2), 0, Some), Some('b'));
        flows.remember(&from_port(1), 'd', 0);
        flows.remember(&from_port(3), 'e', 0);
        assert_eq!(
            [1, 2, 3].map(|port| flows.recall(&from_port(port), 0, Some)),
            [None, Some('b'), Some('e')]
        );
    }

    #[test]
    fn both_directions_and_nobody_else() {
        let flows = Flows::new();
        flows.remember(
            &FlowPacket {
                hook: Hook::Output,
                ..UDP
            },
            'a',
            0,
        );
        // By output its end behind an interface is the destination; a packet without one is not one without a name.
        assert_eq!(flows.recall(&back(&UDP), 1, Some), Some('a'));
        assert_eq!(
            flows.recall(
                &FlowPacket {
                    sport: 1000,
                    dport: 53,
                    ..back(&UDP)
                },
                1,
                Some
            ),
            None
        );
        assert_eq!(
            flows.recall(
                &FlowPacket {
                    hook: Hook::Forward,
                    ..UDP
                },
                1,
                Some
            ),
            None
        );
        assert_eq!(
            flows.recall(
                &FlowPacket {
                    protocol: 136,
                    ..back(&UDP)
                },
                1,
                Some
            ),
            None
        );
        assert_eq!(flows.recall(&UDP, 1, Some), None);
    }

    /// Which packets are of the flow that a packet on `hook` from a's interface to b's founded.
    #[test]
    fn each_end_stays_behind_its_interface() {
        let (a, b): (Option<&[u8]>, Option<&[u8]>) = (Some(b"a"), Some(b"b"));
        let seen = |hook, iifname, oifname| FlowPacket {
            hook,
            iifname,
            oifname,
            ..UDP
        };
        let rows = [
            (Hook::Forward, (a, b), [true, false, false, true, false]),
            (Hook::Input, (a, None), [true, true, false, false, false]),
            (Hook::Output, (None, b), [true, false, true, false, false]),
            (Hook::Prerouting, (a, None), [true; 5]),
            (Hook::Postrouting, (None, b), [true; 5]),
        ];
        for (hook, (iifname, oifname), expected) in rows {
            let flows = Flows::new();
            flows.remember(&seen(hook, iifname, oifname), (), 0);
            let found = [
                seen(hook, iifname, oifname),
                seen(hook, a, None),
                seen(hook, None, b),
                back(&seen(hook, b, a)),
                back(&seen(hook, a, b)),
            ];
            assert_eq!(
                found.map(|packet| flows.recall(&packet, 0, Some).is_some()),
                expected,
                "{hook:?}"
            );
        }
    }

    #[test]
    fn a_silent_flow_ends() {
        for (protocol, idle) in [(17, OTHER_IDLE), (132, OTHER_IDLE), (6, TCP_IDLE)] {
            let (flows, packet) = (Flows::new(), FlowPacket { protocol, ..UDP });
            flows.remember(&packet, (), 0);
            let found = [idle - 1, 2 * idle - 2, 3 * idle - 2].map(|now| flows.recall(&packet, now, Some).is_some());
            assert_eq!((found, flows.is_empty()), ([true, true, false], true));
        }
    }

    #[test]
    fn a_syn_is_judged_by_the_rules_and_cuts_nothing() {
        let flows = Flows::new();
        let packet = |tcp_flags| FlowPacket {
            protocol: TCP,
            tcp_flags,
            ..UDP
        };
        flows.remember(&packet(Some(SYN)), 'a', 0);
        let rows = [
            (Some(0x02), None),
            (Some(0x12), Some('a')),
            (Some(0x10), Some('a')),
            (None, Some('a')),
        ];
        for (flags, expected) in rows {
            assert_eq!(flows.recall(&packet(flags), 1, Some), expected, "{flags:?}");
        }
    }

    /// It is no sign of life either: who sends SYNs alone keeps no flow.
    #[test]
    fn a_syn_puts_nothing_off() {
        let flows = Flows::new();
        let packet = |flags| FlowPacket {
            protocol: TCP,
            tcp_flags: Some(flags),
            ..UDP
        };
        flows.remember(&packet(SYN), 'a', 0);
        assert_eq!(flows.recall(&packet(SYN), TCP_IDLE - 1, Some), None);
        assert_eq!(flows.recall(&packet(ACK), TCP_IDLE, Some), None);
        assert!(flows.is_empty());
    }

    #[test]
    fn another_policy_keeps_what_it_knows() {
        let flows = Flows::new();
        for port in 0..100 {
            flows.remember(&from_port(port), port, 0);
        }
        flows.retain(|rule| {
            *rule += 1000;
            *rule % 2 == 0
        });
        assert_eq!(flows.len(), 50);
        assert_eq!(
            [7, 8].map(|port| flows.recall(&from_port(port), 0, Some)),
            [None, Some(1008)]
        );
        assert_eq!(
            (flows.flush(), flows.len(), flows.recall(&from_port(8), 0, Some)),
            (50, 0, None)
        );
    }

    #[test]
    fn a_key_of_the_kernels_longest_names_needs_no_digest() {
        let (saddr, daddr) = (Address::V6(1), Address::V6(u128::MAX));
        let name: Option<&[u8]> = Some(&[b'n'; 15]);
        let (iifname, oifname, hook) = (name, name, Hook::Forward);
        let packet = FlowPacket {
            hook,
            saddr,
            daddr,
            iifname,
            oifname,
            ..UDP
        };
        assert!(packet.key().bytes().expect("bytes").len() <= INLINE);
        let long: Option<&[u8]> = Some(&[b'n'; 300]);
        assert!(
            FlowPacket {
                iifname: long,
                ..packet
            }
            .key()
            .bytes()
            .is_err()
        );
    }

    /// What Python's key is: a place, a protocol, and a set of ends.
    fn plainly(packet: &FlowPacket<'_>) -> impl PartialEq + use<> {
        let place = if packet.hook == Hook::Output {
            Hook::Input
        } else {
            packet.hook
        };
        let named = |tells: bool, name: Option<&[u8]>| tells.then(|| name.map(<[u8]>::to_vec));
        let comes = matches!(packet.hook, Hook::Input | Hook::Forward);
        let goes = matches!(packet.hook, Hook::Output | Hook::Forward);
        let one = (packet.saddr, packet.sport, named(comes, packet.iifname));
        let other = (packet.daddr, packet.dport, named(goes, packet.oifname));
        let swapped = (other.clone(), one.clone());
        let ends = [(one, other), swapped].map(|pair| format!("{pair:?}"));
        (place, packet.protocol, ends.iter().min().cloned())
    }

    fn packets() -> impl Strategy<Value = FlowPacket<'static>> {
        let address = || prop::sample::select(vec![Address::V4(1), Address::V4(2), Address::V6(1), Address::V6(2)]);
        let names: Vec<Option<&[u8]>> = vec![None, Some(b""), Some(b"a"), Some(b"aa"), Some(&[b'a'; 80])];
        let name = || prop::sample::select(names.clone());
        let ports = || prop::sample::select(vec![1_u16, 256, 257]);
        let hook = prop::sample::select(HOOKS.to_vec());
        let rest = (prop::sample::select(vec![6_u8, 17]), prop::option::of(0..32_u64));
        (hook, address(), address(), ports(), ports(), name(), name(), rest).prop_map(
            |(hook, saddr, daddr, sport, dport, iifname, oifname, (protocol, tcp_flags))| FlowPacket {
                hook,
                protocol,
                saddr,
                daddr,
                sport,
                dport,
                iifname,
                oifname,
                tcp_flags,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn keys_are_equal_where_the_flow_is(one in packets(), other in packets()) {
            prop_assert_eq!(one.key() == other.key(), plainly(&one) == plainly(&other));
        }
    }
}
