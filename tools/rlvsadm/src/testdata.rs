// SPDX-License-Identifier: GPL-2.0

//! Plain entries that tests change to their liking.

use rlvs_core::uapi::method;

use crate::model::{Destination, Service, ServiceId, Stats, Tunnel, TCP};

/// The name of a TCP service.
pub fn tcp(address: &str, port: u16) -> ServiceId {
    ServiceId::Address {
        protocol: TCP,
        address: address.parse().unwrap(),
        port,
    }
}

/// A service without settings.
pub fn service(id: ServiceId) -> Service {
    Service {
        scheduler: "wlc".to_owned(),
        flags: 0,
        timeout: 0,
        netmask: id.family().host_netmask(),
        engine: String::new(),
        stats: Stats::default(),
        id,
    }
}

/// A NAT destination at port 80.
pub fn destination(address: &str) -> Destination {
    Destination {
        address: address.parse().unwrap(),
        port: 80,
        method: method::MASQ,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        active: 0,
        inactive: 0,
        persistent: 0,
        tunnel: Tunnel::default(),
        stats: Stats::default(),
    }
}
