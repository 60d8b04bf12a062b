// SPDX-License-Identifier: GPL-2.0

//! Attributes to settings: what names a service or a destination, and what is set of it.
//!
//! Attributes come here after they were checked against their policy. What is wrong with them is found
//! in mainline's order, with mainline's numbers.

use super::Refused;
use crate::{
    config::ServiceSpec,
    dest::{
        DestSpec,
        Tunnel, //
    },
    kapi::{
        inet,
        nla::{
            Attr,
            Attrs, //
        },
        time, //
    },
    service::ServiceId, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    str::CStr, //
};
use rlvs_core::{
    flow::Family,
    persist::Engine,
    sched::Kind,
    uapi::{
        ipvs::{
            dest,
            svc, //
        },
        method,
        tunnel, //
    },
    wire::IPPROTO_TCP, //
};

const INT_MAX: u32 = i32::MAX as u32;

/// An attribute that must be there.
pub(super) fn need<'a>(
    attrs: Attrs<'a>,
    number: u16,
    missing: &'static CStr,
) -> Result<Attr<'a>, Refused<'a>> {
    attrs.get(number).ok_or(Refused::new(EINVAL, missing))
}

/// What `get` reads from an attribute.
pub(super) fn read<'a, T>(
    attr: Attr<'a>,
    get: impl FnOnce(&Attr<'a>) -> Result<T>,
) -> Result<T, Refused<'a>> {
    get(&attr).map_err(|error| Refused::new(error, c"the attribute is too short").at(attr))
}

/// A timeout in seconds, as long as a timer can be.
pub(super) fn seconds(attr: Attr<'_>) -> Result<u32, Refused<'_>> {
    let seconds = read(attr, Attr::u32)?;
    if seconds > INT_MAX / time::HZ {
        return Err(Refused::new(EINVAL, c"the timeout is too long").at(attr));
    }
    Ok(seconds)
}

/// The family that an attribute names.
fn family(attr: Attr<'_>) -> Result<Family, Refused<'_>> {
    match Family::from_number(read(attr, Attr::u16)?) {
        None => Err(Refused::new(EAFNOSUPPORT, c"unknown address family").at(attr)),
        Some(Family::V6) if !inet::has_ipv6() => {
            Err(Refused::new(EAFNOSUPPORT, c"IPv6 is disabled on this host").at(attr))
        }
        Some(family) => Ok(family),
    }
}

/// What names a service, of the attributes of its nest.
pub(super) fn service_id(attrs: Attrs<'_>) -> Result<ServiceId, Refused<'_>> {
    let af = need(attrs, svc::AF, c"the service has no address family")?;
    if let Some(mark) = attrs.get(svc::FWMARK) {
        let family = family(af)?;
        return Ok(match read(mark, Attr::u32)? {
            // No mark: mainline takes it for this.
            0 => ServiceId::Address {
                proto: IPPROTO_TCP.into(),
                addr: family.address([0; 16]),
                port: 0,
            },
            mark => ServiceId::Mark { family, mark },
        });
    }
    let proto = need(attrs, svc::PROTOCOL, c"the service has no protocol")?;
    let addr = need(attrs, svc::ADDR, c"the service has no address")?;
    let port = need(attrs, svc::PORT, c"the service has no port")?;
    Ok(ServiceId::Address {
        addr: family(af)?.address(addr.padded()),
        proto: read(proto, Attr::u16)?,
        port: read(port, Attr::be16)?,
    })
}

/// What a program wants to set of a service: it is all there, and not looked at yet.
pub(super) struct NewService<'a> {
    scheduler: Attr<'a>,
    engine: Option<Attr<'a>>,
    flags: Attr<'a>,
    timeout: Attr<'a>,
    netmask: Attr<'a>,
}

impl<'a> NewService<'a> {
    /// From the attributes of the service's nest.
    pub(super) fn new(attrs: Attrs<'a>) -> Result<Self, Refused<'a>> {
        Ok(Self {
            scheduler: need(attrs, svc::SCHED_NAME, c"the service has no scheduler")?,
            engine: attrs.get(svc::PE_NAME),
            flags: need(attrs, svc::FLAGS, c"the service has no flags")?,
            timeout: need(attrs, svc::TIMEOUT, c"the service has no timeout")?,
            netmask: need(attrs, svc::NETMASK, c"the service has no netmask")?,
        })
    }

    /// The settings of the service of that name, whose flags are `flags` so far.
    pub(super) fn spec(&self, id: &ServiceId, flags: u32) -> Result<ServiceSpec, Refused<'a>> {
        let kind = match read(self.scheduler, Attr::string)? {
            b"none" => None,
            name => match Kind::from_name(name) {
                None => return Err(Refused::new(ENOENT, c"no such scheduler").at(self.scheduler)),
                kind => kind,
            },
        };
        let engine = match self.engine {
            None => None,
            Some(attr) => match read(attr, Attr::string)? {
                b"" => None,
                name => match Engine::from_name(name) {
                    None => {
                        return Err(Refused::new(ENOENT, c"no such persistence engine").at(attr))
                    }
                    engine => engine,
                },
            },
        };
        let netmask = read(self.netmask, Attr::u32)?;
        if id.family() == Family::V6 && !(1..=128).contains(&netmask) {
            return Err(
                Refused::new(EINVAL, c"the length of the prefix is not from 1 to 128")
                    .at(self.netmask),
            );
        }
        let [a, b, c, d, e, f, g, h] = self.flags.padded();
        let [new, mask] = [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes);
        Ok(ServiceSpec {
            kind,
            flags: flags & !mask | new & mask,
            // Like mainline, which holds it so.
            timeout_jiffies: read(self.timeout, Attr::u32)?.wrapping_mul(time::HZ),
            netmask: netmask.to_ne_bytes(),
            engine,
        })
    }
}

/// What names a destination, and what a program wants to set of it.
pub(super) struct NewDest<'a> {
    addr: Attr<'a>,
    port: u16,
    family: Option<Attr<'a>>,
    set: Option<NewSpec<'a>>,
}

/// What a program wants to set of a destination: it is all there, and not looked at yet.
struct NewSpec<'a> {
    method: Attr<'a>,
    weight: Attr<'a>,
    upper: Attr<'a>,
    lower: Attr<'a>,
    tunnel: Tunnel,
}

impl<'a> NewDest<'a> {
    /// From the attributes of the destination's nest; `full` with what is to be set.
    pub(super) fn new(attrs: Attrs<'a>, full: bool) -> Result<Self, Refused<'a>> {
        let addr = need(attrs, dest::ADDR, c"the destination has no address")?;
        let port = need(attrs, dest::PORT, c"the destination has no port")?;
        Ok(Self {
            addr,
            port: read(port, Attr::be16)?,
            family: attrs.get(dest::ADDR_FAMILY),
            set: if full {
                Some(NewSpec::new(attrs)?)
            } else {
                None
            },
        })
    }

    /// Its address and port, if it is one of a service of that family.
    pub(super) fn key(&self, service: Family) -> Result<(IpAddr, u16), Refused<'a>> {
        let family = match self.family {
            // Programs of old do not say: it is that of the service.
            Some(attr) if read(attr, Attr::u16)? != 0 => family(attr)?,
            _ => service,
        };
        if let Some(set) = &self.set {
            if family != service && set.method()? != method::TUNNEL {
                return Err(
                    Refused::new(EINVAL, c"only tunnels lead to another address family")
                        .at(self.family.unwrap_or(self.addr)),
                );
            }
        }
        Ok((family.address(self.addr.padded()), self.port))
    }

    /// What is to be set.
    pub(super) fn spec(&self) -> Result<DestSpec, Refused<'a>> {
        match &self.set {
            Some(set) => set.spec(),
            None => Err(Refused::new(EINVAL, c"the destination is not described")),
        }
    }
}

impl<'a> NewSpec<'a> {
    fn new(attrs: Attrs<'a>) -> Result<Self, Refused<'a>> {
        let no_upper = c"the destination has no upper threshold";
        let no_lower = c"the destination has no lower threshold";
        let mut this = Self {
            method: need(attrs, dest::FWD_METHOD, c"the destination has no method")?,
            weight: need(attrs, dest::WEIGHT, c"the destination has no weight")?,
            upper: need(attrs, dest::U_THRESH, no_upper)?,
            lower: need(attrs, dest::L_THRESH, no_lower)?,
            tunnel: Tunnel::default(),
        };
        if let Some(kind) = attrs.get(dest::TUN_TYPE) {
            this.tunnel.kind = read(kind, Attr::u8)?;
        }
        if let Some(port) = attrs.get(dest::TUN_PORT) {
            this.tunnel.port = read(port, Attr::be16)?;
        }
        if let Some(flags) = attrs.get(dest::TUN_FLAGS) {
            this.tunnel.flags = read(flags, Attr::u16)?;
        }
        Ok(this)
    }

    fn method(&self) -> Result<u32, Refused<'a>> {
        Ok(read(self.method, Attr::u32)? & method::MASK)
    }

    fn spec(&self) -> Result<DestSpec, Refused<'a>> {
        let spec = DestSpec {
            method: self.method()?,
            weight: read(self.weight, Attr::u32)?,
            upper: read(self.upper, Attr::u32)?,
            lower: read(self.lower, Attr::u32)?,
            tunnel: self.tunnel,
        };
        let refused = |errno, message, attr| Err(Refused::new(errno, message).at(attr));
        if spec.weight > INT_MAX {
            return refused(ERANGE, c"the weight is negative", self.weight);
        }
        if spec.lower > spec.upper {
            let message = c"the lower threshold is above the upper one";
            return refused(ERANGE, message, self.lower);
        }
        if spec.upper > INT_MAX {
            return refused(EINVAL, c"the upper threshold is too large", self.upper);
        }
        if spec.tunnel.kind == tunnel::GUE && spec.tunnel.port == 0 {
            // Whatever the method is.
            return refused(EINVAL, c"a GUE tunnel needs a port", self.method);
        }
        Ok(spec)
    }
}
