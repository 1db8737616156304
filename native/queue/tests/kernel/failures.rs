//! What goes wrong: nothing is let through by it, everything is counted, and the loop goes on.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use qfilter_queue::{Links, OpenError, Queue, Settings};

use crate::judge::Obedient;
use crate::namespace::{PATIENCE, Pair, inside, open, queue_port, row, until};

#[test]
fn a_judge_that_panics_fails_its_packet_alone() {
    inside(|| {
        let (queue, pair, judge) = (open(Settings::new(0)), Pair::to(9), Obedient::default());
        queue_port(9, 0);
        let handle = queue.start(judge.clone()).unwrap();
        pair.send(&["accept 1", "nonsense", "accept 2"]);
        assert_eq!(pair.receive(2), ["accept 1", "accept 2"]);
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
        let counters = handle.counters();
        assert_eq!((counters.accepted, counters.dropped, counters.panics), (2, 1, 1));
        assert_eq!(
            (
                counters.failures.map(|(_, count)| count),
                counters.last_failure.as_str()
            ),
            ([0, 0, 1, 0, 0], "no verdict: nonsense")
        );
        assert_eq!(judge.lines()[2], "fail error nonsense no verdict: nonsense");
    });
}

#[test]
fn a_queue_that_is_taken_says_so() {
    inside(|| {
        let links = Arc::new(Links::open().unwrap());
        let held = Queue::open(Settings::new(5), Arc::clone(&links)).unwrap();
        let refused = Queue::open(Settings::new(5), Arc::clone(&links)).err().unwrap();
        assert!(matches!(refused, OpenError::Taken { number: 5 }), "{refused}");
        drop(held);
        until("let go", || row(5).is_none());
        assert!(Queue::open(Settings::new(5), links).is_ok());
    });
}

#[test]
fn the_settings_are_the_kernels() {
    inside(|| {
        let queue = open(Settings {
            copy_range: 200,
            length: 7,
            waiting: 3,
            ..Settings::new(5)
        });
        let row = row(5).unwrap();
        assert_eq!((row[2], row[3], row[4]), (0, 2, 200));
        assert!(queue.warnings().is_empty(), "{:?}", queue.warnings());
        assert!(
            open(Settings {
                conntrack: true,
                fail_open: true,
                ..Settings::new(6)
            })
            .warnings()
            .len()
                <= 1
        );
    });
}

#[test]
fn settings_that_cannot_be_are_named() {
    let refused = |settings| {
        let links = Arc::new(Links::open().unwrap());
        Queue::open(settings, links).err().unwrap().to_string()
    };
    assert_eq!(
        refused(Settings {
            copy_range: 70_000,
            ..Settings::new(3)
        }),
        "queue 3: copy range 70000: expected 1 to 65531"
    );
    assert_eq!(
        refused(Settings {
            waiting: 9,
            length: 9,
            ..Settings::new(3)
        }),
        "queue 3: 9 packets may wait: expected fewer than its length, 9"
    );
}

#[test]
fn a_full_socket_loses_packets_and_says_how_many() {
    inside(|| {
        let settings = Settings {
            socket_buffer: Some(4_096),
            length: 4_000,
            ..Settings::new(0)
        };
        let (queue, pair) = (open(settings), Pair::to(9));
        queue_port(9, 0);
        let texts: Vec<String> = (0..100).map(|number| format!("accept {number}")).collect();
        let send = |texts: &[String]| pair.send(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        send(&texts);
        let dropped = row(0).unwrap()[6];
        assert!(dropped > 0, "{:?}", row(0));
        let handle = queue.start(Obedient::default()).unwrap();
        let came = 100 - dropped as usize;
        assert_eq!(pair.receive(came), texts[..came]);
        // The gap is seen when the next packet comes, and what may be in it is dropped before that is accepted.
        send(&["accept after".to_owned(), "accept last".to_owned()]);
        assert_eq!(pair.receive(2), ["accept after", "accept last"]);
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
        let counters = handle.counters();
        assert_eq!((counters.received, counters.lost), (came as u64 + 2, dropped));
        assert!(counters.errors.is_empty(), "{:?}", counters.errors);
    });
}

#[test]
fn nobody_but_the_kernel_can_send_to_the_socket() {
    inside(|| {
        let queue = open(Settings::new(0));
        let port = row(0).unwrap()[1] as u32;
        // SAFETY: system calls on a descriptor of our own, with memory that outlives them.
        let errno = unsafe {
            let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER);
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            (address.nl_family, address.nl_pid) = (libc::AF_NETLINK as u16, port);
            let (bytes, length) = ([0_u8; 16], size_of_val(&address) as u32);
            let sent = libc::sendto(
                socket,
                bytes.as_ptr().cast(),
                16,
                0,
                (&raw const address).cast(),
                length,
            );
            let errno = std::io::Error::last_os_error().raw_os_error();
            libc::close(socket);
            (sent < 0).then_some(errno).flatten()
        };
        assert_eq!(errno, Some(libc::ECONNREFUSED));
        drop(queue);
    });
}

#[test]
fn a_verdict_that_comes_too_late_is_counted_and_the_loop_goes_on() {
    inside(|| {
        let (queue, pair, judge) = (open(Settings::new(0)), Pair::to(9), Obedient::default());
        queue_port(9, 0);
        let handle = queue.start(judge.clone()).unwrap();
        pair.send(&["a:wait"]);
        until("asked", || judge.ticket("a:wait").is_some());
        // The kernel drops what waits when its interface goes down.
        crate::namespace::run("ip link set lo down").unwrap();
        crate::namespace::run("ip link set lo up").unwrap();
        assert_eq!(row(0).unwrap()[2], 0);
        handle
            .answers()
            .give([(judge.ticket("a:wait").unwrap(), "accept".to_owned())])
            .unwrap();
        until("counted", || handle.counters().errors.get(&libc::ENOENT) == Some(&1));
        pair.send(&["b:accept"]);
        assert_eq!(pair.receive(1), ["b:accept"]);
        handle.stop(PATIENCE).unwrap();
        handle.join().unwrap();
    });
}

#[test]
fn a_socket_that_is_gone_ends_the_loop_with_its_error() {
    inside(|| {
        let (queue, pair) = (open(Settings::new(0)), Pair::to(9));
        queue_port(9, 0);
        let handle = queue.start(Obedient::default()).unwrap();
        let nothing = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the descriptor stays valid, and its owner's; it only stands for another file.
        assert!(unsafe { libc::dup2(nothing.as_raw_fd(), descriptor_of(row(0).unwrap()[1])) } >= 0);
        // Where the loop is in a receive from the socket that was, its packet still comes, but no verdict goes out.
        pair.send(&["accept"]);
        until("ended", || handle.failure().is_some());
        assert_eq!(
            handle.join().unwrap_err().to_string(),
            "read queue 0: Socket operation on non-socket (os error 88)"
        );
        assert_eq!(
            handle.failure().unwrap().to_string(),
            handle.join().unwrap_err().to_string()
        );
        assert!(pair.is_empty(), "the kernel dropped it when the socket closed");
    });
}

/// The descriptor of this process's netlink socket with that port id.
fn descriptor_of(port: u64) -> i32 {
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let row = table
        .lines()
        .map(columns)
        .find(|row| row[1] == "12" && row[2] == port.to_string())
        .unwrap();
    let link = format!("socket:[{}]", row.last().unwrap());
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let found =
        entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str()));
    found.last().unwrap().file_name().to_string_lossy().parse().unwrap()
}
