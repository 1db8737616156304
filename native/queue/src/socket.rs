//! A netlink socket, and the slots that it receives into. All system calls of the crate, and all that is unsafe.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sockopt};

/// Datagrams in one receive.
const VECTOR: usize = 64;
const CACHE_LINE: usize = 64;

/// A socket that only the kernel can send to. Any thread may send while one receives.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A socket of a `NETLINK_*` protocol (`None` is `NETLINK_ROUTE`, 0) in the thread's network namespace, closed on exec, member of the multicast
    /// `groups`.
    pub fn open(protocol: Option<Protocol>, groups: u32) -> Result<Self, Errno> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        // Whoever has CAP_NET_ADMIN can send to any port id. A connected socket refuses what does not come from its
        // peer, which is the kernel.
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(fd))
    }

    /// Sends messages. The kernel deals with them, and answers, before the call returns.
    pub fn send(&self, messages: &[u8]) -> Result<(), Errno> {
        loop {
            match rustix::net::send(&self.0, messages, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// Waits until there is something to receive, or `until`; an interrupted wait ends early.
    pub fn wait(&self, until: Instant) -> Result<(), Errno> {
        let left = until.saturating_duration_since(Instant::now());
        // A time that no kernel takes is as good as the longest.
        let timeout = Timespec::try_from(left.min(Duration::from_secs(1 << 30))).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// After an overrun the socket goes on delivering what it still holds, instead of failing with ENOBUFS.
    pub fn never_refuse(&self) -> io::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: the option takes an int; the kernel reads `size_of_val(&on)` bytes of `on`, which outlives the call.
        let answer = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_NO_ENOBUFS,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if answer < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Asks for a receive buffer of that many bytes, above `net.core.rmem_max` where allowed; returns what it got.
    pub fn resize(&self, wanted: usize) -> Result<usize, Errno> {
        match sockopt::set_socket_recv_buffer_size_force(&self.0, wanted) {
            Err(Errno::PERM) => sockopt::set_socket_recv_buffer_size(&self.0, wanted)?,
            forced => forced?,
        }
        // The kernel doubles what it is asked for, for its own bookkeeping, and says the doubled number.
        Ok(sockopt::socket_recv_buffer_size(&self.0)? / 2)
    }

    /// Fills slots with what is there; EAGAIN when that is nothing, unless it is to wait for the first.
    pub fn receive(&self, slots: &mut Slots, wait: bool) -> Result<(), Errno> {
        self.receive_some(
            slots,
            VECTOR,
            if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT },
        )
    }

    /// Fills the first slot with what comes next, and leaves it in the socket. Does not wait.
    pub fn peek(&self, slots: &mut Slots) -> Result<(), Errno> {
        self.receive_some(slots, 1, libc::MSG_DONTWAIT | libc::MSG_PEEK)
    }

    fn receive_some(&self, slots: &mut Slots, count: usize, flags: libc::c_int) -> Result<(), Errno> {
        slots.filled = 0;
        // SAFETY: there are VECTOR >= count headers. Each names one iovec that lives as long as `slots`, and that one
        // a stride of `slots.memory` that no other names; nothing else borrows it while `slots` is borrowed here. The
        // kernel writes there, and lengths and flags in the headers. No timeout is given.
        let received = unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                slots.headers.as_mut_ptr(),
                count as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        slots.filled = usize::try_from(received).map_err(|_| last_errno())?;
        Ok(())
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Room for [`VECTOR`] datagrams, allocated once. Pages that no datagram reached cost nothing.
pub(crate) struct Slots {
    // Held by pointer: a box would claim, whenever it is moved, that nobody else points to its bytes.
    memory: *mut [u8],
    stride: usize,
    headers: Box<[libc::mmsghdr]>,
    // Only the kernel reads them, through the headers.
    iovecs: *mut [libc::iovec],
    filled: usize,
}

// SAFETY: every pointer inside is to memory that the slots own alone, and that no thread is tied to.
unsafe impl Send for Slots {}

impl Slots {
    /// For datagrams of at most `largest` bytes; longer ones are cut.
    pub fn new(largest: usize) -> Self {
        // An odd number of cache lines: else the headers of all packets would share a few sets of the cache.
        let stride = (largest.div_ceil(CACHE_LINE) | 1) * CACHE_LINE;
        let memory = Box::into_raw(vec![0; stride * VECTOR].into_boxed_slice());
        let slots = (0..VECTOR).map(|slot| libc::iovec {
            // SAFETY: slot < VECTOR, so that the stride from there on is inside the allocation.
            iov_base: unsafe { memory.cast::<u8>().add(slot * stride) }.cast(),
            iov_len: stride,
        });
        let iovecs = Box::into_raw(slots.collect());
        let headers = (0..VECTOR).map(|slot| {
            // SAFETY: all-zero bytes are a valid mmsghdr: integers, and pointers that may be null.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            // SAFETY: slot < VECTOR, the number of iovecs.
            header.msg_hdr.msg_iov = unsafe { iovecs.cast::<libc::iovec>().add(slot) };
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        Self {
            memory,
            stride,
            headers: headers.collect(),
            iovecs,
            filled: 0,
        }
    }

    /// The datagrams of the last receive, and whether each was cut.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.headers[..self.filled].iter().enumerate().map(|(slot, header)| {
            let length = self.stride.min(header.msg_len as usize);
            // SAFETY: slot < VECTOR and length <= stride, so that the bytes are inside the allocation, which began as
            // zeros. Only `receive_some` lets anybody write there, and it borrows the slots mutably.
            let bytes = unsafe { std::slice::from_raw_parts(self.memory.cast::<u8>().add(slot * self.stride), length) };
            (bytes, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0)
        })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: both came from `Box::into_raw` in `new`, and are given back here alone.
        unsafe {
            drop(Box::from_raw(self.memory));
            drop(Box::from_raw(self.iovecs));
        }
    }
}

/// Let the kernel give signals to other threads: whoever handles them may wait in one of those.
pub(crate) fn block_signals() {
    // SAFETY: `all` is a signal set that sigfillset initialises before it is read; the old set is not asked for.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// The calling thread runs before all that have no real-time priority (sched(7)): for work that is short and rare.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE`.
pub(crate) fn run_first() -> Result<(), Errno> {
    // SAFETY: all-zero bytes are a valid sched_param: integers. The kernel reads it before the call returns.
    let answer = unsafe {
        let mut lowest: libc::sched_param = std::mem::zeroed();
        lowest.sched_priority = 1;
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest)
    };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The calling thread runs on that CPU alone.
pub(crate) fn pin(cpu: usize) -> Result<(), Errno> {
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(Errno::INVAL);
    }
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
}
