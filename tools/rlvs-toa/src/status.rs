// SPDX-License-Identifier: GPL-2.0

//! What is attached, and what it has counted.

use std::io::Write;

use libbpf_rs::{MapCore, MapFlags};
use serde::Serialize;

use crate::{
    attach,
    config::Config,
    error::{Doing, Failure},
};

/// `enum counter' of bpf/common.h: the name in JSON, and what is counted, in words.
const COUNTERS: &[(&str, &str)] = &[
    ("connections", "connections from balancers"),
    ("options_syn", "of these, told by the SYN"),
    ("options_ack", "by the handshake's ACK"),
    ("options_data", "by data"),
    ("strangers", "options of strangers, not believed"),
    ("no_memory", "clients lost for want of memory"),
    ("addresses", "addresses handed to applications"),
    (
        "other_family",
        "that could not be: the socket is IPv4, the client IPv6",
    ),
    ("udp_options", "datagrams that told a client"),
    ("udp_strangers", "datagrams of strangers, not believed"),
    ("udp_unwrapped", "datagrams unwrapped from protocol 248"),
    ("udp_received", "datagrams received from a client"),
    ("udp_sent", "datagrams sent to a client"),
];

#[derive(Serialize)]
struct Status {
    attached: bool,
    links: usize,
    config: Option<Config>,
    counters: serde_json::Map<String, serde_json::Value>,
    /// Connections from balancers that did not tell the client, or not yet.
    without: u64,
}

fn counted() -> Result<Vec<u64>, Failure> {
    let map = attach::map("counters")?;
    let sum = |number: usize| {
        let key = (number as u32).to_ne_bytes();
        let processors = map.lookup_percpu(&key, MapFlags::ANY).doing("counters")?;
        let values = processors.unwrap_or_default();
        let value = |bytes: &Vec<u8>| {
            bytes
                .as_slice()
                .try_into()
                .map(u64::from_ne_bytes)
                .unwrap_or_default()
        };
        Ok(values.iter().map(value).fold(0, u64::wrapping_add))
    };
    (0..COUNTERS.len()).map(sum).collect()
}

/// Connections whose balancer has told nothing.
fn without(counted: &[u64]) -> u64 {
    let Some((opened, told)) = counted.split_first() else {
        return 0;
    };
    let told = told.iter().take(3).sum();
    opened.saturating_sub(told)
}

fn list<T: ToString>(values: &[T], none: &str) -> String {
    if values.is_empty() {
        return none.into();
    }
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    values.join(" ")
}

/// Prints it; false if nothing is attached.
pub fn print(json: bool, out: &mut impl Write) -> Result<bool, Failure> {
    let config = attach::attached()?;
    let counted = if config.is_some() {
        counted()?
    } else {
        Vec::new()
    };
    let attached = config.is_some();
    let text = if json {
        let names = COUNTERS.iter().map(|(name, _)| name.to_string());
        let status = Status {
            attached,
            links: attach::links(),
            config,
            without: without(&counted),
            counters: names
                .zip(counted.iter().map(|&value| value.into()))
                .collect(),
        };
        serde_json::to_string(&status).doing("JSON")? + "\n"
    } else {
        match config {
            None => "nothing is attached\n".into(),
            Some(config) => table(&config, &counted),
        }
    };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .doing("standard output")?;
    Ok(attached)
}

fn table(config: &Config, counted: &[u64]) -> String {
    let mut text = format!(
        "attached to     {} ({} links)\nbelieves        {}\noption kinds    {}, and RFC 6994's form with {:#06x}\nTCP ports       {}\nUDP             {}\n\n",
        list(&config.cgroups, "-"),
        attach::links(),
        list(&config.from, "-"),
        list(&config.kinds, "-"),
        config.exid,
        list(&config.ports, "all"),
        if config.udp { list(&config.devices, "yes") } else { "no".into() },
    );
    for (number, (&value, (_, words))) in counted.iter().zip(COUNTERS).enumerate() {
        if !config.udp && words.contains("datagram") {
            continue;
        }
        text += &format!("{value:>12}  {words}\n");
        if number == 3 {
            text += &format!("{:>12}  not told, or not yet\n", without(counted));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_told() {
        assert_eq!(without(&[10, 1, 2, 3, 99, 99]), 4);
        assert_eq!(without(&[10, 1, 2, 8]), 0);
        assert_eq!(without(&[]), 0);
    }

    #[test]
    fn every_counter_has_a_name() {
        let header = include_str!("../bpf/common.h");
        let body = header.split("enum counter {").nth(1).unwrap();
        let body = body.split("COUNTERS,").next().unwrap();
        let name = |line: &str| Some(line.trim().split_once(',')?.0.to_lowercase());
        let names: Vec<_> = body.lines().filter_map(name).collect();
        let ours: Vec<_> = COUNTERS.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ours);
    }
}
