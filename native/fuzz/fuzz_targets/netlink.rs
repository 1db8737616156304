//! Any datagram from the kernel: messages, attributes, queued packets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qfilter_queue::netlink::{Message, attributes, messages};
use qfilter_queue::nfqueue::{cut_id, decode, decode_datagram, is_packet};

fuzz_target!(|datagram: &[u8]| {
    let id = cut_id(datagram);
    let found = decode_datagram(datagram);
    let mut bodies = 0;
    for message in messages(datagram) {
        match message {
            Ok(message) => {
                bodies += message.body.len();
                read(&message);
            }
            Err(damaged) => assert!(!damaged.to_string().is_empty()),
        }
    }
    assert!(bodies <= datagram.len());
    // The kernel writes the packet header first; what is read of a cut message is what the whole one says.
    if let (Some(id), Ok(packet), Some(Ok(first))) = (id, found, messages(datagram).next())
        && is_packet(&first)
        && attributes(&first.body[4..])
            .flatten()
            .filter(|(kind, _)| *kind == 1)
            .count()
            == 1
    {
        assert_eq!(packet.id, id);
    }
});

fn read(message: &Message<'_>) {
    assert!(message.errno().is_none() || message.kind == 2);
    let values: usize = attributes(message.body).flatten().map(|(_, value)| value.len()).sum();
    assert!(values <= message.body.len());
    match decode(message) {
        Ok(packet) => {
            assert!(packet.hwaddr.is_none_or(|address| address.len() <= 8));
            assert!(packet.payload.len() <= message.body.len());
            assert!(!packet.is_ip() || matches!(packet.family, 2 | 7 | 10));
        }
        Err(damaged) => assert!(!damaged.to_string().is_empty()),
    }
}
