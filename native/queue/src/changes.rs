//! Other settings for a queue that is served.

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
    /// From a packet's arrival to the end of its waiting, of packets that begin to wait from now on, and of those that
    /// they stand behind.
    pub deadline: Option<Duration>,
}

/// `nlmsg_seq` of the first such request: nothing else here counts so far.
const FIRST: u32 = 1 << 16;
/// After how long a request is made again: where the socket is full, its answer is lost.
const AGAIN: Duration = Duration::from_millis(50);
/// How long an answer may take: it stands behind all packets on the socket, 65,536 perhaps, and each may take a
/// millisecond to judge.
const PATIENCE: Duration = Duration::from_secs(65);

/// The kernel's answers to requests that other threads have made on the loop's socket, as the loop reads them.
///
/// They come in order: when one is here, every packet that was queued before has been judged, or waits.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Of those who want to make one: an answer to one is nobody else's.
    turn: Mutex<()>,
    made: Mutex<Made>,
    answered: Condvar,
}

/// One request, made once or more.
#[derive(Debug)]
struct Made {
    first: u32,
    last: u32,
    answer: Option<i32>,
}

impl Default for Requests {
    fn default() -> Self {
        let made = Made {
            first: FIRST,
            last: FIRST,
            answer: None,
        };
        Self {
            turn: Mutex::default(),
            made: Mutex::new(made),
            answered: Condvar::default(),
        }
    }
}

impl Requests {
    /// Whether an answer is to one of these requests.
    pub fn is_one(sequence: u32) -> bool {
        sequence >= FIRST
    }

    /// By the loop: an answer came.
    pub fn answer(&self, sequence: u32, errno: i32) {
        let mut made = self.made();
        if (made.first..=made.last).contains(&sequence) {
            made.answer = Some(errno);
            self.answered.notify_all();
        }
    }

    /// Makes a request, again and again, until any of them is answered: they are all the same.
    pub fn make(&self, send: impl Fn(u32) -> Result<(), Errno>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.begin();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            send(self.next())?;
            match self.wait() {
                Some(0) => return Ok(()),
                Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                None => {}
            }
        }
        let words = format!("no answer in {PATIENCE:?}, the kernel may have the settings or not");
        Err(io::Error::new(io::ErrorKind::TimedOut, words))
    }

    fn begin(&self) {
        let mut made = self.made();
        made.first = made.last.checked_add(1).unwrap_or(FIRST);
        made.answer = None;
    }

    fn next(&self) -> u32 {
        let mut made = self.made();
        made.last = made.last.checked_add(1).unwrap_or(FIRST);
        made.last
    }

    fn wait(&self) -> Option<i32> {
        let waited = self
            .answered
            .wait_timeout_while(self.made(), AGAIN, |made| made.answer.is_none());
        let (made, _) = waited.unwrap_or_else(PoisonError::into_inner);
        made.answer
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Makes a request; `reply` says of its first, second ... making which sequence is answered now, and by what.
    fn make(requests: &Requests, reply: impl Fn(&[u32]) -> Option<(u32, i32)>) -> (Vec<u32>, io::Result<()>) {
        let sent = RefCell::<Vec<u32>>::default();
        let made = requests.make(|sequence| {
            sent.borrow_mut().push(sequence);
            if let Some((sequence, errno)) = reply(&sent.borrow()) {
                requests.answer(sequence, errno);
            }
            Ok(())
        });
        (sent.into_inner(), made)
    }

    #[test]
    fn a_late_answer_to_the_first_making_counts() {
        let requests = Requests::default();
        let (sent, made) = make(&requests, |sent| (sent.len() == 3).then_some((sent[0], 0)));
        made.unwrap();
        assert_eq!(sent.len(), 3, "made again while none came");
        let (_, refused) = make(&requests, |sent| (sent.len() == 2).then_some((sent[0], libc::EPERM)));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn an_answer_to_another_request_does_not_count() {
        let requests = Requests::default();
        let (earlier, made) = make(&requests, |sent| Some((sent[0], 0)));
        made.unwrap();
        let (sent, made) = make(&requests, |sent| match sent.len() {
            1 => Some((earlier[0], libc::EPERM)),
            _ => Some((sent[1], 0)),
        });
        made.unwrap();
        assert_eq!(sent.len(), 2);
    }
}
