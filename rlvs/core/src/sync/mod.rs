// SPDX-License-Identifier: GPL-2.0

//! Synchronisation: what a director tells others of its connections, in mainline's messages.
//!
//! A *master* multicasts messages, a *backup* takes over what they tell. A message is a datagram with a
//! header and *entries*, each about one connection or one template. There are two formats: version 1,
//! and the one of old, version 0, which has no IPv6, no marks and no timeouts.
//!
//! Format: `net/netfilter/ipvs/ip_vs_sync.c`. Numbers of more than a byte are in network order.

mod due;
mod read;
mod write;

use core::net::IpAddr;
use core::net::Ipv4Addr;

pub use self::due::Ledger;
pub use self::due::Rules;
pub use self::read::Message;
pub use self::read::Unfit;
pub use self::write::append;
pub use self::write::start;
pub use self::write::HEADER_MAX;

use crate::proto::State;
use crate::wire::IPPROTO_SCTP;
use crate::wire::IPPROTO_TCP;
use crate::wire::IPPROTO_UDP;

/// The group of who listens, unless another one was chosen.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 81);
/// The first port there; others follow it.
pub const PORT: u16 = 8848;
/// The most ports there are.
pub const PORTS_MAX: u32 = 64;

/// Flags of an entry, as messages have them; the low bits are a [method](crate::uapi::method).
pub mod flag {
    #![allow(missing_docs)]
    /// The real server's packets do not pass the director.
    pub const NO_OUTPUT: u32 = 0x80;
    /// It does not count as active.
    pub const INACTIVE: u32 = 0x100;
    /// Sequence numbers are translated.
    pub const SEQ_MASK: u32 = 0x600;
    /// The client's port is not known yet.
    pub const NO_CLIENT_PORT: u32 = 0x800;
    pub const TEMPLATE: u32 = 0x1000;
    /// It is for a single packet.
    pub const ONE_PACKET: u32 = 0x2000;
}

/// The bit of an entry's type that says IPv6.
const TYPE_V6: u8 = 1;

/// What may follow an entry of version 1: a type, a length, and so many bytes.
mod param {
    /// How sequence numbers are translated; in version 0 a part of the entry.
    pub(super) const SEQ: u8 = 1;
    pub(super) const PE_DATA: u8 = 2;
    pub(super) const PE_NAME: u8 = 3;
    /// In the type: who does not know the parameter can do without.
    pub(super) const OPTIONAL: u8 = 0x40;
    /// Length of the first.
    pub(super) const SEQ_LEN: usize = 24;
    /// Greatest length of the last.
    pub(super) const PE_NAME_MAX: usize = 16;
}

/// A format of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// The one of old.
    V0,
    /// The present one.
    V1,
}

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// A connection in a state.
    Conn(State),
    /// A template; whether a connection of its was established.
    Template(bool),
}

/// What a persistence engine has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The engine's name.
    pub engine: &'a [u8],
    /// What it is; not empty.
    pub data: &'a [u8],
}

/// An entry. Ports are in host order, addresses of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// What it is about.
    pub about: About,
    /// [`flag`]s and the method; that of a template is told by [`Entry::about`].
    pub flags: u32,
    /// The transport protocol; 0 of a template for a mark.
    pub proto: u8,
    /// Who asks; a template has no port.
    pub client: (IpAddr, u16),
    /// What for; of a template for a mark the address begins with it.
    pub service: (IpAddr, u16),
    /// Who is to answer.
    pub server: (IpAddr, u16),
    /// The firewall mark that names the service; 0 is none.
    pub mark: u32,
    /// How long it lasts from now on, in seconds; 0 does not tell.
    pub timeout: u32,
    /// Of a template, what it was found by besides.
    pub found: Option<Found<'a>>,
}

/// How many states of TCP, UDP and SCTP messages know.
const TCP_STATES: u16 = 11;
const SCTP_STATES: u16 = 14;

/// The state that a message tells by a number; `None` if the protocol has no such state.
fn state(proto: u8, number: u16) -> Option<State> {
    let first = match (proto, number) {
        (IPPROTO_TCP, 0..TCP_STATES) => State::None,
        (IPPROTO_UDP, 0) => State::Udp,
        (IPPROTO_SCTP, 0..SCTP_STATES) => State::SctpNone,
        _ => return None,
    };
    let number = u8::try_from(number).ok()?;
    Some(State::from_u8((first as u8).checked_add(number)?))
}

/// The number of a state in messages.
fn number(state: State) -> u16 {
    let first = match state as u8 {
        number if number >= State::SctpNone as u8 => State::SctpNone,
        number if number >= State::Udp as u8 => State::Udp,
        _ => State::None,
    };
    u16::from((state as u8).saturating_sub(first as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_mainlines_numbers() {
        for (proto, states) in [
            (IPPROTO_TCP, 0..=10),
            (IPPROTO_UDP, 11..=11),
            (IPPROTO_SCTP, 12..=25),
        ] {
            for (told, byte) in states.enumerate() {
                let known = State::from_u8(byte);
                assert_eq!(usize::from(number(known)), told);
                assert_eq!(state(proto, told as u16), Some(known));
            }
        }
        assert_eq!(number(State::Established), 1);
        assert_eq!(number(State::SctpEstablished), 8);
    }

    #[test]
    fn no_protocol_has_the_states_of_another() {
        for (proto, number) in [
            (6, 11),
            (17, 1),
            (132, 14),
            (6, 256),
            (50, 0),
            (0, 0),
            (6, 65535),
        ] {
            assert_eq!(state(proto, number), None, "{proto} {number}");
        }
    }
}
