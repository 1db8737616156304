//! Messages to packets: every attribute, every way to be damaged, and no panic on any bytes.

use std::time::Duration;

use proptest::prelude::*;
use qfilter_queue::netlink::{Damaged, Writer, attributes, messages};
use qfilter_queue::nfqueue::{cut_id, decode, decode_datagram, verdict, verdict_batch};
use qfilter_queue::{Conntrack, Final, Queued};

const PACKET: u16 = 0x300;
const INPUT: u8 = 1;
const OUTPUT: u8 = 3;
const HEADER: (u16, &[u8]) = (1, &[0, 0, 0, 9, 0x08, 0x00, INPUT]);
const HARDWARE: &[u8] = &[0, 6, 0, 0, 2, 0, 0, 0, 0, 5, 0, 0];

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// The kernel's message of a packet: family and attributes.
fn message(family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.begin(PACKET, 0, 0, &[family, 0, 0, 3]);
    for (kind, value) in attributes {
        writer.attribute(*kind, value);
    }
    writer.bytes().to_vec()
}

#[test]
fn every_attribute_has_its_field() {
    let time = [[0_u8; 4], number(1_700_000_000), [0; 4], number(250_000)].concat();
    let mark = [[8, 0], 8_u16.to_ne_bytes(), [0, 0], [0, 0x2a]].concat();
    let conntrack = [[8, 0, 3, 0, 0, 0, 0, 1].as_slice(), &mark].concat();
    let (one, two, three, four) = (number(1), number(2), number(3), number(4));
    let bytes = message(
        2,
        &[
            HEADER,
            (5, &one),
            (6, &two),
            (7, &three),
            (8, &four),
            (3, &number(0xABCD)),
            (4, &time),
            (9, HARDWARE),
            (0x800b, &conntrack),
            (12, &number(2)),
            (13, &number(1_500)),
            (14, &number(1)),
            (16, &number(1_000)),
            (17, &number(1_001)),
            (21, &number(7)),
            (10, b"payload"),
        ],
    );
    let input = Queued {
        id: 9,
        family: 2,
        ethertype: 0x0800,
        hook: INPUT,
        mark: 0xABCD,
        indev: 1,
        physindev: 3,
        hwaddr: Some(&[2, 0, 0, 0, 0, 5]),
        timestamp: Some(Duration::new(1_700_000_000, 250_000_000)),
        checksum_ready: false,
        conntrack: Some(Conntrack { info: 2, mark: 0x2a }),
        wire_length: 1_500,
        payload: b"payload",
        ..Queued::default()
    };
    assert_eq!(
        decode_datagram(&bytes),
        Ok(input),
        "no output interface, no user, at input"
    );
    let mut sent = bytes.clone();
    sent[20 + 4 + 6] = OUTPUT;
    let output = Queued {
        hook: OUTPUT,
        indev: 0,
        physindev: 0,
        hwaddr: None,
        outdev: 2,
        physoutdev: 4,
        uid: Some(1_000),
        gid: Some(1_001),
        ..input
    };
    assert_eq!(decode_datagram(&sent), Ok(output));
}

#[test]
fn states_of_connections() {
    const INVALID: u8 = 1;
    for (info, state) in [
        (0, 2),
        (1, 4),
        (2, 8),
        (3, 2),
        (4, 4),
        (5, 8),
        (6, INVALID),
        (7, INVALID),
    ] {
        let found = message(2, &[HEADER, (12, &number(info))]);
        let packet = decode_datagram(&found).unwrap();
        let known = Conntrack { info, mark: 0 };
        assert_eq!((packet.ct_state(), packet.conntrack), (state, Some(known)), "{info}");
    }
    let without = message(2, &[HEADER, (0x800b, &[8, 0, 8, 0, 0, 0, 0, 7])]);
    let packet = decode_datagram(&without).unwrap();
    assert_eq!((packet.ct_state(), packet.conntrack), (INVALID, None));
}

#[test]
fn what_the_kernel_leaves_out_has_its_default() {
    let bytes = message(10, &[HEADER, (10, &[0x60; 48])]);
    let packet = decode_datagram(&bytes).unwrap();
    assert!(packet.checksum_ready && packet.is_ip());
    assert_eq!(
        (packet.wire_length, packet.mark, packet.timestamp, packet.conntrack),
        (48, 0, None, None)
    );
}

#[test]
fn a_message_that_lies_says_how() {
    let words = |attributes: &[(u16, &[u8])]| decode_datagram(&message(2, attributes)).unwrap_err().to_string();
    assert_eq!(
        words(&[(10, b"payload")]),
        "packet message 16: expected one with its packet header"
    );
    assert_eq!(words(&[(1, &[0; 6])]), "packet header 6: expected 7");
    assert_eq!(words(&[HEADER, (3, &[0; 3])]), "attribute size 3: expected 4");
    assert_eq!(
        words(&[HEADER, (4, &[0xFF; 16])]),
        "timestamp of bytes 16: expected 16, within the range of times"
    );
    assert_eq!(words(&[HEADER, (9, &[0; 2])]), "hardware address 2: expected 12");
    let bytes = message(2, &[HEADER, (10, b"payload")]);
    let cut = |length: usize| messages(&bytes[..length]).next().unwrap().map(|_| ()).unwrap_err();
    assert_eq!(
        cut(15),
        Damaged {
            what: "bytes",
            found: 15,
            expected: "a netlink header of 16"
        }
    );
    assert_eq!(
        cut(40).to_string(),
        "netlink message length 44: expected 16 to the rest of the datagram"
    );
}

#[test]
fn the_id_of_a_cut_message_is_its_first_attribute() {
    let bytes = message(2, &[HEADER, (10, &[0; 100])]);
    assert_eq!(cut_id(&bytes[..60]), Some(9));
    assert_eq!(cut_id(&bytes[..24]), None, "cut inside of it");
    assert_eq!(cut_id(&message(2, &[(10, &[0; 8])])), None, "another attribute first");
    let mut other = bytes;
    other[4] = 1;
    assert_eq!(cut_id(&other), None, "another message");
}

#[test]
fn frames_of_bridges_are_ip_only_when_they_look_like_it() {
    let of = |family, ethertype: u16, first: u8| {
        Queued {
            family,
            ethertype,
            payload: &[first],
            ..Queued::default()
        }
        .is_ip()
    };
    assert!(of(7, 0x0800, 0x45) && of(7, 0x86DD, 0x60));
    assert!(!of(7, 0x0806, 0x45) && !of(7, 0x0800, 0x60) && !of(7, 0x86DD, 0x45) && !of(3, 0x0800, 0x45));
    assert!(
        !Queued {
            family: 7,
            ethertype: 0x0800,
            ..Queued::default()
        }
        .is_ip()
    );
    assert!(
        of(2, 0, 0) && of(10, 0, 0),
        "the families' own hooks queue nothing else"
    );
}

#[test]
fn verdicts_are_the_bytes_that_the_kernel_reads() {
    let mut writer = Writer::default();
    verdict(&mut writer, 0, 0x0102, 0x0304_0506, Final::queue(7).with_mark(8));
    verdict_batch(&mut writer, 1, 0x0102, 9, Final::DROP);
    let written: Vec<_> = messages(writer.bytes()).map(Result::unwrap).collect();
    assert_eq!(
        (
            written[0].kind,
            written[0].sequence,
            written[1].kind,
            written[1].sequence
        ),
        (0x301, 0, 0x303, 1)
    );
    let header: &[u8] = &[0, 7, 0, 3, 3, 4, 5, 6];
    let found: Vec<_> = attributes(&written[0].body[4..]).map(Result::unwrap).collect();
    assert_eq!(
        (&written[0].body[..4], found.as_slice()),
        (&[0, 0, 1, 2][..], &[(2, header), (3, &number(8)[..])][..])
    );
    assert_eq!(
        attributes(&written[1].body[4..]).last(),
        Some(Ok((2, &[0, 0, 0, 0, 0, 0, 0, 9][..])))
    );
}

/// Everything that reads bytes from the kernel.
fn read_all(bytes: &[u8]) {
    let _ = cut_id(bytes);
    let _ = decode_datagram(bytes);
    for message in messages(bytes).flatten() {
        let _ = (message.errno(), decode(&message));
        let found: usize = attributes(message.body).flatten().map(|(_, value)| value.len()).sum();
        assert!(found <= message.body.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn no_change_of_a_packet_makes_it_panic(
        attributes in prop::collection::vec((0..24_u16, prop::collection::vec(any::<u8>(), 0..24)), 0..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
    ) {
        let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        let mut bytes = message(2, &[&[HEADER], attributes.as_slice()].concat());
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        read_all(&bytes);
        read_all(&bytes[..length.index(bytes.len() + 1)]);
    }
}
