//! What a receive brought: packets to judge, the kernel's complaints, and messages that nobody can read.

use std::fmt;

use crate::changes::Requests;
use crate::judge::{Cause, Final, Judge, Judged};
use crate::links::{Known, Names, Unknown};
use crate::mailbox::WAKE;
use crate::netlink::{Damaged, Message, messages};
use crate::nfqueue::{Queued, cut_id, decode, is_packet};
use crate::serve::Serving;
use crate::verdicts::{DOUBTED, Place};

/// The hooks of IP: 0 `NF_INET_PRE_ROUTING` to 4 `NF_INET_POST_ROUTING`.
const HOOKS: u8 = 5;

impl<J: Judge> Serving<J> {
    /// A datagram from the kernel; `cut` when it was longer than that.
    pub(crate) fn take(&mut self, datagram: &[u8], cut: bool, names: &mut Names<'_>) {
        if cut {
            self.counters.truncated.add(1);
            return self.take_unreadable(datagram, &format!("message longer than {} bytes", datagram.len()));
        }
        for message in messages(datagram) {
            match message {
                Ok(message) if is_packet(&message) => self.take_packet(&message, datagram, names),
                Ok(message) => self.take_complaint(&message),
                Err(damaged) => self.take_damaged(datagram, damaged),
            }
        }
    }

    fn take_complaint(&mut self, message: &Message<'_>) {
        match message.errno() {
            Some(errno) if Requests::is_one(message.sequence) => self.mailbox.requests.answer(message.sequence, errno),
            None | Some(0) => {}
            Some(_) if message.sequence == WAKE => {}
            Some(libc::ENOENT) if message.sequence == DOUBTED => {}
            Some(errno) => self.counters.error(errno),
        }
    }

    fn take_damaged(&mut self, datagram: &[u8], damaged: Damaged) {
        self.counters.error(libc::EBADMSG);
        self.take_unreadable(datagram, &damaged.to_string());
    }

    /// The outcome for a packet of which not more than the id is known, if that.
    fn take_unreadable(&mut self, datagram: &[u8], words: &str) {
        self.received();
        let decided = self.judge.fail(Cause::Truncated, None, words);
        if let Some(id) = cut_id(datagram) {
            let place = self.arrive(id);
            self.decide(place, decided);
        } else {
            self.counters.decided(decided);
            self.planner.arrive_unreadable(decided);
        }
    }

    fn arrive(&mut self, id: u32) -> Place {
        let (place, lost) = self.planner.arrive(id);
        if lost > 0 {
            self.counters.lost.add(lost);
        }
        place
    }

    fn take_packet(&mut self, message: &Message<'_>, datagram: &[u8], names: &mut Names<'_>) {
        let mut packet = match decode(message) {
            Ok(packet) => packet,
            Err(damaged) => return self.take_damaged(datagram, damaged),
        };
        self.received();
        let place = self.arrive(packet.id);
        let names = match check(&mut packet, names) {
            Ok(names) => names,
            Err(unfit) => {
                let decided = self.fail_unfit(&packet, &unfit);
                return self.decide(place, decided);
            }
        };
        if !self.waiting.is_empty() {
            match self.judge.flow(&packet) {
                Err(decided) => return self.decide(place, decided),
                Ok(flow) if self.waiting.is_busy(flow) => {
                    return self.hold_behind(&packet, place, flow, datagram, names);
                }
                Ok(_) => {}
            }
        }
        match self.judge.judge(&packet) {
            Judged::Final(decided) => self.decide(place, decided),
            Judged::Wait(suspended) => self.begin_to_wait(&packet, place, suspended, datagram, names),
        }
    }

    /// The outcome for a packet that is not to be judged.
    fn fail_unfit(&mut self, packet: &Queued<'_>, unfit: &Unfit) -> Final {
        let cause = if matches!(unfit, Unfit::Ethertype(_)) {
            Cause::Malformed
        } else {
            Cause::Error
        };
        if let Unfit::Interface(unknown) = unfit
            && let Some(errno) = unknown.fault()
        {
            self.counters.error(errno.raw_os_error());
        }
        // Where one interface has no name, none is set: rules and records cannot tell that from having no interface.
        let whole = matches!(unfit, Unfit::Ethertype(_)).then_some(packet);
        self.judge.fail(cause, whole, &unfit.to_string())
    }
}

/// Why a packet is not to be judged.
enum Unfit {
    Hook(u8),
    Ethertype(u16),
    Interface(Unknown),
}

impl fmt::Display for Unfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(number) => write!(out, "hook {number}: expected one of IP's, 0 to 4"),
            Self::Ethertype(number) => write!(out, "ethertype {number:#06x}: expected an IP packet"),
            Self::Interface(unknown) => unknown.fmt(out),
        }
    }
}

/// Gives a packet the names of its interfaces, when it is one to be judged.
fn check<'a>(packet: &mut Queued<'a>, names: &'a mut Names<'_>) -> Result<&'a Known, Unfit> {
    if packet.hook >= HOOKS {
        return Err(Unfit::Hook(packet.hook));
    }
    if !packet.is_ip() {
        return Err(Unfit::Ethertype(packet.ethertype));
    }
    names.fill(packet).map_err(Unfit::Interface)
}
