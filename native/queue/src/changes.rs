//! Other settings for a queue that is served.

use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// Settings that may change while a queue is served, see [`crate::Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Packets that the kernel holds at most.
    pub length: u32,
    /// Bytes of each packet that are copied.
    pub copy_range: u32,
    /// A packet that finds the queue or the socket full is let through.
    pub fail_open: bool,
    /// What connection tracking knows comes with each packet.
    pub conntrack: bool,
    /// Packets that wait for an answer at most; those that wait already go on doing so.
    pub waiting: usize,
    /// From a packet's arrival to the end of its waiting, of packets that begin to wait from now on.
    pub deadline: Option<Duration>,
}

/// `nlmsg_seq` of the first such request: nothing else here counts so far.
const FIRST: u32 = 1 << 16;
/// How long one request may take before it is made again: its answer is lost where the socket is full.
const AGAIN: Duration = Duration::from_millis(50);
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel's answers to requests that other threads have made on the loop's socket, as the loop reads them.
///
/// They come in order: when one is here, every packet that was queued before has been judged, or waits.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Of those who want to make one: what came too late for one is taken for nobody else's.
    turn: Mutex<()>,
    made: Mutex<Made>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Made {
    next: u32,
    answers: HashMap<u32, i32>,
}

impl Requests {
    /// Whether an answer is to one of these requests.
    pub fn is_one(sequence: u32) -> bool {
        sequence >= FIRST
    }

    /// By the loop: an answer came.
    pub fn answer(&self, sequence: u32, errno: i32) {
        self.made().answers.insert(sequence, errno);
        self.answered.notify_all();
    }

    /// Makes a request, again and again, until it is answered.
    pub fn make(&self, send: impl Fn(u32) -> Result<(), Errno>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let sequence = self.begin();
            send(sequence)?;
            if let Some(errno) = self.wait(sequence) {
                return if errno == 0 {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(errno))
                };
            }
        }
        Err(Errno::TIMEDOUT.into())
    }

    fn begin(&self) -> u32 {
        let mut made = self.made();
        // What came too late for those before is of no use.
        made.answers.clear();
        made.next = made.next.wrapping_add(1) % (u32::MAX - FIRST);
        FIRST + made.next
    }

    fn wait(&self, sequence: u32) -> Option<i32> {
        let waited = self
            .answered
            .wait_timeout_while(self.made(), AGAIN, |made| !made.answers.contains_key(&sequence));
        let (mut made, _) = waited.unwrap_or_else(PoisonError::into_inner);
        made.answers.remove(&sequence)
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
