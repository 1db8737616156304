//! The loop without its thread: datagrams and answers in, verdicts out. Only system calls that need no privilege.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rustix::net::netlink::{NETFILTER, USERSOCK};

use crate::counters::{Counters, Snapshot};
use crate::guarded::Guarded;
use crate::judge::{Cause, Final, Judge, Judged, Ticket};
use crate::links::Links;
use crate::mailbox::{Mailbox, WAKE};
use crate::netlink::{Writer, attributes, messages};
use crate::nfqueue::Queued;
use crate::serve::Serving;
use crate::settings::Settings;
use crate::socket::Socket;
use crate::verdicts::{DECIDED, DOUBTED, Planner};
use crate::waiting::Waiting;

const PACKET: u16 = 0x300;
const VERDICT_BATCH: u16 = 0x303;
const IPV4: u8 = 2;
const BRIDGE: u8 = 7;
const QUEUE: u16 = 3;

/// Does what the packet's second byte says; the third is its flow, the fourth its number. Begins no batch in trouble.
struct Scripted(Arc<Mutex<Vec<String>>>);

fn scripted(word: u8) -> Judged<u8> {
    match word {
        b'a' => Judged::Final(Final::ACCEPT),
        b'd' => Judged::Final(Final::DROP),
        b'w' | b'x' => Judged::Wait(word),
        other => panic!("byte {other:#x}"),
    }
}

impl Scripted {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Judge for Scripted {
    type Suspended = u8;
    type Answer = u8;
    type Policy = usize;

    fn begin_batch(&mut self) {
        let in_trouble = self.0.lock().unwrap().last().is_some_and(|line| line == "trouble");
        assert!(!in_trouble, "no policy");
    }

    fn judge(&mut self, packet: &Queued<'_>) -> Judged<u8> {
        self.write(format!("judge {}", packet.id));
        scripted(packet.payload[1])
    }

    fn policy(&mut self) -> usize {
        let log = self.0.lock().unwrap();
        log.iter().filter(|line| *line == "another policy").count()
    }

    fn judge_by(&mut self, policy: usize, packet: &Queued<'_>) -> Judged<u8> {
        self.write(format!("judge {} by {policy}", packet.id));
        scripted(packet.payload[1])
    }

    fn flow(&mut self, packet: &Queued<'_>) -> u64 {
        packet.payload[2].into()
    }

    fn ask(&mut self, ticket: Ticket, packet: &Queued<'_>, word: &u8) -> bool {
        assert!(*word == b'w', "nobody to ask");
        self.write(format!("ask {} {}", packet.id, ticket.0));
        true
    }

    fn resume(&mut self, packet: &Queued<'_>, _: u8, answer: Result<u8, Cause>) -> Judged<u8> {
        self.write(format!("resume {}", packet.id));
        answer.map_or(Judged::Final(Final::DROP), scripted)
    }

    fn fail(&mut self, cause: Cause, packet: Option<&Queued<'_>>, words: &str) -> Final {
        self.write(format!("fail {cause} {:?} {words}", packet.map(|packet| packet.id)));
        Final::ACCEPT
    }
}

/// A loop whose kernel is the test.
struct Scene {
    serving: Serving<Scripted>,
    links: Links,
    log: Arc<Mutex<Vec<String>>>,
    /// Verdicts in the order in which they were written: type, id, value.
    verdicts: Vec<(u16, u32, u32)>,
}

impl Scene {
    fn new(settings: Settings) -> Self {
        let (counters, log) = (Arc::new(Counters::default()), Arc::default());
        let socket = Arc::new(Socket::open(Some(NETFILTER), 0).unwrap());
        let serving = Serving {
            mailbox: Arc::new(Mailbox::new(Arc::clone(&socket))),
            judge: Guarded::new(Scripted(Arc::clone(&log)), Arc::clone(&counters)),
            planner: Planner::new(QUEUE),
            waiting: Waiting::new(settings.waiting),
            stop: None,
            settings,
            socket,
            counters,
        };
        Self {
            serving,
            links: Links::open().unwrap(),
            log,
            verdicts: Vec::new(),
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        self.serving.take(datagram, false, &mut self.links.names());
    }

    fn take_cut(&mut self, datagram: &[u8]) {
        self.serving.take(datagram, true, &mut self.links.names());
    }

    fn answer(&mut self, ticket: u64, answer: u8) {
        self.serving.answered(Ticket(ticket), answer);
    }

    fn flush(&mut self) -> &[(u16, u32, u32)] {
        let verdicts = &mut self.verdicts;
        self.serving.planner.flush(|bytes| {
            for message in messages(bytes).map(Result::unwrap) {
                let (_, header) = attributes(&message.body[4..]).next().unwrap().unwrap();
                let number = |start: usize| u32::from_be_bytes(*header[start..].first_chunk().unwrap());
                verdicts.push((message.kind & 3, number(4), number(0)));
                assert!(message.kind == VERDICT_BATCH || message.sequence == DECIDED);
            }
            true
        });
        verdicts
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn counters(&self) -> Snapshot {
        self.serving.counters.snapshot()
    }
}

struct Sent {
    id: u32,
    family: u8,
    ethertype: u16,
    hook: u8,
    indev: u32,
}

/// An IPv4 packet on input, by nothing that has a name.
const fn sent(id: u32) -> Sent {
    Sent {
        id,
        family: IPV4,
        ethertype: 0x0800,
        hook: 1,
        indev: 0,
    }
}

/// The kernel's message of a packet.
fn packet(sent: &Sent, word: u8, flow: u8) -> Vec<u8> {
    let header = [
        sent.id.to_be_bytes().as_slice(),
        &sent.ethertype.to_be_bytes(),
        &[sent.hook],
    ]
    .concat();
    let mut writer = Writer::default();
    writer
        .begin(PACKET, 0, 0, &[sent.family, 0, 0, 3])
        .attribute(1, &header);
    writer
        .attribute(5, &sent.indev.to_be_bytes())
        .attribute(10, &[0x45, word, flow, 0]);
    writer.bytes().to_vec()
}

fn complaint(sequence: u32, errno: i32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.begin(2, 0, sequence, &(-errno).to_ne_bytes());
    writer.bytes().to_vec()
}

#[test]
fn messages_that_did_not_arrive_whole_get_the_outcome_of_truncated() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    scene.take(&packet(&sent(1), b'd', 0));
    scene.take_cut(&packet(&sent(2), b'd', 0)[..40]);
    let damaged = packet(&sent(3), b'd', 0);
    scene.take(&damaged[..damaged.len() - 4]);
    scene.take(&[7; 20]);
    scene.take(&packet(&sent(5), b'd', 0));
    assert_eq!(
        scene.flush(),
        [(1, 1, 0), (3, 4, 1), (1, 5, 0)],
        "what has no id is the one that is missing"
    );
    let counters = scene.counters();
    assert_eq!(
        (counters.received, counters.accepted, counters.dropped, counters.lost),
        (5, 3, 2, 0)
    );
    assert_eq!(
        (counters.truncated, counters.errors),
        (1, BTreeMap::from([(libc::EBADMSG, 2)]))
    );
    assert_eq!(
        scene.log(),
        [
            "judge 1",
            "fail truncated None message longer than 40 bytes",
            "fail truncated None netlink message length 48: expected 16 to the rest of the datagram",
            "fail truncated None netlink message length 117901063: expected 16 to the rest of the datagram",
            "judge 5"
        ]
    );
}

#[test]
fn what_is_lost_beside_an_unreadable_message_is_dropped() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    scene.take(&packet(&sent(1), b'a', 0));
    scene.take(&[7; 20]);
    scene.take(&packet(&sent(4), b'a', 0));
    assert_eq!(
        scene.flush(),
        [(1, 1, 1), (3, 3, 0), (1, 4, 1)],
        "2 or 3 was it: nobody can tell"
    );
    assert_eq!(scene.counters().lost, 1);
}

#[test]
fn packets_that_no_judge_may_see() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    let bridged = |id, ethertype| Sent {
        family: BRIDGE,
        ethertype,
        ..sent(id)
    };
    scene.take(&packet(&bridged(1, 0x0806), b'd', 0));
    scene.take(&packet(&bridged(2, 0x86DD), b'd', 0));
    scene.take(&packet(&bridged(3, 0x0800), b'd', 0));
    scene.take(&packet(&Sent { hook: 5, ..sent(4) }, b'd', 0));
    scene.take(&packet(
        &Sent {
            indev: 0x7FFF_FFF0,
            ..sent(5)
        },
        b'd',
        0,
    ));
    assert_eq!(
        scene.log(),
        [
            "fail malformed Some(1) ethertype 0x0806: expected an IP packet",
            "fail malformed Some(2) ethertype 0x86dd: expected an IP packet",
            "judge 3",
            "fail error None hook 5: expected one of IP's, 0 to 4",
            "fail error None interface index 2147483632: no such interface"
        ]
    );
    assert_eq!(scene.counters().failures.map(|(_, count)| count), [2, 0, 2, 0, 0]);
    assert_eq!(scene.flush(), [(3, 2, 1), (1, 3, 0), (3, 5, 1)]);
}

#[test]
fn an_interface_that_cannot_be_asked_for_is_not_one_that_there_is_not() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    // Nobody listens to that protocol.
    scene.links.ask_over(Socket::open(Some(USERSOCK), 0).unwrap());
    let nameless = Sent {
        indev: 0x7FFF_FFF0,
        ..sent(1)
    };
    scene.take(&packet(&nameless, b'd', 0));
    let words = "interface index 2147483632: Connection refused (os error 111)";
    assert_eq!(scene.log(), [format!("fail error None {words}")]);
    let counters = scene.counters();
    assert_eq!(counters.errors, BTreeMap::from([(libc::ECONNREFUSED, 1)]));
    assert_eq!(counters.last_failure, words);
}

#[test]
fn a_batch_that_cannot_begin_fails_for_whoever_arrives_and_whoever_waited() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    scene.take(&packet(&sent(1), b'w', 7));
    scene.log.lock().unwrap().push("trouble".to_owned());
    scene.serving.judge.begin_batch();
    scene.take(&packet(&sent(2), b'd', 8));
    scene.answer(1, b'd');
    scene.take(&packet(&sent(3), b'd', 7));
    scene.serving.judge.begin_batch();
    scene.take(&packet(&sent(4), b'd', 7));
    assert_eq!(
        scene.log(),
        [
            "judge 1",
            "ask 1 1",
            "trouble",
            "fail error Some(2) no policy",
            "fail error Some(1) no policy",
            "fail error Some(3) no policy",
            "judge 4"
        ]
    );
    let counters = scene.counters();
    assert_eq!((counters.panics, counters.last_failure.as_str()), (1, "no policy"));
    assert_eq!(scene.flush(), [(3, 3, 1), (1, 4, 0)]);
}

#[test]
fn a_question_that_panics_fails_its_packet() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    scene.take(&packet(&sent(1), b'x', 7));
    assert_eq!(scene.log(), ["judge 1", "fail error Some(1) nobody to ask"]);
    let counters = scene.counters();
    assert_eq!(
        (counters.panics, counters.failures.map(|(_, count)| count)),
        (1, [0, 0, 1, 0, 0])
    );
    assert!(scene.serving.waiting.is_empty());
}

#[test]
fn complaints_are_counted_but_for_those_that_are_expected() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    for (sequence, errno) in [
        (DECIDED, libc::ENOENT),
        (DECIDED, 0),
        (DOUBTED, libc::ENOENT),
        (DOUBTED, libc::EPERM),
        (WAKE, libc::EPERM),
    ] {
        scene.take(&complaint(sequence, errno));
    }
    assert_eq!(
        scene.counters().errors,
        BTreeMap::from([(libc::ENOENT, 1), (libc::EPERM, 1)])
    );
    assert_eq!(scene.counters().received, 0);
}

#[test]
fn what_stands_behind_is_overdue_no_sooner_than_the_first_of_its_flow() {
    let mut scene = Scene::new(Settings {
        deadline: Some(Duration::ZERO),
        ..Settings::new(QUEUE)
    });
    for id in 1..4 {
        scene.take(&packet(&sent(id), if id == 3 { b'a' } else { b'w' }, 7));
    }
    assert!(scene.flush().is_empty());
    scene.serving.give_up_overdue();
    assert_eq!(
        scene.log(),
        [
            "judge 1",
            "ask 1 1",
            "resume 1",
            "judge 2 by 0",
            "ask 2 4",
            "resume 2",
            "judge 3 by 0"
        ]
    );
    assert_eq!(scene.flush(), [(3, 2, 0), (1, 3, 1)]);
}

#[test]
fn what_stands_behind_is_judged_by_what_was_in_force_when_it_came() {
    let mut scene = Scene::new(Settings::new(QUEUE));
    scene.take(&packet(&sent(1), b'w', 7));
    scene.take(&packet(&sent(2), b'a', 7));
    scene.log.lock().unwrap().push("another policy".to_owned());
    scene.take(&packet(&sent(3), b'd', 7));
    scene.answer(1, b'a');
    assert_eq!(
        scene.log()[3..],
        ["resume 1", "judge 2 by 0", "judge 3 by 1"],
        "in the order of arrival"
    );
    assert_eq!(scene.flush(), [(3, 2, 1), (1, 3, 0)]);
}

#[derive(Clone, Debug)]
enum Event {
    Arrive { word: u8, flow: u8 },
    Answer { which: prop::sample::Index, answer: u8 },
    Flush,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let word = prop::sample::select(b"aaadw?".as_slice());
    let event = prop_oneof![
        5 => (word, 0..4_u8).prop_map(|(word, flow)| Event::Arrive { word, flow }),
        3 => (any::<prop::sample::Index>(), prop::sample::select(b"adw?".as_slice()))
            .prop_map(|(which, answer)| Event::Answer { which, answer }),
        1 => Just(Event::Flush),
    ];
    prop::collection::vec(event, 0..60)
}

/// The numbers in the lines that begin so.
fn ids(log: &[String], begin: &str) -> Vec<u32> {
    let rest = log.iter().filter_map(|line| line.strip_prefix(begin));
    rest.map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flow_is_judged_in_order_and_every_packet_is_decided_once(events in events()) {
        let mut scene = Scene::new(Settings { waiting: 1_000, length: 2_000, ..Settings::new(QUEUE) });
        let (mut flows, mut id) = (BTreeMap::<u8, Vec<u32>>::new(), 0);
        for event in events {
            match event {
                Event::Arrive { word, flow } => {
                    id += 1;
                    flows.entry(flow).or_default().push(id);
                    scene.take(&packet(&sent(id), word, flow));
                }
                Event::Answer { which, answer } => {
                    // Of any ticket there was, so that some answers come late.
                    let tickets = scene.serving.waiting.ticket().0;
                    scene.answer(which.index(tickets as usize) as u64, answer);
                }
                Event::Flush => drop(scene.flush().to_vec()),
            }
        }
        scene.serving.give_up_all();
        scene.flush();
        prop_assert!(scene.serving.waiting.is_empty());
        let judged = ids(&scene.log(), "judge ");
        for packets in flows.values() {
            let own: Vec<u32> = judged.iter().copied().filter(|id| packets.contains(id)).collect();
            prop_assert_eq!(&own, packets, "each once, in the order of arrival");
        }
        let counters = scene.counters();
        prop_assert_eq!(counters.accepted + counters.dropped, u64::from(id));
    }
}
