// SPDX-License-Identifier: GPL-2.0

//! Live connections, and who really is behind each.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    net::SocketAddr,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::PathBuf,
    thread,
    time::Duration,
};

use libbpf_rs::{MapCore, MapFlags};
use nix::sched::{setns, CloneFlags};
use serde::Serialize;

use crate::{
    attach,
    client::{as_text, socket_addr, Client, Source},
    diag::{self, Socket},
    error::{Doing, Failure},
};

/// A line of the listing.
#[derive(Serialize)]
struct Row {
    protocol: &'static str,
    /// Unknown for the datagrams of a socket that has many peers.
    #[serde(serialize_with = "maybe")]
    local: Option<SocketAddr>,
    /// The balancer's local address.
    #[serde(serialize_with = "as_text")]
    peer: SocketAddr,
    #[serde(serialize_with = "as_text")]
    client: SocketAddr,
    source: Source,
    kind: u8,
    /// The inode of the network namespace; none for datagrams.
    netns: Option<u64>,
}

fn maybe<S: serde::Serializer>(
    addr: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match addr {
        Some(addr) => as_text(addr, serializer),
        None => serializer.serialize_none(),
    }
}

/// Prints the connections; forever if there is an interval.
pub fn run(json: bool, every: Option<Duration>, out: &mut impl Write) -> Result<(), Failure> {
    loop {
        if attach::attached()?.is_none() {
            return Err(Failure("nothing is attached".into()));
        }
        let rows = rows()?;
        let text = if json {
            let mut text = serde_json::to_string(&rows).doing("JSON")?;
            text.push('\n');
            text
        } else {
            table(&rows)
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .doing("standard output")?;
        let Some(every) = every else {
            return Ok(());
        };
        thread::sleep(every);
    }
}

fn table(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        [
            row.local.map_or("*".into(), |addr| addr.to_string()),
            row.peer.to_string(),
            row.client.to_string(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(|row| (row, cells(row))).collect();
    let mut wide = ["local", "balancer", "client"].map(str::len);
    for (_, cells) in &rows {
        for (width, cell) in wide.iter_mut().zip(cells) {
            *width = cell.len().max(*width);
        }
    }
    let [a, b, c] = wide;
    let mut text = format!(
        "     {:<a$}  {:<b$}  {:<c$}  told by\n",
        "local", "balancer", "client"
    );
    for (row, [local, peer, client]) in rows {
        text += &format!(
            "{}  {local:<a$}  {peer:<b$}  {client:<c$}  {}\n",
            row.protocol, row.source
        );
    }
    text
}

fn rows() -> Result<Vec<Row>, Failure> {
    let clients = attach::map("clients")?;
    let mut rows = Vec::new();
    for (netns, file) in namespaces()? {
        // A thread of its own: whoever asks stays where he is.
        let sockets = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                if let Some(file) = file {
                    setns(file, CloneFlags::CLONE_NEWNET)?;
                }
                diag::sockets(clients.as_fd())
            });
            asking
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
        });
        rows.extend(
            sockets
                .doing("sock_diag")?
                .into_iter()
                .map(|socket| row(socket, netns)),
        );
    }
    rows.extend(datagrams());
    Ok(rows)
}

fn row(socket: Socket, netns: u64) -> Row {
    Row {
        protocol: if socket.protocol == diag::UDP {
            "udp"
        } else {
            "tcp"
        },
        local: Some(socket.local),
        peer: socket.peer,
        client: socket.client.addr,
        source: socket.client.source,
        kind: socket.client.kind,
        netns: Some(netns),
    }
}

/// The network namespaces that processes are in or that have a name, each once and ours first; ours needs no file.
fn namespaces() -> Result<Vec<(u64, Option<File>)>, Failure> {
    let ours = fs::metadata("/proc/self/ns/net")
        .doing("/proc/self/ns/net")?
        .ino();
    let mut seen = HashSet::from([ours]);
    let mut found = vec![(ours, None)];
    let processes = entries("/proc").map(|path| path.join("ns/net"));
    for path in processes.chain(entries("/run/netns")) {
        // Processes end, and some are not ours to look at.
        let Ok(file) = File::open(path) else {
            continue;
        };
        let Ok(metadata) = file.metadata() else {
            continue;
        };
        if seen.insert(metadata.ino()) {
            found.push((metadata.ino(), Some(file)));
        }
    }
    Ok(found)
}

fn entries(dir: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// The UDP flows that the programs remember.
fn datagrams() -> Vec<Row> {
    let Ok(flows) = attach::map("udp_flows") else {
        return Vec::new();
    };
    let row = |key: Vec<u8>| {
        // The flow may be forgotten meanwhile.
        let value = flows.lookup(&key, MapFlags::ANY).ok()??;
        let client = Client::read(&value)?;
        Some(Row {
            protocol: "udp",
            local: None,
            peer: socket_addr(key.get(8..24)?, key.get(24..26)?)?,
            client: client.addr,
            source: client.source,
            kind: client.kind,
            netns: None,
        })
    };
    flows.keys().filter_map(row).collect()
}
