// SPDX-License-Identifier: GPL-2.0

//! Attributes to settings: what names a service or a destination, and what is set of it.
//!
//! What is missing or makes no sense is `EINVAL`. What is beyond this version is `EOPNOTSUPP`.

use super::Refused;
use crate::{
    config::ServiceSpec,
    dest::{
        DestSpec,
        Tunnel, //
    },
    kapi::{
        inet,
        netns::Net,
        nla::{
            Attr,
            Attrs, //
        },
        time, //
    },
    service::ServiceId, //
};
use core::net::{
    IpAddr,
    Ipv4Addr,
    Ipv6Addr, //
};
use kernel::{
    prelude::*,
    str::CStr, //
};
use rlvs_core::{
    sched::Kind,
    uapi::{
        ipvs::{
            dest,
            svc, //
        },
        method,
        svc_flag, //
    }, //
};

/// Address families, as they stand in messages.
pub(super) const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

const TCP: u16 = 6;
const UDP: u16 = 17;

const INT_MAX: u32 = i32::MAX as u32;

/// `IP_VS_CONN_F_TUNNEL_TYPE_GUE`: UDP, so there must be a port.
const GUE: u8 = 1;

/// An attribute that must be there.
pub(super) fn need<'a>(
    attrs: Attrs<'a>,
    number: u16,
    missing: &'static CStr,
) -> Result<Attr<'a>, Refused<'a>> {
    attrs.get(number).ok_or(Refused::new(EINVAL, missing))
}

/// What `get` reads from an attribute.
fn read<'a, T>(attr: Attr<'a>, get: impl FnOnce(&Attr<'a>) -> Result<T>) -> Result<T, Refused<'a>> {
    get(&attr).map_err(|error| Refused::new(error, c"the attribute is too short").at(attr))
}

fn need_u32<'a>(attrs: Attrs<'a>, number: u16, missing: &'static CStr) -> Result<u32, Refused<'a>> {
    read(need(attrs, number, missing)?, Attr::u32)
}

/// A timeout in seconds, as long as a timer can be.
pub(super) fn seconds(attr: Attr<'_>) -> Result<u32, Refused<'_>> {
    let seconds = read(attr, Attr::u32)?;
    if seconds > INT_MAX / time::HZ {
        return Err(Refused::new(EINVAL, c"the timeout is too long").at(attr));
    }
    Ok(seconds)
}

/// An address: 16 bytes of which IPv4 uses the first 4, or just these.
pub(super) fn address(attr: Attr<'_>, family: u16) -> Result<IpAddr, Refused<'_>> {
    let bytes = attr.bytes();
    let addr = match family {
        AF_INET => bytes
            .first_chunk::<4>()
            .map(|bytes| IpAddr::from(Ipv4Addr::from(*bytes))),
        AF_INET6 => bytes
            .first_chunk::<16>()
            .map(|bytes| IpAddr::from(Ipv6Addr::from(*bytes))),
        _ => return Err(Refused::new(EAFNOSUPPORT, c"unknown address family").at(attr)),
    };
    addr.filter(|_| bytes.len() <= 16)
        .ok_or(Refused::new(EINVAL, c"the address has the wrong length").at(attr))
}

/// What names a service, in the nest `service`.
pub(super) fn service_id(service: Attr<'_>) -> Result<ServiceId, Refused<'_>> {
    let attrs = service.attrs();
    let family = need(attrs, svc::AF, c"the service has no address family")?;
    match read(family, Attr::u16)? {
        AF_INET => {}
        AF_INET6 => {
            return Err(
                Refused::new(EOPNOTSUPP, c"this version carries IPv4 services only").at(family),
            )
        }
        _ => return Err(Refused::new(EAFNOSUPPORT, c"unknown address family").at(family)),
    }
    if let Some(mark) = attrs.get(svc::FWMARK) {
        if read(mark, Attr::u32)? != 0 {
            return Err(Refused::new(
                EOPNOTSUPP,
                c"this version carries no firewall-mark services",
            )
            .at(mark));
        }
    }
    let proto = need(attrs, svc::PROTOCOL, c"the service has no protocol")?;
    let addr = need(attrs, svc::ADDR, c"the service has no address")?;
    let port = need(attrs, svc::PORT, c"the service has no port")?;
    let number = read(proto, Attr::u16)?;
    if !matches!(number, TCP | UDP) {
        return Err(Refused::new(EOPNOTSUPP, c"this version carries TCP and UDP only").at(proto));
    }
    Ok(ServiceId::Address {
        proto: number as u8,
        addr: address(addr, AF_INET)?,
        port: read(port, Attr::be16)?,
    })
}

/// What is set of a service, in the nest `service`; `flags` are those it has.
pub(super) fn service_spec(service: Attr<'_>, flags: u32) -> Result<ServiceSpec, Refused<'_>> {
    let attrs = service.attrs();
    let name = need(attrs, svc::SCHED_NAME, c"the service has no scheduler")?;
    let change = need(attrs, svc::FLAGS, c"the service has no flags")?;
    let timeout = need_u32(attrs, svc::TIMEOUT, c"the service has no timeout")?;
    let netmask = need(attrs, svc::NETMASK, c"the service has no netmask")?;

    let kind = match name.string() {
        Ok(b"none") => None,
        Ok(name) if Kind::from_name(name).is_some() => Kind::from_name(name),
        Ok(_) => return Err(Refused::new(ENOENT, c"no such scheduler").at(name)),
        Err(error) => {
            return Err(Refused::new(error, c"the scheduler's name does not end").at(name))
        }
    };
    if let Some(engine) = attrs.get(svc::PE_NAME) {
        if engine.bytes().first().is_some_and(|byte| *byte != 0) {
            return Err(Refused::new(ENOENT, c"no such persistence engine").at(engine));
        }
    }
    let [new, mask] = match change.bytes().first_chunk::<8>() {
        Some(&[a, b, c, d, e, f, g, h]) => [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes),
        None => return Err(Refused::new(EINVAL, c"the flags are too short").at(change)),
    };
    let known = svc_flag::SCHED1 | svc_flag::SCHED2 | svc_flag::SCHED3;
    let flags = flags & !mask | new & mask;
    if flags & (svc_flag::PERSISTENT | svc_flag::ONEPACKET) != 0 {
        return Err(Refused::new(
            EOPNOTSUPP,
            c"this version has neither persistence nor one-packet scheduling",
        )
        .at(change));
    }
    Ok(ServiceSpec {
        kind,
        flags: flags & known,
        timeout,
        netmask: read(netmask, Attr::u32)?.to_ne_bytes(),
    })
}

/// What names a destination, in the nest `dest`.
pub(super) fn dest_id(dest: Attr<'_>) -> Result<(IpAddr, u16), Refused<'_>> {
    let attrs = dest.attrs();
    let addr = need(attrs, dest::ADDR, c"the destination has no address")?;
    let port = need(attrs, dest::PORT, c"the destination has no port")?;
    if let Some(family) = attrs.get(dest::ADDR_FAMILY) {
        match read(family, Attr::u16)? {
            // Programs of old do not say: it is that of the service.
            0 | AF_INET => {}
            AF_INET6 => {
                return Err(Refused::new(
                    EOPNOTSUPP,
                    c"this version carries IPv4 destinations only",
                )
                .at(family))
            }
            _ => return Err(Refused::new(EAFNOSUPPORT, c"unknown address family").at(family)),
        }
    }
    Ok((address(addr, AF_INET)?, read(port, Attr::be16)?))
}

/// What is set of a destination, in the nest `dest`.
pub(super) fn dest_spec(dest: Attr<'_>) -> Result<DestSpec, Refused<'_>> {
    let attrs = dest.attrs();
    let forward = need(attrs, dest::FWD_METHOD, c"the destination has no method")?;
    let weight = need(attrs, dest::WEIGHT, c"the destination has no weight")?;
    let upper = need(
        attrs,
        dest::U_THRESH,
        c"the destination has no upper threshold",
    )?;
    let lower = need(
        attrs,
        dest::L_THRESH,
        c"the destination has no lower threshold",
    )?;
    let mut tunnel = Tunnel::default();
    if let Some(kind) = attrs.get(dest::TUN_TYPE) {
        tunnel.kind = read(kind, Attr::u8)?;
    }
    if let Some(port) = attrs.get(dest::TUN_PORT) {
        tunnel.port = read(port, Attr::be16)?;
    }
    if let Some(flags) = attrs.get(dest::TUN_FLAGS) {
        tunnel.flags = read(flags, Attr::u16)?;
    }
    let spec = DestSpec {
        method: read(forward, Attr::u32)? & method::MASK,
        weight: read(weight, Attr::u32)?,
        upper: read(upper, Attr::u32)?,
        lower: read(lower, Attr::u32)?,
        tunnel,
    };
    if spec.weight > INT_MAX {
        return Err(Refused::new(ERANGE, c"the weight is negative").at(weight));
    }
    if spec.lower > spec.upper {
        return Err(Refused::new(ERANGE, c"the lower threshold is above the upper one").at(lower));
    }
    if spec.upper > INT_MAX {
        return Err(Refused::new(EINVAL, c"the upper threshold is too large").at(upper));
    }
    if tunnel.kind == GUE && tunnel.port == 0 {
        return Err(Refused::new(EINVAL, c"a GUE tunnel needs a port").at(dest));
    }
    if !matches!(spec.method, method::MASQ | method::FULLNAT) {
        return Err(
            Refused::new(EOPNOTSUPP, c"this version forwards by NAT and FullNAT only").at(forward),
        );
    }
    Ok(spec)
}

/// Refuses an address that no single host has: `attr` is where it stands.
pub(super) fn one_host<'a>(net: &Net, addr: IpAddr, attr: Attr<'a>) -> Result<(), Refused<'a>> {
    match addr {
        IpAddr::V4(addr) if inet::is_one_host(net, addr) => Ok(()),
        _ => Err(Refused::new(EINVAL, c"the address is not that of a single host").at(attr)),
    }
}
