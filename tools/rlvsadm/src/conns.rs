// SPDX-License-Identifier: GPL-2.0

//! Connections, which the kernel lists in `/proc/net/ip_vs_conn`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    address,
    cli::ConnectionList,
    error::Failure,
    json,
    model::{TCP, UDP},
};

const PATH: &str = "/proc/net/ip_vs_conn";

/// A connection, or the template of a persistent one.
#[derive(Debug, PartialEq, Eq)]
pub struct Connection {
    /// As the kernel writes it: `TCP`, `UDP`, `IP` ...
    pub protocol: String,
    pub state: String,
    /// Seconds until the connection expires.
    pub expires: u32,
    pub client: (IpAddr, u16),
    pub virtual_service: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    /// Name and data of the persistence engine.
    pub engine: Option<(String, String)>,
}

/// Prints the connections.
pub fn list(out: &mut impl Write, list: &ConnectionList) -> Result<(), Failure> {
    let file = File::open(PATH)
        .map_err(|error| Failure::listing(format!("cannot open {PATH}: {error}")))?;
    // The first line names the columns.
    let lines = BufReader::new(file).lines().skip(1);
    let connections = lines.map(|line| {
        let line = line.map_err(|error| Failure::listing(format!("{PATH}: {error}")))?;
        parse(&line)
            .ok_or_else(|| Failure::listing(format!("unexpected input from {PATH}: {line}")))
    });
    if list.json {
        let connections = connections.collect::<Result<Vec<_>, _>>()?;
        return Ok(json::connections(out, &connections)?);
    }
    title(out, list.engines)?;
    for connection in connections {
        print(out, &connection?, list)?;
    }
    Ok(())
}

fn title(out: &mut impl Write, engines: bool) -> io::Result<()> {
    writeln!(out, "IPVS connection entries")?;
    write!(
        out,
        "pro expire {:<11} {:<18} {:<18} ",
        "state", "source", "virtual"
    )?;
    match engines {
        true => writeln!(out, "{:<18} {:<16} pe_data", "destination", "pe name"),
        false => writeln!(out, "destination"),
    }
}

fn print(out: &mut impl Write, connection: &Connection, list: &ConnectionList) -> io::Result<()> {
    let protocol = match connection.protocol.as_str() {
        "TCP" => Some(TCP),
        "UDP" => Some(UDP),
        _ => None,
    };
    let shown = |(address, port)| address::short_endpoint(address, port, protocol, list.style);
    let expires = format!(
        "{:02}:{:02}",
        connection.expires / 60,
        connection.expires % 60
    );
    write!(
        out,
        "{:<3} {expires:<6} {:<11} {:<18} {:<18} ",
        connection.protocol,
        connection.state,
        shown(connection.client),
        shown(connection.virtual_service),
    )?;
    let destination = shown(connection.destination);
    match &connection.engine {
        Some((name, data)) if list.engines => writeln!(out, "{destination:<16} {name:<18} {data}"),
        _ => writeln!(out, "{destination}"),
    }
}

fn parse(line: &str) -> Option<Connection> {
    let mut fields = line.split_ascii_whitespace();
    let protocol = fields.next()?.to_owned();
    let mut endpoint = || {
        let address = parse_address(fields.next()?)?;
        let port = u16::from_str_radix(fields.next()?, 16).ok()?;
        Some((address, port))
    };
    let (client, virtual_service, destination) = (endpoint()?, endpoint()?, endpoint()?);
    let state = fields.next()?.to_owned();
    let expires = fields.next()?.parse().ok()?;
    let engine = fields.next().map(|name| {
        let data = fields.next().unwrap_or_default();
        (name.to_owned(), data.to_owned())
    });
    Some(Connection {
        protocol,
        state,
        expires,
        client,
        virtual_service,
        destination,
        engine,
    })
}

/// IPv4 addresses are eight hexadecimal digits, IPv6 addresses stand in full.
fn parse_address(text: &str) -> Option<IpAddr> {
    match text.contains(':') {
        true => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        false => u32::from_str_radix(text, 16)
            .ok()
            .map(|number| Ipv4Addr::from(number).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Style;

    const LINES: [&str; 3] = [
        "TCP C0A80001 D431 0A000001 0050 0A010001 1F90 ESTABLISHED     899",
        "UDP 2001:0db8:0000:0000:0000:0000:0000:0009 D431 2001:0db8:0000:0000:0000:0000:0000:0001 0035 \
         2001:0db8:0000:0000:0000:0000:0000:0002 0035 UDP             7",
        "UDP C0A80001 13C4 0A000001 13C4 0A010001 13C4 UDP             300 sip 1234@host",
    ];

    fn printed(line: &str, engines: bool) -> String {
        let list = ConnectionList {
            style: Style::Numeric,
            engines,
            json: false,
        };
        let mut out = Vec::new();
        print(&mut out, &parse(line).unwrap(), &list).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn connections_in_columns() {
        assert_eq!(
            printed(LINES[0], false),
            "TCP 14:59  ESTABLISHED 192.168.0.1:54321  10.0.0.1:80        10.1.0.1:8080\n"
        );
        assert_eq!(
            printed(LINES[1], false),
            "UDP 00:07  UDP         [2001:db8::9]:54321 [2001:db8::1]:53   [2001:db8::2]:53\n"
        );
    }

    #[test]
    fn data_of_engines_on_demand() {
        assert_eq!(
            printed(LINES[2], true),
            "UDP 05:00  UDP         192.168.0.1:5060   10.0.0.1:5060      10.1.0.1:5060    \
             sip                1234@host\n"
        );
        assert_eq!(
            printed(LINES[2], false),
            "UDP 05:00  UDP         192.168.0.1:5060   10.0.0.1:5060      10.1.0.1:5060\n"
        );
    }

    #[test]
    fn broken_lines_are_noticed() {
        assert_eq!(parse(""), None);
        assert_eq!(
            parse("TCP C0A80001 D431 0A000001 0050 0A010001 1F90 ESTABLISHED"),
            None
        );
        assert_eq!(
            parse("TCP C0A80001 D431 0A000001 10050 0A010001 1F90 ESTABLISHED 899"),
            None
        );
    }
}
