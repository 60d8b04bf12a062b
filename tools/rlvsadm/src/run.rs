// SPDX-License-Identifier: GPL-2.0

//! Carries out what a command line asked for.

use std::{
    io::{ErrorKind, Write},
    net::{IpAddr, UdpSocket},
};

use rlvs_core::uapi::method;

use crate::{
    address::Style,
    cli::{Action, List},
    conns,
    error::{Failure, Object},
    json,
    kernel::{Change, Kernel},
    list,
    model::{Destination, LocalAddress, Service, ServiceId},
    netlink, save, sort,
};

const NO_LOCAL_ADDRESSES: &str =
    "the loaded module is ip_vs, which has no local addresses: unload it and load rlvs";
const NO_FULLNAT: &str =
    "the loaded module is ip_vs, which has no FullNAT: unload it and load rlvs";

/// Carries out one action.
pub fn execute(kernel: &mut Kernel, action: Action, out: &mut impl Write) -> Result<(), Failure> {
    let about = |object| move |error| Failure::from_kernel(object, error);
    match action {
        Action::ChangeService(change, service) => kernel
            .change_service(change, &service)
            .map_err(about(Object::Service)),
        // Mainline's module would take the method, and drop what should go there.
        Action::ChangeDestination(_, _, destination, _)
            if destination.method == method::FULLNAT && !kernel.is_rlvs() =>
        {
            Err(Failure::usage(NO_FULLNAT))
        }
        Action::ChangeDestination(change, id, destination, unused) => {
            kernel
                .change_destination(change, &id, &destination)
                .map_err(about(Object::Destination))?;
            if let Some(port) = unused {
                eprintln!("{}", port_not_used(&id, &destination, port));
            }
            Ok(())
        }
        Action::ChangeLocalAddresses(change, id, addresses) => {
            change_local_addresses(kernel, change, &id, &addresses)
        }
        Action::Clear => kernel.flush().map_err(about(Object::Service)),
        Action::Zero(id) => kernel.zero(id.as_ref()).map_err(about(Object::Service)),
        Action::SetTimeouts(timeouts) => kernel
            .set_timeouts(timeouts)
            .map_err(about(Object::Service)),
        Action::StartDaemon(daemon) => kernel.start_daemon(&daemon).map_err(about(Object::Daemon)),
        Action::StopDaemon(daemon) => kernel.stop_daemon(&daemon).map_err(about(Object::Daemon)),
        Action::List(list) => list_services(kernel, &list, out),
        Action::ListConnections(list) => conns::list(out, &list),
        Action::ListTimeouts { json } => list_timeouts(kernel, json, out),
        Action::ListDaemons { json } => list_daemons(kernel, json, out),
        Action::ListLocalAddresses(list) => list_local_addresses(kernel, &list, out),
        Action::Save(style) => save_all(kernel, style, out),
    }
}

/// The failure of a listing, which has a status of its own.
fn listing(error: netlink::Error) -> Failure {
    let failure = Failure::from_kernel(Object::Service, error);
    match failure.status {
        crate::error::REFUSED => Failure::listing(failure.text),
        _ => failure,
    }
}

/// What an operator who gave a real server a port of its own should know, though nothing is wrong.
fn port_not_used(id: &ServiceId, destination: &Destination, port: u16) -> String {
    let how = match destination.method {
        method::TUNNEL => "by tunnel (-i)",
        _ => "by direct routing (-g, the default)",
    };
    let asked = match *id {
        ServiceId::Address { port, .. } if port != 0 => format!("port {port}"),
        _ => "the port".to_owned(),
    };
    format!(
        "warning: port {port} is not used: {how} packets arrive unchanged, at {asked}, which the \
         client asked for; another port takes -m or --fullnat"
    )
}

/// Adds or deletes all the addresses, or none.
fn change_local_addresses(
    kernel: &mut Kernel,
    change: Change,
    id: &ServiceId,
    addresses: &[IpAddr],
) -> Result<(), Failure> {
    if !kernel.is_rlvs() {
        return Err(Failure::usage(NO_LOCAL_ADDRESSES));
    }
    for (index, &address) in addresses.iter().enumerate() {
        let Err(error) = kernel.change_local_address(change, id, address) else {
            continue;
        };
        let undo = match change {
            Change::Delete => Change::Add,
            Change::Add | Change::Edit => Change::Delete,
        };
        for &changed in &addresses[..index] {
            // There is nothing better to do about a failure here than to tell the first one.
            let _ = kernel.change_local_address(undo, id, changed);
        }
        let mut failure = Failure::from_kernel(Object::LocalAddress, error);
        if addresses.len() > 1 {
            failure.text = format!("{address}: {}; nothing was changed", failure.text);
        }
        return Err(failure);
    }
    if change == Change::Add {
        warn_of_foreign(addresses);
    }
    Ok(())
}

/// Warns of local addresses that this machine does not have: replies would go elsewhere.
fn warn_of_foreign(addresses: &[IpAddr]) {
    let foreign = |address: &&IpAddr| {
        let bound = UdpSocket::bind((**address, 0));
        bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
    };
    let mut foreign = addresses.iter().filter(foreign);
    let Some(first) = foreign.next() else {
        return;
    };
    let others = match foreign.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    eprintln!(
        "warning: this machine does not have the address {first}{others} (yet): \
         until it has, replies do not come back to it"
    );
}

/// The services that a listing is about, in its order.
fn services(kernel: &mut Kernel, list: &List) -> Result<Vec<Service>, Failure> {
    let services = match &list.service {
        Some(id) => kernel.service(id).map(|service| vec![service]),
        None => kernel.services(),
    };
    let services = services.map_err(listing)?;
    Ok(match list.sorted {
        true => sort::services(services),
        false => services,
    })
}

fn destinations(
    kernel: &mut Kernel,
    id: &ServiceId,
    sorted: bool,
) -> Result<Vec<Destination>, Failure> {
    let destinations = kernel.destinations(id).map_err(listing)?;
    Ok(match sorted {
        true => sort::destinations(destinations),
        false => destinations,
    })
}

fn list_services(kernel: &mut Kernel, list: &List, out: &mut impl Write) -> Result<(), Failure> {
    let info = kernel.info().map_err(listing)?;
    let services = services(kernel, list)?;
    if list.json {
        let mut entries = Vec::with_capacity(services.len());
        for service in services {
            let destinations = destinations(kernel, &service.id, list.sorted)?;
            entries.push((service, destinations));
        }
        return Ok(json::services(out, &info, entries)?);
    }
    if list.service.is_none() {
        list::banner(out, &info)?;
    }
    list::title(out, list.view)?;
    for service in services {
        list::service(out, &service, list)?;
        for destination in destinations(kernel, &service.id, list.sorted)? {
            list::destination(out, &service.id, &destination, list)?;
        }
    }
    Ok(())
}

fn list_timeouts(kernel: &mut Kernel, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let timeouts = kernel.timeouts().map_err(listing)?;
    if as_json {
        return Ok(json::timeouts(out, timeouts)?);
    }
    let (tcp, tcp_fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
    writeln!(out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")?;
    Ok(())
}

fn list_daemons(kernel: &mut Kernel, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let daemons = kernel.daemons().map_err(listing)?;
    if as_json {
        return Ok(json::daemons(out, &daemons)?);
    }
    for daemon in &daemons {
        list::daemon(out, daemon)?;
    }
    Ok(())
}

/// Lists local addresses: of one service, or of all that have any.
fn list_local_addresses(
    kernel: &mut Kernel,
    list: &List,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if !kernel.is_rlvs() {
        return Err(Failure::usage(NO_LOCAL_ADDRESSES));
    }
    let mut entries: Vec<(ServiceId, Vec<LocalAddress>)> = Vec::new();
    for service in services(kernel, list)? {
        let addresses = kernel.local_addresses(&service.id).map_err(listing)?;
        if list.service.is_some() || !addresses.is_empty() {
            entries.push((service.id, addresses));
        }
    }
    if list.json {
        return Ok(json::local_addresses(out, entries)?);
    }
    list::local_title(out)?;
    for (id, addresses) in entries {
        list::local_addresses(out, &id, &addresses, list.style)?;
    }
    Ok(())
}

fn save_all(kernel: &mut Kernel, style: Style, out: &mut impl Write) -> Result<(), Failure> {
    for service in sort::services(kernel.services().map_err(listing)?) {
        let local_addresses = kernel.local_addresses(&service.id).map_err(listing)?;
        let destinations = destinations(kernel, &service.id, true)?;
        save::service(out, &service, &local_addresses, &destinations, style)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Parser, Request};

    fn warning(line: &str) -> Option<String> {
        match Parser::new().parse(line.split(' ')) {
            Ok(Request::Tables(Action::ChangeDestination(_, id, destination, unused))) => {
                unused.map(|port| port_not_used(&id, &destination, port))
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn ports_that_are_not_used_are_told() {
        let told = |line: &str| warning(line).unwrap_or_default();
        let direct = told("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -g");
        assert!(direct.starts_with("warning: port 8080 is not used: by direct routing"));
        assert!(direct.contains(" at port 80, "));
        assert_eq!(told("-e -t 10.0.0.1:80 -r 10.1.0.1:8080"), direct);
        let tunnel = told("-a -u 10.0.0.1:53 -r 10.1.0.1:5353 -i");
        assert!(tunnel.contains("port 5353 is not used: by tunnel (-i)"));
        assert!(tunnel.contains(" at port 53, "));
        for line in [
            "-a -f 5 -r 10.1.0.1:80",
            "-a -t 10.0.0.1:0 -r 10.1.0.1:80 -g",
        ] {
            assert!(told(line).contains(" at the port, "), "{line}");
        }
    }

    #[test]
    fn ports_that_are_used_or_were_not_given_are_not_told() {
        for line in [
            "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g",
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i",
            "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m",
            "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 --fullnat",
            "-d -t 10.0.0.1:80 -r 10.1.0.1:8080",
            // So marks are saved.
            "-a -f 5 -r 10.1.0.1:0 -g",
        ] {
            assert_eq!(warning(line), None, "{line}");
        }
    }
}
