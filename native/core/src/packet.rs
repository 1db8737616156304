//! One packet as a queue, a capture or a caller hands it over: bytes, and what the kernel knows about them.

/// A netfilter hook: its number is `NF_INET_*` of linux/netfilter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "netfilter's own names")]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Every hook, by number.
pub const HOOKS: [Hook; 5] = [
    Hook::Prerouting,
    Hook::Input,
    Hook::Forward,
    Hook::Output,
    Hook::Postrouting,
];

impl Hook {
    /// The hook of a number, 0 to 4.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        HOOKS.get(usize::from(number)).copied()
    }

    /// Its name, as in nftables.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["prerouting", "input", "forward", "output", "postrouting"][self as usize]
    }
}

/// An IP family; its number is `NFPROTO_*` of linux/netfilter.h, which is the value of the field `family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    Ipv4 = 2,
    Ipv6 = 10,
}

/// A packet from its network header on, with the metadata of the hook where it was seen. See `qfilter/model/packet.py`.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// From the first byte of the IP header, as far as it was captured.
    pub data: &'a [u8],
    /// Where it was seen.
    pub hook: Hook,
    /// Bytes of the packet in the kernel, at least `data.len()`.
    pub wire_length: u64,
    /// Input interface.
    pub iifname: Option<&'a [u8]>,
    /// Output interface.
    pub oifname: Option<&'a [u8]>,
    /// Bridge port that it came in by.
    pub physin: Option<&'a [u8]>,
    /// Bridge port that it leaves by.
    pub physout: Option<&'a [u8]>,
    /// `skb->mark`.
    pub mark: u32,
    /// User id of the socket.
    pub uid: Option<u32>,
    /// Group id of the socket.
    pub gid: Option<u32>,
    /// One of the `NF_CT_STATE_*` bits of `linux/netfilter/nf_conntrack_common.h`.
    pub ct_state: Option<u8>,
    /// Mark of its connection.
    pub ct_mark: Option<u32>,
    /// Source link-layer address as text, `02:00:5e:00:53:01`.
    pub hwaddr: Option<&'a [u8]>,
    /// Seconds since the epoch.
    pub timestamp: Option<f64>,
    /// False when a checksum is still to be filled in (`NFQA_SKB_CSUMNOTREADY`).
    pub checksum_ready: bool,
}

impl<'a> Packet<'a> {
    /// A whole packet of which nothing else is known.
    #[inline]
    #[must_use]
    pub fn new(data: &'a [u8], hook: Hook) -> Self {
        Self {
            data,
            hook,
            wire_length: data.len() as u64,
            iifname: None,
            oifname: None,
            physin: None,
            physout: None,
            mark: 0,
            uid: None,
            gid: None,
            ct_state: None,
            ct_mark: None,
            hwaddr: None,
            timestamp: None,
            checksum_ready: true,
        }
    }
}
