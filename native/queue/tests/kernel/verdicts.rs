//! What is decided reaches the kernel.

use std::time::Duration;

use qfilter_queue::{Final, Judge, Judged, Queued, Settings, Ticket};

use crate::judge::Obedient;
use crate::namespace::{PATIENCE, Pair, inside, open, queue_port, row, run, until};

#[test]
fn every_packet_gets_its_own_verdict() {
    inside(|| {
        let (queue, pair, judge) = (open(Settings::new(0)), Pair::to(9), Obedient::default());
        queue_port(9, 0);
        pair.send(&[
            "accept 1", "drop 2", "accept 3", "accept 4", "drop 5", "drop 6", "accept 7",
        ]);
        let handle = queue.start(judge.clone()).unwrap();
        assert_eq!(pair.receive(4), ["accept 1", "accept 3", "accept 4", "accept 7"]);
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
        assert!(pair.is_empty());
        let counters = handle.counters();
        assert_eq!(
            (counters.received, counters.accepted, counters.dropped, counters.lost),
            (7, 4, 3, 0)
        );
        assert!(counters.errors.is_empty(), "{:?}", counters.errors);
        assert_eq!(counters.sends, 1, "one for what was there");
        assert!(handle.failure().is_none());
        assert_eq!(row(0), None, "the queue was let go");
    });
}

#[test]
fn what_was_queued_before_the_stop_gets_its_verdict() {
    inside(|| {
        let (queue, pair) = (open(Settings::new(0)), Pair::to(9));
        queue_port(9, 0);
        let texts: Vec<String> = (0..200).map(|number| format!("accept {number}")).collect();
        pair.send(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let handle = queue.start(Obedient::default()).unwrap();
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
        assert_eq!(handle.counters().accepted, 200);
        let sends = handle.counters().sends;
        assert!(sends <= handle.counters().receives, "{sends} sends");
        assert_eq!(pair.receive(200), texts);
    });
}

#[test]
fn a_mark_is_seen_by_the_rules_after_the_queue() {
    inside(|| {
        let (queue, pair) = (open(Settings::new(0)), Pair::to(9));
        run("iptables-legacy -A OUTPUT -p udp --dport 9 -m mark --mark 9 -j ACCEPT").unwrap();
        queue_port(9, 0);
        run("iptables-legacy -t mangle -A POSTROUTING -p udp --dport 9 -m mark --mark 7 -j DROP").unwrap();
        let handle = queue.start(Obedient::default()).unwrap();
        pair.send(&["mark", "mark", "repeat", "accept"]);
        assert_eq!(pair.receive(2), ["repeat", "accept"]);
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
        let counters = handle.counters();
        assert_eq!((counters.accepted, counters.repeated, counters.received), (3, 1, 4));
    });
}

#[test]
fn two_queues_are_two_threads_and_a_packet_goes_from_one_to_the_other() {
    inside(|| {
        let pair = Pair::to(9);
        let (first, second) = (open(Settings::new(0)), open(Settings::new(1)));
        queue_port(9, 0);
        let first = first.start(Obedient::default()).unwrap();
        let second = second.start(Elsewhere).unwrap();
        pair.send(&["accept", "queue", "drop"]);
        let mut came = pair.receive(2);
        came.sort();
        assert_eq!(came, ["accept", "queue"]);
        for handle in [first.stop(PATIENCE), second.stop(PATIENCE)] {
            handle.unwrap();
        }
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(
            (
                first.counters().received,
                first.counters().queued,
                first.counters().dropped
            ),
            (3, 1, 1)
        );
        assert_eq!((second.counters().received, second.counters().accepted), (1, 1));
    });
}

struct Elsewhere;

impl Judge for Elsewhere {
    type Suspended = ();
    type Answer = ();
    type Policy = ();

    fn judge(&mut self, _: &Queued<'_>) -> Judged<()> {
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

    fn resume(&mut self, _: &Queued<'_>, (): (), _: Result<(), qfilter_queue::Cause>) -> Judged<()> {
        unreachable!("nothing waits")
    }

    fn fail(&mut self, _: qfilter_queue::Cause, _: Option<&Queued<'_>>, words: &str) -> Final {
        unreachable!("{words}")
    }
}

#[test]
fn a_pinned_loop_runs_where_it_was_told_to() {
    inside(|| {
        let handle = open(Settings {
            cpu: Some(0),
            ..Settings::new(0)
        })
        .start(Obedient::default())
        .unwrap();
        assert!(row(0).is_some());
        drop(handle);
        let nowhere = open(Settings {
            cpu: Some(1_000),
            ..Settings::new(0)
        })
        .start(Obedient::default());
        assert_eq!(nowhere.err().unwrap().raw_os_error(), Some(libc::EINVAL));
        until("the queue is let go", || row(0).is_none());
    });
}

#[test]
fn a_stop_without_patience_ends_at_once() {
    inside(|| {
        let handle = open(Settings::new(0)).start(Obedient::default()).unwrap();
        handle.stop(Duration::ZERO).unwrap();
        handle.join().unwrap();
        handle.join().unwrap();
        assert_eq!(row(0), None);
    });
}
