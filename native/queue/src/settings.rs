//! How a queue is to be bound.

use std::time::Duration;

use crate::nfqueue::COPY_LIMIT;

const SMALLEST_BUFFER: usize = 8 << 20;
const LARGEST_BUFFER: usize = 32 << 20;

/// What [`crate::Queue::open`] is to ask of the kernel, and how many packets may wait for answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The queue, 0 to 65535.
    pub number: u16,
    /// Packets that the kernel holds for it at most, with or without having told of them.
    pub length: u32,
    /// Bytes of each packet that are copied, from the network header on; at most [`COPY_LIMIT`].
    pub copy_range: u32,
    /// Bytes of the receive buffer; `None` is enough for `length` copies, 8 to 32 MiB.
    pub socket_buffer: Option<usize>,
    /// A packet that finds the queue or the socket full is let through.
    pub fail_open: bool,
    /// What connection tracking knows comes with each packet, where the kernel can say it.
    pub conntrack: bool,
    /// Packets that wait for an answer, or behind one that does, at most. They are among `length`: with as many here,
    /// nothing else would find a place.
    pub waiting: usize,
    /// From a packet's arrival to the end of its waiting; `None` waits for ever.
    pub deadline: Option<Duration>,
    /// The only CPU that the loop runs on; `None` leaves it to the kernel.
    pub cpu: Option<usize>,
}

impl Settings {
    /// The defaults: 1,024 packets of which half may wait, whole copies, nothing let through.
    pub const fn new(number: u16) -> Self {
        Self {
            number,
            length: 1_024,
            copy_range: COPY_LIMIT,
            socket_buffer: None,
            fail_open: false,
            conntrack: false,
            waiting: 512,
            deadline: None,
            cpu: None,
        }
    }

    /// Bytes of the receive buffer to ask for.
    pub(crate) fn buffer(&self) -> usize {
        let fitting = self.length as usize * self.copy_range as usize;
        self.socket_buffer
            .unwrap_or(fitting.clamp(SMALLEST_BUFFER, LARGEST_BUFFER))
    }
}
