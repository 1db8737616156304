//! What a packet carries beside its bytes.

use std::sync::mpsc::{Sender, channel};

use qfilter_queue::{Cause, Final, Judge, Judged, Queued, Settings, Ticket};

use crate::namespace::{PATIENCE, Pair, inside, open, queue_port, run};

/// Tells what it sees in a line.
struct Telling(Sender<String>);

impl Judge for Telling {
    type Suspended = ();
    type Answer = ();
    type Policy = ();

    fn judge(&mut self, packet: &Queued<'_>) -> Judged<()> {
        let name = |name: Option<&[u8]>| String::from_utf8_lossy(name.unwrap_or(b"-")).into_owned();
        let told = format!(
            "hook {} in {} out {} uid {:?} mark {:#x} ready {} length {} of {}",
            packet.hook,
            name(packet.iifname),
            name(packet.oifname),
            packet.uid,
            packet.mark,
            packet.checksum_ready,
            packet.payload.len(),
            packet.wire_length
        );
        self.0.send(told).unwrap();
        Judged::Final(Final::ACCEPT)
    }

    fn policy(&mut self) {
        unreachable!("nothing waits")
    }

    fn judge_by(&mut self, (): (), _: &Queued<'_>) -> Judged<()> {
        unreachable!("nothing waits")
    }

    fn flow(&mut self, _: &Queued<'_>) -> u64 {
        unreachable!("nothing waits")
    }

    fn ask(&mut self, _: Ticket, _: &Queued<'_>, (): &()) -> bool {
        unreachable!("nothing waits")
    }

    fn resume(&mut self, _: &Queued<'_>, (): (), _: Result<(), Cause>) -> Judged<()> {
        unreachable!("nothing waits")
    }

    fn fail(&mut self, cause: Cause, _: Option<&Queued<'_>>, words: &str) -> Final {
        self.0.send(format!("fail {cause} {words}")).unwrap();
        Final::DROP
    }
}

#[test]
fn a_packet_tells_its_hook_its_interface_its_sender_and_its_lengths() {
    inside(|| {
        let (told, seen) = channel();
        let queue = open(Settings {
            copy_range: 64,
            ..Settings::new(0)
        });
        let pair = Pair::to(9);
        queue_port(9, 0);
        run("iptables-legacy -A INPUT -p udp --dport 9 -j NFQUEUE --queue-num 0").unwrap();
        let handle = queue.start(Telling(told)).unwrap();
        pair.mark(0x2a);
        pair.send(&["x".repeat(100).as_str()]);
        pair.receive(1);
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
        drop(handle);
        assert_eq!(
            seen.iter().collect::<Vec<_>>(),
            [
                "hook 3 in - out lo uid Some(0) mark 0x2a ready false length 64 of 128",
                "hook 1 in lo out - uid None mark 0x2a ready false length 64 of 128",
            ]
        );
    });
}

#[test]
fn interfaces_that_come_and_are_renamed_have_their_names() {
    inside(|| {
        let (told, seen) = channel();
        let queue = open(Settings::new(0));
        queue_port(9, 0);
        let _handle = queue.start(Telling(told)).unwrap();
        let sender = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let name_of_next = || {
            sender.send_to(b"x", "192.0.2.2:9").unwrap();
            let line = seen.recv_timeout(PATIENCE).unwrap();
            line.split(' ').nth(5).unwrap().to_owned()
        };
        run("ip link add first type veth peer name other").unwrap();
        run("ip address add 192.0.2.1/24 dev first").unwrap();
        run("ip link set first up").unwrap();
        assert_eq!(name_of_next(), "first", "no notice has to be read for a new index");
        run("ip link set first down").unwrap();
        run("ip link set first name second").unwrap();
        run("ip link set second up").unwrap();
        crate::namespace::until("renamed", || name_of_next() == "second");
        run("ip link del second").unwrap();
        run("ip link add third type veth peer name other").unwrap();
        run("ip address add 192.0.2.1/24 dev third").unwrap();
        run("ip link set third up").unwrap();
        assert_eq!(name_of_next(), "third");
    });
}
