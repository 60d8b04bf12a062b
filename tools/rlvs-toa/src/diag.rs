// SPDX-License-Identifier: GPL-2.0

//! Asks sock_diag for the sockets of this network namespace that know a client.
//!
//! The kernel copies what a socket keeps for a map into its listing (INET_DIAG_REQ_SK_BPF_STORAGES, Linux 5.6), so
//! what is shown is what the socket has, and nothing has to be remembered elsewhere.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::sys::socket::{
    recv, sendto, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};

use crate::client::{Client, SIZE};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST, NLM_F_DUMP.
const DUMP: u16 = 0x301;
const NLA_TYPE: u16 = 0x3fff;
const NLA_F_NESTED: u16 = 0x8000;

/// Attributes of the request, and within.
const REQ_SK_BPF_STORAGES: u16 = 2;
const STORAGE_REQ_MAP_FD: u16 = 1;
/// Attributes of an answer, each within the one before.
const SK_BPF_STORAGES: u16 = 20;
const BPF_STORAGE: u16 = 1;
const BPF_STORAGE_MAP_VALUE: u16 = 3;

const HEADER: usize = 16;
/// struct inet_diag_msg.
const DIAG: usize = 72;

/// All states but LISTEN, TIME_WAIT and NEW_SYN_RECV, which have no peer or no socket.
const STATES: u32 = !(1 << 10 | 1 << 6 | 1 << 12);

/// A socket and what it knows.
pub struct Socket {
    pub protocol: u8,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub client: Client,
}

/// The sockets of the caller's network namespace that know a client.
pub fn sockets(clients: BorrowedFd<'_>) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for protocol in [TCP, UDP] {
        for family in [AF_INET, AF_INET6] {
            match dump(clients, protocol, family, &mut found) {
                // Its part of sock_diag is a module that may be missing, as may IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
    }
    Ok(found)
}

fn request(clients: BorrowedFd<'_>, protocol: u8, family: u8) -> Vec<u8> {
    let mut body = vec![family, protocol, 0, 0];
    body.extend(STATES.to_ne_bytes());
    // Any socket.
    body.extend([0; 48]);
    for word in [
        12,
        REQ_SK_BPF_STORAGES | NLA_F_NESTED,
        8,
        STORAGE_REQ_MAP_FD,
    ] {
        body.extend(word.to_ne_bytes());
    }
    body.extend(clients.as_raw_fd().to_ne_bytes());
    let mut message = Vec::new();
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn dump(
    clients: BorrowedFd<'_>,
    protocol: u8,
    family: u8,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(
        netlink.as_raw_fd(),
        &request(clients, protocol, family),
        &kernel,
        MsgFlags::empty(),
    )?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body)) = message(&mut rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = number(body, 0).unwrap_or(0) as i32;
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => found.extend(read(protocol, body)),
            }
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Takes a netlink message: its type and what it has.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (length, kind) = (number(rest, 0)? as usize, half(rest, 4)?);
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body))
}

/// The attribute of a type.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)? & NLA_TYPE);
        let body = rest.get(4..length)?;
        if kind == wanted {
            return Some(body);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// A socket that knows a client; None for one that does not.
fn read(protocol: u8, body: &[u8]) -> Option<Socket> {
    let storages = attribute(body.get(DIAG..)?, SK_BPF_STORAGES)?;
    let value = attribute(attribute(storages, BPF_STORAGE)?, BPF_STORAGE_MAP_VALUE)?;
    let family = body[0];
    let address = |at: usize, port: usize| {
        let addr = &body[at..at + 16];
        let port: [u8; 2] = [body[port], body[port + 1]];
        if family == AF_INET {
            let addr: [u8; 4] = addr[..4].try_into().ok()?;
            return Some(SocketAddr::from((addr, u16::from_be_bytes(port))));
        }
        crate::client::socket_addr(addr, &port)
    };
    Some(Socket {
        protocol,
        local: address(8, 4)?,
        peer: address(24, 6)?,
        client: Client::read(value.get(..SIZE)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute with what it has.
    fn attr(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((body.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn reads_a_socket() {
        let mut body = vec![0; DIAG];
        body[0] = AF_INET;
        body[4..8].copy_from_slice(&[0, 80, 0x4e, 0x20]);
        body[8..12].copy_from_slice(&[10, 0, 0, 11]);
        body[24..28].copy_from_slice(&[10, 0, 0, 101]);
        let mut client = vec![0; 10];
        client.extend([0xff, 0xff, 198, 51, 100, 2, 0x9c, 0x40, 254, 0]);
        // A shutdown byte, as the kernel puts it before.
        let mut known = attr(8, &[0]);
        let mut storage = attr(2, &[1, 0, 0, 0]);
        storage.extend(attr(BPF_STORAGE_MAP_VALUE, &client));
        known.extend(attr(SK_BPF_STORAGES, &attr(BPF_STORAGE, &storage)));
        body.extend(known);
        let socket = read(TCP, &body).unwrap();
        assert_eq!(socket.local.to_string(), "10.0.0.11:80");
        assert_eq!(socket.peer.to_string(), "10.0.0.101:20000");
        assert_eq!(socket.client.addr.to_string(), "198.51.100.2:40000");
    }

    #[test]
    fn others_have_none() {
        let mut body = vec![0; DIAG];
        assert!(read(TCP, &body).is_none());
        body.extend(attr(8, &[0]));
        assert!(read(TCP, &body).is_none());
        body.extend(attr(SK_BPF_STORAGES, &[]));
        assert!(read(TCP, &body).is_none());
        assert!(read(TCP, &body[..50]).is_none());
    }

    #[test]
    fn messages_one_by_one() {
        let mut bytes = Vec::new();
        for (length, kind) in [(17u32, 20u16), (20, NLMSG_DONE)] {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(bytes.len() + 10, 0);
            bytes.extend([7, 0, 0, 0]);
        }
        let mut rest = &bytes[..];
        assert_eq!(message(&mut rest), Some((20, &[7][..])));
        assert_eq!(message(&mut rest), Some((NLMSG_DONE, &[7, 0, 0, 0][..])));
        assert_eq!(message(&mut rest), None);
        // A length that leaves out its own header ends the walk.
        bytes[0] = 3;
        assert_eq!(message(&mut &bytes[..]), None);
    }
}
