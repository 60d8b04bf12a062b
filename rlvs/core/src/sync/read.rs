// SPDX-License-Identifier: GPL-2.0

//! Reading messages. Whatever the bytes, it ends, and what it tells is in range.

use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use super::flag;
use super::param;
use super::state;
use super::About;
use super::Entry;
use super::Found;
use super::Version;
use super::TYPE_V6;
use crate::uapi::method;

/// Why there is no entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// It makes no sense, or is not for us; the next one may.
    Entry,
    /// Nothing behind it can be found.
    Rest,
}

/// A message: an iterator over its entries.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    version: Version,
    syncid: u8,
    left: u8,
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    /// The message that a datagram holds; `None` if it is none.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (&[first, syncid, high, low], rest) = datagram.split_first_chunk()?;
        if usize::from(u16::from_be_bytes([high, low])) != datagram.len() {
            return None;
        }
        let (version, left, rest) = match rest.split_first_chunk() {
            Some((&[count, 1, 0, 0], rest)) if first == 0 => (Version::V1, count, rest),
            _ => (Version::V0, first, rest),
        };
        Some(Self {
            version,
            syncid,
            left,
            rest,
        })
    }

    /// The number of who has sent it.
    pub fn syncid(&self) -> u8 {
        self.syncid
    }

    fn next_v1(&mut self) -> Result<Entry<'a>, Unfit> {
        // No entry is shorter than those of IPv4.
        let (head, _) = V4::split(self.rest).ok_or(Unfit::Rest)?;
        let size = u16::from_be_bytes(head.size);
        if size >> 12 != 0 {
            return Err(Unfit::Rest);
        }
        let size = usize::from(size);
        let (entry, behind) = self.rest.split_at_checked(size).ok_or(Unfit::Rest)?;
        // The next one is aligned.
        self.rest = behind.get(size.wrapping_neg() & 3..).unwrap_or(&[]);
        match head.kind {
            kind if kind & TYPE_V6 != 0 => {
                entry_v1::<16>(entry, |addr| Ipv6Addr::from(addr).into())
            }
            0 => entry_v1::<4>(entry, |addr| Ipv4Addr::from(addr).into()),
            _ => Err(Unfit::Rest),
        }
    }

    fn next_v0(&mut self) -> Result<Entry<'a>, Unfit> {
        let mut take = Take(self.rest);
        let entry = (|| {
            let [_, proto] = take.chunk()?;
            let ports = [take.be16()?, take.be16()?, take.be16()?];
            let addrs: [[u8; 4]; 3] = [take.chunk()?, take.chunk()?, take.chunk()?];
            let (flags, state) = (u32::from(take.be16()?), take.be16()?);
            if flags & flag::SEQ_MASK != 0 {
                take.chunk::<{ param::SEQ_LEN }>()?;
            }
            Some((proto, ports, addrs, flags, state))
        })();
        let (proto, ports, addrs, flags, state) = entry.ok_or(Unfit::Rest)?;
        self.rest = take.0;
        let [client, service, server] = addrs.map(|addr| Ipv4Addr::from(addr).into());
        let [client_port, service_port, server_port] = ports;
        Ok(Entry {
            about: about(flags, proto, state).ok_or(Unfit::Entry)?,
            flags,
            proto,
            client: (client, client_port),
            service: (service, service_port),
            server: (server, server_port),
            mark: 0,
            timeout: 0,
            found: None,
        })
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Result<Entry<'a>, Unfit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let entry = match self.version {
            Version::V0 => self.next_v0(),
            Version::V1 => self.next_v1(),
        };
        if entry == Err(Unfit::Rest) {
            self.left = 0;
        }
        Some(entry)
    }
}

/// What is left of some bytes.
struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn be16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn be32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }
}

/// An entry of version 1 without its parameters, whose addresses have `N` bytes.
struct Fixed<const N: usize> {
    kind: u8,
    proto: u8,
    size: [u8; 2],
    flags: u32,
    state: u16,
    ports: [u16; 3],
    mark: u32,
    timeout: u32,
    addrs: [[u8; N]; 3],
}

type V4 = Fixed<4>;

impl<const N: usize> Fixed<N> {
    /// The entry that stands first, and what is behind it.
    fn split(bytes: &[u8]) -> Option<(Self, Take<'_>)> {
        let mut take = Take(bytes);
        let [kind, proto] = take.chunk()?;
        let this = Self {
            kind,
            proto,
            size: take.chunk()?,
            flags: take.be32()?,
            state: take.be16()?,
            ports: [take.be16()?, take.be16()?, take.be16()?],
            mark: take.be32()?,
            timeout: take.be32()?,
            addrs: [take.chunk()?, take.chunk()?, take.chunk()?],
        };
        Some((this, take))
    }
}

/// All of an entry.
fn entry_v1<const N: usize>(
    bytes: &[u8],
    addr: impl FnMut([u8; N]) -> IpAddr,
) -> Result<Entry<'_>, Unfit> {
    let (fixed, params) = Fixed::<N>::split(bytes).ok_or(Unfit::Rest)?;
    let found = found(params)?;
    let [client, service, server] = fixed.addrs.map(addr);
    let [client_port, service_port, server_port] = fixed.ports;
    Ok(Entry {
        about: about(fixed.flags, fixed.proto, fixed.state).ok_or(Unfit::Entry)?,
        flags: fixed.flags,
        proto: fixed.proto,
        client: (client, client_port),
        service: (service, service_port),
        server: (server, server_port),
        mark: fixed.mark,
        timeout: fixed.timeout,
        found,
    })
}

/// What the parameters of an entry tell. Padding behind the last one is not part of the entry.
fn found(mut rest: Take<'_>) -> Result<Option<Found<'_>>, Unfit> {
    let (mut seq, mut data, mut engine) = (None, None, None);
    while !rest.0.is_empty() {
        let [kind, len] = rest.chunk().ok_or(Unfit::Rest)?;
        let value = rest.slice(len.into()).ok_or(Unfit::Rest)?;
        if value.is_empty() {
            return Err(Unfit::Rest);
        }
        // Where it goes, and how long it may be.
        let (place, fits) = match kind & !param::OPTIONAL {
            param::SEQ => (&mut seq, value.len() == param::SEQ_LEN),
            param::PE_DATA => (&mut data, true),
            param::PE_NAME => (&mut engine, value.len() <= param::PE_NAME_MAX),
            _ if kind & param::OPTIONAL != 0 => continue,
            _ => return Err(Unfit::Entry),
        };
        if !fits || place.replace(value).is_some() {
            return Err(Unfit::Rest);
        }
    }
    match (data, engine) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(Unfit::Entry),
        (Some(data), Some(engine)) => Ok(Some(Found { engine, data })),
    }
}

/// What an entry is about, if there is such a thing. Clients that are still awaited and single packets
/// are not.
fn about(flags: u32, proto: u8, number: u16) -> Option<About> {
    let alone = flags & (flag::ONE_PACKET | flag::NO_CLIENT_PORT) != 0;
    let known = flags & method::MASK <= method::BYPASS;
    if alone || !known {
        None
    } else if flags & flag::TEMPLATE == 0 {
        state(proto, number).map(About::Conn)
    } else {
        match number {
            0 => Some(About::Template(false)),
            1 => Some(About::Template(true)),
            _ => None,
        }
    }
}
