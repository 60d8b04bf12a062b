// SPDX-License-Identifier: GPL-2.0

//! The IP header of either family, and what differs between them.

use super::checksum::Delta;
use super::icmp;
use super::Error;
use crate::flow::Address;

/// An IP header's fields, and where the transport header is.
///
/// # Invariants
///
/// [`Ip::MIN_LEN`]` <= header_len`; for IPv4 it is at most 60 and a multiple of 4, for IPv6 a multiple
/// of 4 or more than the packet has. `total_len >= header_len` for IPv4, `>= 40` for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<A> {
    /// Length of the header with its options or extension headers, in bytes: the transport header
    /// follows.
    pub header_len: usize,
    /// Length of the packet, header included, in bytes.
    pub total_len: u32,
    /// Whether fragmenting is forbidden; always so for IPv6.
    pub dont_fragment: bool,
    /// Whether this is a fragment that is not the last.
    pub more_fragments: bool,
    /// Where the fragment belongs, in units of 8 bytes.
    pub fragment_offset: u16,
    /// Hops left: TTL or hop limit.
    pub hops: u8,
    /// Type of service or traffic class: DSCP and ECN.
    pub tos: u8,
    /// The transport protocol.
    pub proto: u8,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
}

impl<A> Header<A> {
    /// Whether the packet is only a part of one.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// A family of the internet protocol, named by its addresses.
pub trait Ip: Address {
    /// Length of a header without options and extensions, in bytes.
    const MIN_LEN: usize;
    /// No link takes less than packets of that length, in bytes.
    const LEAST_MTU: u32;
    /// The number of its ICMP.
    const ICMP: u8;
    /// Whether the header has a checksum of its own. ICMP then covers no pseudo header.
    const HEADER_CHECKSUM: bool;
    /// Length of the TOA option that carries an address, in bytes.
    const TOA_LEN: u8;
    /// That option.
    type Toa: AsRef<[u8]>;

    /// Reads the header of a packet that the device handed over as `len` bytes.
    ///
    /// Of IPv4 only the fixed part needs to be in the slice, of IPv6 all that stands before the
    /// transport header. A packet longer than its length field can tell has 0 there: then
    /// `total_len` is `len`. With `len` 0 the field is taken at its word.
    fn parse(bytes: &[u8], len: usize) -> Result<Header<Self>, Error>;

    /// Sets both addresses of the header at the start of `packet`, and its checksum if it has one;
    /// returns what that is to a pseudo header. `None`, and nothing changed, if there is no header.
    fn set_addresses(packet: &mut [u8], src: Self, dst: Self) -> Option<Delta>;

    /// The addresses of the header at the start of `packet`.
    fn addresses(packet: &[u8]) -> Option<(Self, Self)>;

    /// The header of a packet of `len` bytes, if there is nothing unusual about it: no options, no
    /// fragment, hops left, and the length in it right.
    fn ordinary(packet: &[u8], len: usize) -> Option<Header<Self>>;

    /// Whether the packet may be an ICMP message; that one of IPv6 is, is not known before its extension
    /// headers are read.
    fn may_be_icmp(packet: &[u8]) -> bool;

    /// Sets the length of the packet, header included, and the header's checksum.
    /// [`Error::NoRoom`], and nothing changed, if the field cannot hold it.
    fn set_total_len(packet: &mut [u8], total_len: usize) -> Result<(), Error>;

    /// Takes one hop from the packet, and updates the header's checksum.
    ///
    /// [`Error::Expired`] if that hop would be the last one: the packet must not be forwarded.
    fn decrement_hops(packet: &mut [u8]) -> Result<(), Error>;

    /// Writes the header's checksum anew, if it has one and options, which the kernel edits on the way
    /// leaving the checksum for later.
    fn refresh_checksum(packet: &mut [u8], header_len: usize);

    /// Whether ICMP messages of that type are errors that quote a packet and may belong to a connection.
    fn is_icmp_error(kind: u8) -> bool;

    /// The MTU of the next hop, if the error is about that; 0 from routers older than RFC 1191.
    fn next_hop_mtu(icmp: &icmp::Header) -> Option<u32>;

    /// Writes another MTU into an error that is about one; returns what that is to its checksum.
    fn set_next_hop_mtu(icmp: &mut [u8; icmp::LEN], mtu: u32) -> Delta;

    /// The TOA option of a client.
    fn toa(kind: u8, addr: Self, port: u16) -> Self::Toa;
}
