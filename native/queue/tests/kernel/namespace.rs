//! A network namespace for one test: its thread lives in it, and its loopback queues what goes to the ports of tests.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qfilter_queue::{Links, Queue, Settings};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a thread with a namespace of its own, or prints why it cannot.
pub fn inside(test: fn()) {
    let outcome = std::thread::spawn(move || enter().map(|()| test())).join();
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => println!("skipped: {reason}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn enter() -> Result<(), String> {
    // SAFETY: takes no memory. Only this thread leaves the namespace, which ends with it and what it starts.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        return Err(format!("unshare: {}", std::io::Error::last_os_error()));
    }
    run("ip link set lo up")?;
    run("iptables-legacy -S OUTPUT")
}

/// Runs a command in the thread's namespace.
pub fn run(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {}", complaint.trim()))
    }
}

/// What goes to that UDP port waits in that queue.
pub fn queue_port(port: u16, queue: u16) {
    run(&format!(
        "iptables-legacy -A OUTPUT -p udp --dport {port} -j NFQUEUE --queue-num {queue}"
    ))
    .unwrap();
}

/// A queue of the thread's namespace.
pub fn open(settings: Settings) -> Queue {
    Queue::open(settings, Arc::new(Links::open().unwrap())).unwrap()
}

/// The kernel's row of a queue: what stands in `/proc/net/netfilter/nfnetlink_queue`.
pub fn row(queue: u16) -> Option<Vec<u64>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue").unwrap();
    table
        .lines()
        .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
        .find(|row: &Vec<u64>| row[0] == u64::from(queue))
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// A sender and a receiver of datagrams over loopback.
pub struct Pair {
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Pair {
    /// To that port of 127.0.0.1.
    pub fn to(port: u16) -> Self {
        let (sender, receiver) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind(("127.0.0.1", port)).unwrap(),
        );
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { sender, receiver }
    }

    /// One datagram for each text.
    pub fn send(&self, texts: &[&str]) {
        for text in texts {
            self.sender.send(text.as_bytes()).unwrap();
        }
    }

    /// The next datagrams, in the order in which they came.
    pub fn receive(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.receive_one().expect("one more datagram"))
            .collect()
    }

    fn receive_one(&self) -> std::io::Result<String> {
        let mut buffer = [0; 2_048];
        loop {
            match self.receiver.recv(&mut buffer) {
                // A receive with a timeout is not restarted by the kernel.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => return Ok(String::from_utf8(buffer[..received?].to_vec()).expect("text")),
            }
        }
    }

    /// Whether nothing has come: to be asked when everything was decided.
    pub fn is_empty(&self) -> bool {
        self.receiver.set_nonblocking(true).unwrap();
        let empty = self
            .receive_one()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        self.receiver.set_nonblocking(false).unwrap();
        empty
    }

    /// Marks of what arrives are not looked at; of what is sent, this is the mark.
    pub fn mark(&self, mark: u32) {
        // SAFETY: SO_MARK takes an u32, which outlives the call.
        let answer = unsafe {
            libc::setsockopt(
                self.sender.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MARK,
                (&raw const mark).cast(),
                size_of_val(&mark) as libc::socklen_t,
            )
        };
        assert_eq!(answer, 0, "SO_MARK: {}", std::io::Error::last_os_error());
    }
}
