// SPDX-License-Identifier: GPL-2.0

//! Family `RLVS`: local addresses.

use super::{
    answer,
    parse,
    state,
    Refused, //
};
use crate::{
    kapi::{
        genl::{
            Doit,
            Dump,
            Dumper,
            Family,
            Info,
            Op,
            Permission,
            Validation, //
        },
        nla::{
            Kind,
            Table,
            NESTED, //
        }, //
    },
    LocalModule, //
};
use core::net::IpAddr;
use kernel::{
    module::this_module,
    prelude::*,
    sync::atomic::Relaxed, //
};
use rlvs_core::{
    flow,
    uapi::{
        ipvs::svc,
        rlvs::{
            attr,
            cmd,
            laddr,
            FAMILY as NAME,
            FAMILY_VERSION, //
        },
        PE_NAME_MAX,
        SCHED_NAME_MAX, //
    }, //
};

/// The family.
pub(super) static FAMILY: Family =
    Family::new(this_module::<LocalModule>(), NAME, FAMILY_VERSION, 0, &OPS);

/// What names a service; what else a program knows of it may stand there too.
static SERVICE: Table<{ svc::PE_NAME as usize + 1 }> = Table::new()
    .with(svc::AF, Kind::U16)
    .with(svc::PROTOCOL, Kind::U16)
    .with(svc::ADDR, Kind::Binary(16))
    .with(svc::PORT, Kind::U16)
    .with(svc::FWMARK, Kind::U32)
    .with(svc::SCHED_NAME, Kind::NulString(SCHED_NAME_MAX as u16))
    .with(svc::FLAGS, Kind::Binary(8))
    .with(svc::TIMEOUT, Kind::U32)
    .with(svc::NETMASK, Kind::U32)
    .with(svc::PE_NAME, Kind::NulString(PE_NAME_MAX as u16));

static LADDR: Table<{ laddr::ADDR as usize + 1 }> =
    Table::new().with(laddr::ADDR, Kind::Binary(16));

static CHANGE: Table<{ attr::LADDR as usize + 1 }> = Table::new()
    .with(attr::SERVICE, Kind::NestOf(SERVICE.policy()))
    .with(attr::LADDR, Kind::NestOf(LADDR.policy()));

static LIST: Table<{ attr::SERVICE as usize + 1 }> =
    Table::new().with(attr::SERVICE, Kind::NestOf(SERVICE.policy()));

static OPS: [Op; 3] = [
    Op::doit::<Set>(
        cmd::NEW_LADDR,
        Permission::Admin,
        Validation::Strict,
        CHANGE.policy(),
    ),
    Op::doit::<Set>(
        cmd::DEL_LADDR,
        Permission::Admin,
        Validation::Strict,
        CHANGE.policy(),
    ),
    Op::dump::<LocalAddresses>(
        cmd::GET_LADDR,
        Permission::Admin,
        Validation::Strict,
        LIST.policy(),
    ),
];

/// Adds or takes a local address.
struct Set;

impl Doit for Set {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let state = state(info)?;
            let service = parse::need(info.attrs(), attr::SERVICE, c"no service is named")?;
            let id = parse::service_id(service.attrs())?;
            let nest = parse::need(info.attrs(), attr::LADDR, c"no local address is named")?;
            let addr = parse::need(
                nest.attrs(),
                laddr::ADDR,
                c"the local address has no address",
            )?;
            let family = match addr.bytes().len() {
                4 => flow::Family::V4,
                _ => flow::Family::V6,
            };
            if id.family() != family {
                let other = c"the local address is not of the family of the service";
                return Err(Refused::new(EINVAL, other).at(addr));
            }
            let local = family.address(addr.padded());
            let mut config = state.config.lock();
            if info.command() == cmd::NEW_LADDR {
                config.add_laddr(info.net(), state, &id, local)
            } else {
                config.del_laddr(&id, local)
            }
            .map_err(|refusal| Refused::by_config(refusal, Some(service), Some(nest)))
        })
    }
}

/// The local addresses of a service; none of one that does not exist.
struct LocalAddresses;

impl Dump for LocalAddresses {
    fn dump(dumper: &mut Dumper<'_>) -> Result {
        let info = dumper.info();
        let mut id = None;
        answer(info, || {
            let service = parse::need(info.attrs(), attr::SERVICE, c"no service is named")?;
            id = Some(parse::service_id(service.attrs())?);
            Ok(())
        })?;
        let state = state(info).map_err(|refused| refused.errno)?;
        let config = state.config.lock();
        // A service that has gone since the last buffer makes this an interrupted dump.
        let entry = id.and_then(|id| config.find(&id));
        let laddrs = entry.into_iter().flat_map(|entry| entry.laddrs());
        let place = dumper.place();
        dumper.each(
            config.generation(),
            cmd::NEW_LADDR,
            laddrs
                .map(|local| (local.number, local))
                .filter(|(number, _)| *number > place),
            |local, message| {
                message.nest(attr::LADDR | NESTED, |nest| {
                    match local.addr {
                        IpAddr::V4(addr) => nest.put(laddr::ADDR, &addr.octets()),
                        IpAddr::V6(addr) => nest.put(laddr::ADDR, &addr.octets()),
                    }?;
                    let conns = u32::try_from(local.conns.load(Relaxed)).unwrap_or(0);
                    nest.put_u32(laddr::CONNS, conns)?;
                    let exhausted = local.exhausted.load(Relaxed);
                    nest.put(laddr::EXHAUSTED, &exhausted.to_ne_bytes())
                })
            },
        )
    }
}
