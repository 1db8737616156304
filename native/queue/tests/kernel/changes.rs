//! Other settings for a queue that is served.

use std::time::Duration;

use qfilter_queue::{Change, Settings};

use crate::judge::Obedient;
use crate::namespace::{Pair, inside, open, queue_port, row};

const CHANGE: Change = Change {
    length: 64,
    copy_range: 200,
    fail_open: true,
    conntrack: false,
    waiting: 8,
    deadline: Some(Duration::from_secs(9)),
};

/// Columns of the kernel's table of queues: copy mode and copy range.
fn copied(queue: u16) -> Option<(u64, u64)> {
    row(queue).map(|columns| (columns[3], columns[4]))
}

#[test]
fn what_came_before_has_its_verdict_when_a_change_is_done() {
    inside(|| {
        let (queue, pair) = (open(Settings::new(0)), Pair::to(9));
        queue_port(9, 0);
        let texts: Vec<String> = (0..150).map(|number| format!("accept {number}")).collect();
        pair.send(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let handle = queue.start(Obedient::default()).unwrap();
        handle.change(CHANGE).unwrap();
        assert_eq!(handle.counters().accepted, 150);
        assert_eq!(copied(0), Some((2, 200)));
        pair.send(&["accept more"]);
        assert_eq!(pair.receive(151).last().unwrap(), "accept more");
        handle
            .change(Change {
                copy_range: 65_531,
                ..CHANGE
            })
            .unwrap();
        assert_eq!(copied(0), Some((2, 65_531)));
    });
}

#[test]
fn what_no_kernel_takes_changes_nothing() {
    inside(|| {
        let handle = open(Settings::new(0)).start(Obedient::default()).unwrap();
        let before = copied(0);
        let refused = |change| handle.change(change).unwrap_err().to_string();
        assert_eq!(
            refused(Change {
                copy_range: 0,
                ..CHANGE
            }),
            "queue 0: copy range 0: expected 1 to 65531"
        );
        assert_eq!(
            refused(Change { waiting: 64, ..CHANGE }),
            "queue 0: 64 packets may wait: expected fewer than its length, 64"
        );
        assert_eq!(copied(0), before);
    });
}
