// SPDX-License-Identifier: GPL-2.0

//! Addresses and ports as people write them: numbers, names of hosts, names of ports.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    ops::RangeInclusive,
};

use dns_lookup::{getaddrinfo, getnameinfo, AddrInfoHints};

use crate::model::{Family, SCTP, TCP, UDP};

/// How many local addresses one command may name.
const LOCAL_ADDRESSES_MAX: u128 = 4096;

/// Longest `ADDRESS:PORT` that a listing shows.
const SHOWN_MAX: usize = 59;

/// Reads `ADDRESS[:PORT]`, where either may be a name; the port's name is looked up for `protocol`.
///
/// IPv6 addresses stand in brackets, which may be missing if no port follows. A name in brackets is
/// that of a host with an IPv6 address: so a listing with names can be read again.
pub fn parse_endpoint(text: &str, protocol: u16) -> Result<(IpAddr, Option<u16>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return Err("the bracket is not closed: write [ADDRESS]:PORT".to_owned());
        };
        let address = match address.parse::<Ipv6Addr>() {
            Ok(address) => address.into(),
            Err(_) => resolve(address)?
                .into_iter()
                .find(IpAddr::is_ipv6)
                .ok_or_else(|| format!("`{address}' is not an IPv6 address"))?,
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port, protocol)?),
            None if rest.is_empty() => None,
            None => return Err(format!("`{rest}' after the bracket: write [ADDRESS]:PORT")),
        };
        return Ok((address, port));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok((address.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(parse_port(port, protocol)?)),
        None => (text, None),
    };
    Ok((parse_host(host)?, port))
}

/// Reads an address or the name of a host, whose IPv4 address is preferred.
fn parse_host(host: &str) -> Result<IpAddr, String> {
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address.into());
    }
    if host.contains(':') {
        return Err(format!(
            "`{host}' is not an IPv6 address; with a port, write [ADDRESS]:PORT"
        ));
    }
    let addresses = resolve(host)?;
    let preferred = addresses.iter().find(|address| address.is_ipv4());
    match preferred.or(addresses.first()) {
        Some(&address) => Ok(address),
        None => Err(format!("host `{host}' has no address")),
    }
}

/// The addresses of a host.
fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    // A resolver takes a bare number for an address: surely not what was meant.
    if host.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{host}' is not an address: write ADDRESS[:PORT]"));
    }
    let addresses = (host, 0)
        .to_socket_addrs()
        .map_err(|_| format!("`{host}' is neither an address nor the name of a known host"))?;
    Ok(addresses.map(|address| address.ip()).collect())
}

/// Reads the netmask of IPv4 clients in any form that inet_aton knows: it may mask any bits.
pub fn parse_netmask(text: &str) -> Result<Ipv4Addr, String> {
    let unknown = || "not a mask like 255.255.255.0".to_owned();
    // A mask like 0.0.0.24 would be the outcome, and a prefix length is meant.
    if text
        .parse()
        .is_ok_and(|length: u8| (1..=32).contains(&length))
    {
        return Err(unknown());
    }
    let hints = AddrInfoHints {
        flags: libc::AI_NUMERICHOST,
        address: libc::AF_INET,
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(text), None, Some(hints)).map_err(|_| unknown())?;
    let mask = found.flatten().find_map(|info| match info.sockaddr.ip() {
        IpAddr::V4(mask) => Some(mask),
        IpAddr::V6(_) => None,
    });
    mask.ok_or_else(unknown)
}

/// Reads a port number or the name of a port.
fn parse_port(text: &str, protocol: u16) -> Result<u16, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .map_err(|_| format!("port {text} is out of range: 0 to 65535"));
    }
    let unknown = || format!("`{text}' is neither a port number nor a name of /etc/services");
    let (socktype, protocol) = match protocol {
        TCP => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        UDP => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        SCTP => (libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        _ => return Err(unknown()),
    };
    let hints = AddrInfoHints {
        socktype,
        protocol,
        ..AddrInfoHints::default()
    };
    if text.is_empty() {
        return Err("no port after the colon".to_owned());
    }
    let found = getaddrinfo(None, Some(text), Some(hints)).map_err(|_| unknown())?;
    let port = found.flatten().map(|info| info.sockaddr.port()).next();
    port.ok_or_else(unknown)
}

/// How addresses and ports are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As names, where they have one.
    Names,
    /// As numbers.
    Numeric,
}

/// Shows `ADDRESS:PORT`; a port has a name only under a protocol.
pub fn endpoint(address: IpAddr, port: u16, protocol: Option<u16>, style: Style) -> String {
    let (host, port) = match style {
        Style::Numeric => (address.to_string(), port.to_string()),
        Style::Names => (host_name(address), port_name(port, protocol)),
    };
    match address {
        IpAddr::V4(_) => format!("{host}:{port}"),
        IpAddr::V6(_) => format!("[{host}]:{port}"),
    }
}

/// Shows `ADDRESS:PORT`, cut to what a listing has room for.
pub fn short_endpoint(address: IpAddr, port: u16, protocol: Option<u16>, style: Style) -> String {
    let mut text = endpoint(address, port, protocol, style);
    truncate(&mut text, SHOWN_MAX);
    text
}

/// Shows an address.
pub fn host(address: IpAddr, style: Style) -> String {
    match style {
        Style::Numeric => address.to_string(),
        Style::Names => host_name(address),
    }
}

/// Cuts a text to at most `length` bytes.
pub fn truncate(text: &mut String, length: usize) {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

fn host_name(address: IpAddr) -> String {
    match getnameinfo(&SocketAddr::new(address, 0), libc::NI_NUMERICSERV) {
        Ok((name, _)) => name,
        Err(_) => address.to_string(),
    }
}

fn port_name(port: u16, protocol: Option<u16>) -> String {
    let flags = match protocol {
        Some(TCP) => libc::NI_NUMERICHOST,
        Some(UDP) => libc::NI_NUMERICHOST | libc::NI_DGRAM,
        Some(SCTP) => return sctp_port_name(port).unwrap_or_else(|| port.to_string()),
        _ => return port.to_string(),
    };
    match getnameinfo(&SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), flags) {
        Ok((_, name)) => name,
        Err(_) => port.to_string(),
    }
}

/// The name of a port of SCTP, for which the resolver cannot be asked.
fn sctp_port_name(port: u16) -> Option<String> {
    let services = fs::read_to_string("/etc/services").ok()?;
    let wanted = format!("{port}/sctp");
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let name = words.next()?;
        (words.next()? == wanted).then(|| name.to_owned())
    })
}

/// Reads `ADDRESS`, `FIRST-LAST` or `ADDRESS/PREFIX` and gives every address of it.
pub fn parse_local_addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let address = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("`{text}' is not an IP address"))
    };
    let (family, range) = if let Some((base, length)) = text.split_once('/') {
        let base = address(base)?;
        (Family::of(base), prefix_range(base, length)?)
    } else if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (address(first)?, address(last)?);
        if Family::of(first) != Family::of(last) {
            return Err("a range is of one address family".to_owned());
        }
        if last < first {
            return Err(format!(
                "the range ends before it begins: write {last}-{first}"
            ));
        }
        (Family::of(first), number(first)..=number(last))
    } else {
        return Ok(vec![address(text)?]);
    };
    // The difference of two numbers in order fits; one more may not.
    if range.end() - range.start() >= LOCAL_ADDRESSES_MAX {
        return Err(format!(
            "more than {LOCAL_ADDRESSES_MAX} addresses: write a smaller range"
        ));
    }
    Ok(range.map(|number| from_number(number, family)).collect())
}

fn prefix_range(base: IpAddr, length: &str) -> Result<RangeInclusive<u128>, String> {
    let bits = match base {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let length = length
        .parse::<u32>()
        .ok()
        .filter(|&length| length <= bits)
        .ok_or_else(|| format!("a prefix length is a number from 0 to {bits}"))?;
    let hosts = match bits - length {
        128 => u128::MAX,
        host_bits => (1 << host_bits) - 1,
    };
    let first = number(base) & !hosts;
    if first != number(base) {
        let first = from_number(first, Family::of(base));
        return Err(format!(
            "{base}/{length} is no prefix: write {first}/{length}"
        ));
    }
    Ok(first..=first | hosts)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn from_number(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(number as u32).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether ports have names here; a minimal installation lacks them.
    fn ports_have_names() -> bool {
        std::path::Path::new("/etc/services").exists()
    }

    #[test]
    fn addresses_with_and_without_port() {
        let parse = |text| parse_endpoint(text, TCP).unwrap();
        assert_eq!(parse("10.0.0.1:80"), (ip("10.0.0.1"), Some(80)));
        assert_eq!(parse("10.0.0.1"), (ip("10.0.0.1"), None));
        assert_eq!(parse("10.0.0.1:0"), (ip("10.0.0.1"), Some(0)));
        assert_eq!(parse("[2001:db8::1]:80"), (ip("2001:db8::1"), Some(80)));
        assert_eq!(parse("[2001:db8::1]"), (ip("2001:db8::1"), None));
        assert_eq!(parse("2001:db8::1"), (ip("2001:db8::1"), None));
    }

    #[test]
    fn names_of_hosts_and_ports() {
        if !ports_have_names() {
            return;
        }
        assert_eq!(
            parse_endpoint("localhost:http", TCP).unwrap(),
            (ip("127.0.0.1"), Some(80))
        );
        assert_eq!(
            parse_endpoint("10.0.0.1:domain", UDP).unwrap(),
            (ip("10.0.0.1"), Some(53))
        );
        // Known under UDP alone.
        assert!(parse_endpoint("10.0.0.1:tftp", TCP).is_err());
    }

    #[test]
    fn netmasks_are_any_that_inet_aton_reads() {
        let mask = |text| parse_netmask(text).map(|mask| mask.octets());
        assert_eq!(mask("255.255.0.0"), Ok([255, 255, 0, 0]));
        assert_eq!(mask("0.0.0.255"), Ok([0, 0, 0, 255]));
        assert_eq!(mask("0xffffff00"), Ok([255, 255, 255, 0]));
        assert_eq!(mask("0"), Ok([0; 4]));
        for text in ["24", "255.255.256.0", "nonsense", "", "::"] {
            assert!(mask(text).is_err(), "{text}");
        }
    }

    #[test]
    fn short_ipv4_addresses_as_inet_aton_reads_them() {
        assert_eq!(
            parse_endpoint("10.9:80", TCP).unwrap(),
            (ip("10.0.0.9"), Some(80))
        );
        assert_eq!(
            parse_endpoint("0x0a000007:80", TCP).unwrap(),
            (ip("10.0.0.7"), Some(80))
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| parse_endpoint(text, TCP).unwrap_err();
        assert!(error("80").contains("ADDRESS[:PORT]"));
        assert!(error("10.0.0.1:65536").contains("0 to 65535"));
        assert!(error("10.0.0.1:").contains("no port"));
        assert!(error("10.0.0.1:nosuch").contains("/etc/services"));
        assert!(error("[2001:db8::1").contains("not closed"));
        assert!(error("[2001:db8::1]80").contains("[ADDRESS]:PORT"));
        assert!(error("[10.0.0.1]:80").contains("IPv6"));
        assert!(error("2001:db8::x:80").contains("[ADDRESS]:PORT"));
        assert!(error(":80").contains("ADDRESS[:PORT]"));
        assert!(error("").contains("ADDRESS[:PORT]"));
    }

    #[test]
    fn numbers_shown() {
        let v4 = ip("127.0.0.1");
        let v6 = ip("2001:db8::1");
        assert_eq!(endpoint(v4, 80, Some(TCP), Style::Numeric), "127.0.0.1:80");
        assert_eq!(endpoint(v6, 80, None, Style::Numeric), "[2001:db8::1]:80");
    }

    #[test]
    fn names_shown() {
        if !ports_have_names() {
            return;
        }
        let shown = |port, protocol| endpoint(ip("127.0.0.1"), port, protocol, Style::Names);
        assert_eq!(shown(80, Some(TCP)), "localhost:http");
        assert_eq!(shown(69, Some(UDP)), "localhost:tftp");
        // Known under UDP alone.
        assert_eq!(shown(69, Some(TCP)), "localhost:69");
        // A firewall mark has no protocol that a name could belong to.
        assert_eq!(shown(80, None), "localhost:80");
        assert_eq!(shown(5672, Some(SCTP)), "localhost:amqp");
        assert_eq!(shown(80, Some(SCTP)), "localhost:80");
        assert_eq!(shown(0, Some(TCP)), "localhost:0");
    }

    #[test]
    fn local_addresses_expand() {
        let texts = |text: &str| -> Vec<String> {
            let addresses = parse_local_addresses(text).unwrap();
            addresses.iter().map(IpAddr::to_string).collect()
        };
        assert_eq!(texts("10.0.0.1"), ["10.0.0.1"]);
        assert_eq!(
            texts("10.0.0.255-10.0.1.1"),
            ["10.0.0.255", "10.0.1.0", "10.0.1.1"]
        );
        assert_eq!(
            texts("10.0.0.4/30"),
            ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]
        );
        assert_eq!(texts("fd00::f-fd00::10"), ["fd00::f", "fd00::10"]);
        assert_eq!(texts("fd00::2/127"), ["fd00::2", "fd00::3"]);
        assert_eq!(texts("10.0.0.1/32"), ["10.0.0.1"]);
        assert_eq!(parse_local_addresses("10.0.0.0/20").unwrap().len(), 4096);
    }

    #[test]
    fn local_addresses_that_make_no_sense() {
        let error = |text| parse_local_addresses(text).unwrap_err();
        assert!(error("10.0.0.0/19").contains("4096"));
        assert!(error("0.0.0.0/0").contains("4096"));
        assert!(error("::/0").contains("4096"));
        assert!(error("10.0.0.5/30").contains("10.0.0.4/30"));
        assert!(error("10.0.0.0/33").contains("0 to 32"));
        assert!(error("10.0.0.2-10.0.0.1").contains("10.0.0.1-10.0.0.2"));
        assert!(error("10.0.0.1-fd00::1").contains("one address family"));
        assert!(error("10.0.0.1:80").contains("not an IP address"));
        assert!(error("-").contains("not an IP address"));
    }
}
