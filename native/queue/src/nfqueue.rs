//! The messages of NFQUEUE (`linux/netfilter/nfnetlink_queue.h`). Bytes only: nothing here panics on any input.
//!
//! Numbers inside the attributes are in network byte order.

use std::time::Duration;

use crate::judge::Final;
use crate::netlink::{ACK, Damaged, Message, Writer, attributes, messages};

/// The most bytes of a packet that fit in one attribute: the kernel copies no more.
pub const COPY_LIMIT: u32 = 0xFFFF - 4;

// NFNL_SUBSYS_QUEUE is the upper byte of the message types.
const PACKET: u16 = 3 << 8;
const VERDICT: u16 = PACKET | 1;
const CONFIG: u16 = PACKET | 2;
const VERDICT_BATCH: u16 = PACKET | 3;

/// `NFQA_CFG_F`_*: what a queue can be asked to do.
pub mod flag {
    /// A packet that finds the queue or the socket full is let through.
    pub const FAIL_OPEN: u32 = 1;
    /// What connection tracking knows comes along.
    pub const CONNTRACK: u32 = 2;
    /// Super-packets come whole.
    pub const GSO: u32 = 4;
    /// The user and group of the socket that sent the packet come along.
    pub const UID_GID: u32 = 8;
}

const NFGEN: usize = 4;
const COPY_PACKET: u8 = 2;
const COMMAND_BIND: u8 = 1;
const COMMAND_UNBIND: u8 = 2;
const COMMAND_PF_BIND: u8 = 3;
const CHECKSUM_NOT_READY: u32 = 1;

const CT_INVALID: u8 = 1;
/// `IP_CT_IS_REPLY`.
const CT_INFO_IS_REPLY: u32 = 3;
/// Userspace's `IP_CT_NUMBER`, behind the established, the related and the new of each direction.
const CT_INFO_NUMBER: u32 = 6;

const IPV4: u8 = 2;
const BRIDGE: u8 = 7;
const IPV6: u8 = 10;

mod nfqa {
    pub const PACKET_HDR: u16 = 1;
    pub const VERDICT_HDR: u16 = 2;
    pub const MARK: u16 = 3;
    pub const TIMESTAMP: u16 = 4;
    pub const INDEV: u16 = 5;
    pub const OUTDEV: u16 = 6;
    pub const PHYSINDEV: u16 = 7;
    pub const PHYSOUTDEV: u16 = 8;
    pub const HWADDR: u16 = 9;
    pub const PAYLOAD: u16 = 10;
    pub const CT: u16 = 11;
    pub const CT_INFO: u16 = 12;
    pub const CAP_LEN: u16 = 13;
    pub const SKB_INFO: u16 = 14;
    pub const UID: u16 = 16;
    pub const GID: u16 = 17;
    pub const CTA_MARK: u16 = 8;
}

mod cfg {
    pub const COMMAND: u16 = 1;
    pub const PARAMS: u16 = 2;
    pub const MAXLEN: u16 = 3;
    pub const MASK: u16 = 4;
    pub const FLAGS: u16 = 5;
}

/// What connection tracking knows of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// `NFQA_CT_INFO`: `enum ip_conntrack_info`.
    pub info: u32,
    /// `CTA_MARK`; the kernel leaves out a mark of 0.
    pub mark: u32,
}

/// A packet that waits in the kernel for its verdict. Borrows the message that it came in.
///
/// Interfaces, hardware address, user and group are those that mean something at the hook: the kernel says more (an
/// input packet carries the uid of the socket that is to receive it, postrouting has an input interface).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued<'a> {
    /// Counts up by one for every packet that was to be delivered; 32 bits, which wrap.
    pub id: u32,
    /// NFPROTO_* of the hook that queued it.
    pub family: u8,
    /// `ETH_P`_*, in host byte order.
    pub ethertype: u16,
    /// `NF_INET`_*; the bridge's hooks have the same order.
    pub hook: u8,
    /// The packet's mark; 0 also where it has none.
    pub mark: u32,
    /// Input interface: index, 0 for none.
    pub indev: u32,
    /// Output interface: index, 0 for none.
    pub outdev: u32,
    /// Bridge port that it came in by: index, 0 for none.
    pub physindev: u32,
    /// Bridge port that it goes out by: index, 0 for none.
    pub physoutdev: u32,
    /// Name of `indev`, 1 to 15 bytes. Names are set by the loop, in every packet that a judge sees.
    pub iifname: Option<&'a [u8]>,
    /// Name of `outdev`.
    pub oifname: Option<&'a [u8]>,
    /// Name of `physindev`.
    pub physin: Option<&'a [u8]>,
    /// Name of `physoutdev`.
    pub physout: Option<&'a [u8]>,
    /// The sender's hardware address, at most 8 bytes as they are on the wire.
    pub hwaddr: Option<&'a [u8]>,
    /// Since the epoch, to the microsecond; the kernel gives none on output.
    pub timestamp: Option<Duration>,
    /// Of the local socket that sent it.
    pub uid: Option<u32>,
    /// Of the local socket that sent it.
    pub gid: Option<u32>,
    /// False for a checksum that the network card was to fill in (`NFQA_SKB_CSUMNOTREADY`).
    pub checksum_ready: bool,
    /// Where the kernel was asked for it, and the packet has one.
    pub conntrack: Option<Conntrack>,
    /// Bytes of the packet in the kernel; more than `payload` when the copy was cut.
    pub wire_length: u32,
    /// From the network header on.
    pub payload: &'a [u8],
}

impl Queued<'_> {
    /// `NF_CT_STATE_BIT` of `linux/netfilter/nf_conntrack_common.h`, without a connection `NF_CT_STATE_INVALID_BIT`.
    ///
    /// Packets that are untracked have none either: nfnetlink_queue.c sends `NFQA_CT` and `NFQA_CT_INFO` together, for
    /// what `nf_ct_get` returns, which is NULL for both, and `IP_CT_UNTRACKED` stays in the kernel.
    pub fn ct_state(&self) -> u8 {
        match self.conntrack {
            Some(Conntrack { info, .. }) if info < CT_INFO_NUMBER => 1 << (info % CT_INFO_IS_REPLY + 1),
            _ => CT_INVALID,
        }
    }

    /// Whether the payload may be read as IP. A bridge queues frames of any type, which can be made to look like it.
    pub fn is_ip(&self) -> bool {
        match self.family {
            IPV4 | IPV6 => true,
            BRIDGE => match self.ethertype {
                0x0800 => self.payload.first().is_some_and(|first| first >> 4 == 4),
                0x86DD => self.payload.first().is_some_and(|first| first >> 4 == 6),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Whether the message is a queued packet.
pub fn is_packet(message: &Message<'_>) -> bool {
    message.kind == PACKET
}

/// A queued packet, without the names of its interfaces.
///
/// # Errors
/// For attributes that are cut or of another size than theirs, and without `NFQA_PACKET_HDR`.
pub fn decode<'a>(message: &Message<'a>) -> Result<Queued<'a>, Damaged> {
    let nfgen = message
        .body
        .first_chunk::<NFGEN>()
        .ok_or_else(|| size_of("packet message", message.body, "4 or more"))?;
    let mut packet = Queued {
        family: nfgen[0],
        checksum_ready: true,
        ..Queued::default()
    };
    let (mut header, mut cap_len) = (false, 0);
    let (mut ct_info, mut ct_mark) = (None, 0);
    for attribute in attributes(&message.body[NFGEN..]) {
        let (kind, value) = attribute?;
        match kind {
            nfqa::PACKET_HDR => {
                let [id @ .., high, low, hook] = value
                    .first_chunk::<7>()
                    .ok_or_else(|| size_of("packet header", value, "7"))?;
                packet.id = u32::from_be_bytes(*id);
                packet.ethertype = u16::from_be_bytes([*high, *low]);
                packet.hook = *hook;
                header = true;
            }
            nfqa::MARK => packet.mark = number(value)?,
            nfqa::TIMESTAMP => packet.timestamp = Some(timestamp(value)?),
            nfqa::INDEV => packet.indev = number(value)?,
            nfqa::OUTDEV => packet.outdev = number(value)?,
            nfqa::PHYSINDEV => packet.physindev = number(value)?,
            nfqa::PHYSOUTDEV => packet.physoutdev = number(value)?,
            nfqa::HWADDR => packet.hwaddr = Some(hardware_address(value)?),
            nfqa::PAYLOAD => packet.payload = value,
            nfqa::CT => ct_mark = conntrack_mark(value)?,
            nfqa::CT_INFO => ct_info = Some(number(value)?),
            nfqa::CAP_LEN => cap_len = number(value)?,
            nfqa::SKB_INFO => packet.checksum_ready = number(value)? & CHECKSUM_NOT_READY == 0,
            nfqa::UID => packet.uid = Some(number(value)?),
            nfqa::GID => packet.gid = Some(number(value)?),
            _ => {}
        }
    }
    if !header {
        return Err(size_of("packet message", message.body, "one with its packet header"));
    }
    carry(&mut packet);
    packet.conntrack = ct_info.map(|info| Conntrack { info, mark: ct_mark });
    packet.wire_length = if cap_len == 0 {
        packet.payload.len() as u32
    } else {
        cap_len
    };
    Ok(packet)
}

/// Takes away what means nothing at the hook, by the order of the hooks of `linux/netfilter.h`.
fn carry(packet: &mut Queued<'_>) {
    let (before_routing, after_routing, local_out) = (packet.hook <= 2, packet.hook >= 2, packet.hook >= 3);
    if !before_routing {
        (packet.indev, packet.physindev, packet.hwaddr) = (0, 0, None);
    }
    if !after_routing {
        (packet.outdev, packet.physoutdev) = (0, 0);
    }
    if !local_out {
        (packet.uid, packet.gid) = (None, None);
    }
}

/// The id of a packet whose message is cut or damaged, or `None` when not even that arrived.
pub fn cut_id(datagram: &[u8]) -> Option<u32> {
    const HEADER: usize = 16;
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    // The kernel writes NFQA_PACKET_HDR first; the look ends there, long before the cut.
    let (first, value) = attributes(datagram.get(HEADER + NFGEN..)?).next()?.ok()?;
    let id = value
        .first_chunk()
        .filter(|_| kind == PACKET && first == nfqa::PACKET_HDR)?;
    Some(u32::from_be_bytes(*id))
}

fn size_of(what: &'static str, value: &[u8], expected: &'static str) -> Damaged {
    Damaged {
        what,
        found: value.len() as u64,
        expected,
    }
}

fn number(value: &[u8]) -> Result<u32, Damaged> {
    value
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| size_of("attribute size", value, "4"))
}

fn timestamp(value: &[u8]) -> Result<Duration, Damaged> {
    let wrong = || size_of("timestamp of bytes", value, "16, within the range of times");
    let (seconds, rest) = value.split_first_chunk().ok_or_else(wrong)?;
    let microseconds = rest.try_into().map_err(|_| wrong())?;
    Duration::from_secs(u64::from_be_bytes(*seconds))
        .checked_add(Duration::from_micros(u64::from_be_bytes(microseconds)))
        .ok_or_else(wrong)
}

/// `struct nfqnl_msg_packet_hw`: a length, two bytes of padding, eight of address.
fn hardware_address(value: &[u8]) -> Result<&[u8], Damaged> {
    let ([high, low, _, _], address) = value
        .split_first_chunk()
        .ok_or_else(|| size_of("hardware address", value, "12"))?;
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(8);
    Ok(&address[..length.min(address.len())])
}

fn conntrack_mark(value: &[u8]) -> Result<u32, Damaged> {
    for attribute in attributes(value) {
        let (kind, value) = attribute?;
        if kind == nfqa::CTA_MARK {
            return number(value);
        }
    }
    Ok(0)
}

/// The settings of a queue, see [`bind`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of each packet.
    pub copy_range: u32,
    /// Packets that wait at most.
    pub length: u32,
    /// Of [`flag`]: those that are wanted. The others are taken away.
    pub flags: u32,
}

/// Bind a queue with all its settings, in one message: between two, every packet would be dropped.
/// The kernel answers only to refuse it.
pub fn bind(writer: &mut Writer, queue: u16, config: Config) {
    let request = begin(writer, CONFIG, 0, 0, queue).attribute(cfg::COMMAND, &command(COMMAND_BIND));
    set(request, config);
}

/// Other settings for a queue that is bound. The kernel answers with this sequence number.
pub fn change(writer: &mut Writer, queue: u16, sequence: u32, config: Config) {
    set(begin(writer, CONFIG, ACK, sequence, queue), config);
}

fn set(request: &mut Writer, config: Config) {
    let copy = config.copy_range.to_be_bytes();
    request
        .attribute(cfg::PARAMS, &[copy[0], copy[1], copy[2], copy[3], COPY_PACKET])
        .attribute(cfg::MAXLEN, &config.length.to_be_bytes())
        .attribute(cfg::FLAGS, &config.flags.to_be_bytes())
        .attribute(
            cfg::MASK,
            &(flag::FAIL_OPEN | flag::CONNTRACK | flag::GSO | flag::UID_GID).to_be_bytes(),
        );
}

/// Let go of a queue; the kernel drops what is in it.
pub fn unbind(writer: &mut Writer, queue: u16) {
    begin(writer, CONFIG, 0, 0, queue).attribute(cfg::COMMAND, &command(COMMAND_UNBIND));
}

/// A request that changes nothing (`NFQNL_CFG_CMD_PF_BIND`, obsolete since Linux 3.8): its answer says whether the
/// sender may speak to the subsystem, and whether that is there at all.
pub fn greet(writer: &mut Writer) {
    begin(writer, CONFIG, ACK, 0, 0).attribute(cfg::COMMAND, &command(COMMAND_PF_BIND));
}

/// Ask whether the kernel knows a flag: it looks at flags before it looks for the queue, which nobody needs to hold.
pub fn probe(writer: &mut Writer, flag: u32) {
    begin(writer, CONFIG, ACK, 0, u16::MAX)
        .attribute(cfg::FLAGS, &flag.to_be_bytes())
        .attribute(cfg::MASK, &flag.to_be_bytes());
}

/// One packet's verdict.
pub fn verdict(writer: &mut Writer, sequence: u32, queue: u16, id: u32, decided: Final) {
    write_verdict(writer, VERDICT, sequence, queue, id, decided);
}

/// The verdict of EVERY packet that is in the queue with `id` or an earlier one.
pub fn verdict_batch(writer: &mut Writer, sequence: u32, queue: u16, id: u32, decided: Final) {
    write_verdict(writer, VERDICT_BATCH, sequence, queue, id, decided);
}

fn write_verdict(writer: &mut Writer, kind: u16, sequence: u32, queue: u16, id: u32, decided: Final) {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&decided.value.to_be_bytes());
    header[4..].copy_from_slice(&id.to_be_bytes());
    begin(writer, kind, 0, sequence, queue).attribute(nfqa::VERDICT_HDR, &header);
    if let Some(mark) = decided.mark {
        writer.attribute(nfqa::MARK, &mark.to_be_bytes());
    }
}

fn begin(writer: &mut Writer, kind: u16, flags: u16, sequence: u32, queue: u16) -> &mut Writer {
    let [high, low] = queue.to_be_bytes();
    writer.begin(kind, flags, sequence, &[0, 0, high, low])
}

/// `struct nfqnl_msg_config_cmd`; the protocol family matters to no kernel since 3.8.
fn command(number: u8) -> [u8; 4] {
    [number, 0, 0, IPV4]
}

/// The first message of a datagram that holds a queued packet, decoded; for packets that were kept.
///
/// # Errors
/// See [`decode`]; also without any such message.
pub fn decode_datagram(datagram: &[u8]) -> Result<Queued<'_>, Damaged> {
    for message in messages(datagram) {
        let message = message?;
        if is_packet(&message) {
            return decode(&message);
        }
    }
    Err(size_of("datagram", datagram, "one with a packet"))
}
