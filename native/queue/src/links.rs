//! Interface names by index (linux/rtnetlink.h), kept true by the kernel's own notices in a thread of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use rustix::io::Errno;

use crate::error::OpenError;
use crate::netlink::{ACK, DONE, DUMP, INTERRUPTED, Message, NOOP, Writer, attributes, messages, native_u32};
use crate::nfqueue::Queued;
use crate::socket::{Slots, Socket, block_signals, run_first};

const RTMGRP_LINK: u32 = 1;
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const IFINFO: usize = 16;
const IFLA_IFNAME: u16 = 3;
const AF_UNSPEC: u8 = 0;
const LARGEST: usize = 64 << 10;

/// Names by index; a few to some thousands, of which a packet needs two.
type Table = Vec<(u32, Box<[u8]>)>;

/// The interfaces of a network namespace. An index that has just come has its name at once, an interface that is
/// renamed as soon as its notice is read: some packets may still have the earlier name.
pub struct Links {
    shared: Arc<Shared>,
    /// To ask for one interface at once.
    direct: Mutex<(Socket, Slots)>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    notices: Socket,
    table: ArcSwap<Table>,
    stopping: AtomicBool,
}

/// An index whose name the kernel does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    index: u32,
    errno: Errno,
}

impl Unknown {
    /// Why it could not be asked; `None` where it was, and no interface has the index.
    pub fn fault(self) -> Option<Errno> {
        (self.errno != Errno::NODEV).then_some(self.errno)
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "interface index {}: ", self.index)?;
        match self.fault() {
            None => out.write_str("no such interface"),
            Some(errno) => errno.fmt(out),
        }
    }
}

impl Links {
    /// The interfaces of the calling thread's network namespace, for any number of queues.
    ///
    /// # Errors
    /// When the kernel gives no socket, or no list.
    pub fn open() -> Result<Self, OpenError> {
        let refused = |errno: Errno| OpenError::refused("list interfaces", errno);
        let shared = Arc::new(Shared {
            notices: Socket::open(None, RTMGRP_LINK).map_err(refused)?,
            table: ArcSwap::default(),
            stopping: AtomicBool::new(false),
        });
        let direct = Mutex::new((Socket::open(None, 0).map_err(refused)?, Slots::new(LARGEST)));
        let mut watch = Watch::start(Arc::clone(&shared)).map_err(refused)?;
        let thread = std::thread::Builder::new().name("qfilter-links".into()).spawn(move || {
            block_signals();
            // On a busy machine packets would be judged by a name that is no longer true; where it is refused they may.
            let _ = run_first();
            watch.run();
        });
        let thread = thread.map_err(|error| OpenError::refused("start a thread", error))?;
        Ok(Self {
            shared,
            direct,
            thread: Some(thread),
        })
    }

    pub(crate) fn names(&self) -> Names<'_> {
        Names {
            links: self,
            known: Known(self.shared.table.load_full()),
        }
    }

    /// Asks the kernel for one interface: it may have come a moment ago, its notice still unread.
    fn ask(&self, index: u32) -> Result<Box<[u8]>, Errno> {
        let (socket, slots) = &mut *self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        let mut request = Writer::default();
        // What may be left of an earlier request is about another index.
        request.begin(GETLINK, 0, index, &ifinfo(index));
        socket.send(request.bytes())?;
        socket.receive(slots, false)?;
        let answers = slots.datagrams().flat_map(|(datagram, _)| messages(datagram)).flatten();
        let answer = answers.filter(|message| message.sequence == index).last();
        let answer = answer.ok_or(Errno::BADMSG)?;
        match (link(&answer), answer.errno()) {
            (Some((NEWLINK, found, Some(name))), _) if found == index => Ok(name.into()),
            (_, Some(errno)) if errno != 0 => Err(Errno::from_raw_os_error(errno)),
            _ => Err(Errno::BADMSG),
        }
    }
}

#[cfg(test)]
impl Links {
    /// From now on one interface is asked for over that socket.
    pub(crate) fn ask_over(&self, socket: Socket) {
        self.direct.lock().unwrap().0 = socket;
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let mut request = Writer::default();
        request.begin(NOOP, ACK, 0, &[]);
        // Without the answer the thread ends at the next notice; to wait for that would be to wait for ever.
        if self.shared.notices.send(request.bytes()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// The names as they were at one moment.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<Table>);

impl Known {
    /// Gives a packet those of its interfaces that are known.
    pub fn give<'a>(&'a self, packet: &mut Queued<'a>) {
        packet.iifname = self.get(packet.indev);
        packet.oifname = self.get(packet.outdev);
        packet.physin = self.get(packet.physindev);
        packet.physout = self.get(packet.physoutdev);
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        if index == 0 {
            return None;
        }
        let place = self.0.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.0[place].1)
    }

    fn with(&self, index: u32, name: Box<[u8]>) -> Self {
        let mut table = Table::clone(&self.0);
        table.push((index, name));
        table.sort_unstable();
        Self(Arc::new(table))
    }
}

/// The names for a batch of packets.
pub(crate) struct Names<'l> {
    links: &'l Links,
    known: Known,
}

impl Names<'_> {
    /// From now on as they are now.
    pub fn reload(&mut self) {
        let now = self.links.shared.table.load();
        if !Arc::ptr_eq(&now, &self.known.0) {
            self.known = Known(Arc::clone(&now));
        }
    }

    /// Gives a packet the names of its interfaces, and returns where they are. No system call, unless one is new.
    pub fn fill<'a>(&'a mut self, packet: &mut Queued<'a>) -> Result<&'a Known, Unknown> {
        for index in [packet.indev, packet.outdev, packet.physindev, packet.physoutdev] {
            if index != 0 && self.known.get(index).is_none() {
                self.learn(index)?;
            }
        }
        self.known.give(packet);
        Ok(&self.known)
    }

    /// In this copy alone: the notice that is on its way changes the one of all.
    fn learn(&mut self, index: u32) -> Result<(), Unknown> {
        let name = self.links.ask(index).map_err(|errno| Unknown { index, errno })?;
        self.known = self.known.with(index, name);
        Ok(())
    }
}

/// Follows the notices, in a thread of its own.
struct Watch {
    shared: Arc<Shared>,
    slots: Slots,
    known: BTreeMap<u32, Box<[u8]>>,
    /// A list was asked for and has not ended.
    listing: bool,
    /// Notices were lost since then.
    lost: bool,
}

impl Watch {
    /// Returns with the first list.
    fn start(shared: Arc<Shared>) -> Result<Self, Errno> {
        let mut watch = Self {
            shared,
            slots: Slots::new(LARGEST),
            known: BTreeMap::new(),
            listing: false,
            lost: false,
        };
        watch.list()?;
        while watch.listing {
            watch.receive()?;
        }
        Ok(watch)
    }

    fn run(&mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            if self.receive().is_err() {
                // What is not kept true may not be used: every name is asked for from now on.
                self.shared.table.store(Arc::default());
                return;
            }
        }
    }

    fn list(&mut self) -> Result<(), Errno> {
        let mut request = Writer::default();
        request.begin(GETLINK, DUMP, 0, &ifinfo(0));
        self.shared.notices.send(request.bytes())?;
        self.known.clear();
        (self.listing, self.lost) = (true, false);
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Errno> {
        match self.shared.notices.receive(&mut self.slots, true) {
            Err(Errno::INTR) => return Ok(()),
            Err(Errno::NOBUFS) => self.lost = true,
            received => received?,
        }
        for (datagram, cut) in self.slots.datagrams() {
            self.lost |= cut;
            for message in messages(datagram) {
                let Ok(message) = message else {
                    self.lost = true;
                    continue;
                };
                self.lost |= message.flags & INTERRUPTED != 0;
                match message.errno() {
                    None if message.kind == DONE => self.listing = false,
                    None => take(&mut self.known, &message),
                    Some(0) => {}
                    Some(errno) => return Err(Errno::from_raw_os_error(errno)),
                }
            }
        }
        // Two lists at once are refused.
        if self.lost && !self.listing {
            self.list()?;
        }
        if !self.listing {
            let table: Table = self.known.iter().map(|(index, name)| (*index, name.clone())).collect();
            self.shared.table.store(Arc::new(table));
        }
        Ok(())
    }
}

fn take(known: &mut BTreeMap<u32, Box<[u8]>>, message: &Message<'_>) {
    match link(message) {
        Some((NEWLINK, index, Some(name))) => drop(known.insert(index, name.into())),
        Some((DELLINK, index, _)) => drop(known.remove(&index)),
        _ => {}
    }
}

/// What a notice says: its type, the interface's index, and its name.
fn link<'a>(message: &Message<'a>) -> Option<(u16, u32, Option<&'a [u8]>)> {
    let family = message
        .body
        .first()
        .filter(|_| matches!(message.kind, NEWLINK | DELLINK))?;
    // A bridge says DELLINK, with its own family, when a port leaves it: the interface itself lives on.
    if *family != AF_UNSPEC {
        return None;
    }
    let name = attributes(message.body.get(IFINFO..)?).find_map(|attribute| match attribute {
        Ok((IFLA_IFNAME, name)) => Some(name.strip_suffix(&[0]).unwrap_or(name)),
        _ => None,
    });
    Some((message.kind, native_u32(message.body, 4)?, name))
}

/// `struct ifinfomsg` of one interface, or of all.
fn ifinfo(index: u32) -> [u8; IFINFO] {
    let mut body = [0; IFINFO];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}
