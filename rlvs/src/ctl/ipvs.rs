// SPDX-License-Identifier: GPL-2.0

//! Family `IPVS`, as ipvsadm, keepalived and every library know it.
//!
//! Like mainline it ignores attributes that it does not know, and one of them is ours: who sends
//! [`attr::RLVS`] is told of FullNAT.

use super::{
    answer,
    dump,
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
            Attr,
            Kind,
            Table, //
        }, //
    },
    netns::NetState,
    LocalModule, //
};
use kernel::{
    module::this_module,
    prelude::*, //
};
use rlvs_core::{
    proto::State,
    uapi::{
        self,
        ipvs::{
            attr,
            cmd,
            info as info_attr, //
        }, //
    }, //
};

/// The family.
pub(super) static FAMILY: Family = Family::new(
    this_module::<LocalModule>(),
    uapi::ipvs::FAMILY,
    uapi::ipvs::FAMILY_VERSION,
    cmd::FLUSH,
    &OPS,
);

static POLICY: Table<{ attr::RLVS as usize + 1 }> = Table::new()
    .with(attr::SERVICE, Kind::Nest)
    .with(attr::DEST, Kind::Nest)
    .with(attr::DAEMON, Kind::Nest)
    .with(attr::TIMEOUT_TCP, Kind::U32)
    .with(attr::TIMEOUT_TCP_FIN, Kind::U32)
    .with(attr::TIMEOUT_UDP, Kind::U32)
    .with(attr::RLVS, Kind::U32);

static OPS: [Op; 17] = [
    doit::<Set>(cmd::NEW_SERVICE),
    doit::<Set>(cmd::SET_SERVICE),
    doit::<Set>(cmd::DEL_SERVICE),
    doit::<GetService>(cmd::GET_SERVICE),
    dump::<Services>(cmd::GET_SERVICE),
    doit::<Set>(cmd::NEW_DEST),
    doit::<Set>(cmd::SET_DEST),
    doit::<Set>(cmd::DEL_DEST),
    dump::<Dests>(cmd::GET_DEST),
    doit::<SetDaemon>(cmd::NEW_DAEMON),
    doit::<SetDaemon>(cmd::DEL_DAEMON),
    dump::<Daemons>(cmd::GET_DAEMON),
    doit::<SetConfig>(cmd::SET_CONFIG),
    doit::<GetConfig>(cmd::GET_CONFIG),
    doit::<GetInfo>(cmd::GET_INFO),
    doit::<Set>(cmd::ZERO),
    doit::<Set>(cmd::FLUSH),
];

const fn doit<D: Doit>(command: u8) -> Op {
    Op::doit::<D>(
        command,
        Permission::Admin,
        Validation::Liberal,
        POLICY.policy(),
    )
}

const fn dump<D: Dump>(command: u8) -> Op {
    Op::dump::<D>(
        command,
        Permission::Admin,
        Validation::Liberal,
        POLICY.policy(),
    )
}

/// Everything that changes services and destinations.
struct Set;

impl Doit for Set {
    fn doit(info: &Info) -> Result {
        answer(info, || set(info, state(info)?))
    }
}

fn set<'a>(info: &'a Info, state: &NetState) -> Result<(), Refused<'a>> {
    let command = info.command();
    let service = info.attrs().get(attr::SERVICE);
    let dest = info.attrs().get(attr::DEST);
    let refused = |refusal| Refused::by_config(refusal, service, dest);
    let mut config = state.config.lock();
    match (command, service) {
        (cmd::FLUSH, _) => return config.flush(info.net(), state).map_err(refused),
        (cmd::ZERO, None) => return config.zero(None).map_err(refused),
        _ => {}
    }

    let service = parse::need(info.attrs(), attr::SERVICE, c"no service is named")?;
    let id = parse::service_id(service)?;
    match command {
        cmd::NEW_SERVICE => {
            let spec = parse::service_spec(service, 0)?;
            return config
                .add_service(info.net(), state, id, spec)
                .map_err(refused);
        }
        cmd::SET_SERVICE => {
            let flags = config.find(&id).map_or(0, |entry| entry.spec().flags);
            let spec = parse::service_spec(service, flags)?;
            return config.edit_service(&id, spec).map_err(refused);
        }
        cmd::DEL_SERVICE => return config.del_service(info.net(), state, &id).map_err(refused),
        cmd::ZERO => return config.zero(Some(&id)).map_err(refused),
        _ => {}
    }

    // Whatever is wrong with the destination, programs expect to hear of the service first.
    if config.find(&id).is_none() {
        return Err(no_service(service));
    }
    let dest = parse::need(info.attrs(), attr::DEST, c"no destination is named")?;
    let (addr, port) = parse::dest_id(dest)?;
    match command {
        cmd::NEW_DEST => {
            let spec = parse::dest_spec(dest)?;
            parse::one_host(info.net(), addr, dest)?;
            config.add_dest(state, &id, addr, port, spec)
        }
        cmd::SET_DEST => config.edit_dest(&id, addr, port, parse::dest_spec(dest)?),
        _ => config.del_dest(&id, addr, port),
    }
    .map_err(refused)
}

fn no_service(service: Attr<'_>) -> Refused<'_> {
    Refused::new(ESRCH, c"no such service").at(service)
}

/// One service.
struct GetService;

impl Doit for GetService {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let state = state(info)?;
            let service = parse::need(info.attrs(), attr::SERVICE, c"no service is named")?;
            let id = parse::service_id(service)?;
            let config = state.config.lock();
            let entry = config.find(&id).ok_or(no_service(service))?;
            Ok(info.reply(cmd::NEW_SERVICE, |message| dump::service(entry, message))?)
        })
    }
}

/// All services.
struct Services;

impl Dump for Services {
    fn dump(dumper: &mut Dumper<'_>) -> Result {
        let state = state(dumper.info()).map_err(|refused| refused.errno)?;
        let config = state.config.lock();
        dumper.each(
            config.generation(),
            cmd::NEW_SERVICE,
            config.services().iter(),
            dump::service,
        )
    }
}

/// The destinations of a service; none of one that does not exist.
struct Dests;

impl Dump for Dests {
    fn dump(dumper: &mut Dumper<'_>) -> Result {
        let info = dumper.info();
        let state = state(info).map_err(|refused| refused.errno)?;
        let knows_rlvs = info.attrs().get(attr::RLVS).is_some();
        let id = info
            .attrs()
            .get(attr::SERVICE)
            .and_then(|service| parse::service_id(service).ok());
        let config = state.config.lock();
        let Some(entry) = id.and_then(|id| config.find(&id)) else {
            return Ok(());
        };
        dumper.each(
            config.generation(),
            cmd::NEW_DEST,
            entry.members().iter(),
            |member, message| dump::dest(entry, member, knows_rlvs, message),
        )
    }
}

/// Starting and stopping the synchronisation daemon.
struct SetDaemon;

impl Doit for SetDaemon {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let refused = Refused::new(
                EOPNOTSUPP,
                c"this version has no connection synchronisation",
            );
            Err(match info.attrs().get(attr::DAEMON) {
                Some(daemon) => refused.at(daemon),
                None => refused,
            })
        })
    }
}

/// The synchronisation daemons that run: none.
struct Daemons;

impl Dump for Daemons {
    fn dump(_dumper: &mut Dumper<'_>) -> Result {
        Ok(())
    }
}

/// The timeouts. 0 leaves one as it is.
struct SetConfig;

impl Doit for SetConfig {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let state = state(info)?;
            let seconds = |number| match info.attrs().get(number) {
                None => Ok(0),
                Some(timeout) => parse::seconds(timeout),
            };
            let tcp = seconds(attr::TIMEOUT_TCP)?;
            let fin = seconds(attr::TIMEOUT_TCP_FIN)?;
            let udp = seconds(attr::TIMEOUT_UDP)?;
            state.set_timeouts(tcp, fin, udp);
            Ok(())
        })
    }
}

/// Tells the timeouts.
struct GetConfig;

impl Doit for GetConfig {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let timeouts = &state(info)?.timeouts;
            Ok(info.reply(cmd::SET_CONFIG, |message| {
                message.put_u32(attr::TIMEOUT_TCP, timeouts.of(State::Established))?;
                message.put_u32(attr::TIMEOUT_TCP_FIN, timeouts.of(State::FinWait))?;
                message.put_u32(attr::TIMEOUT_UDP, timeouts.of(State::Udp))
            })?)
        })
    }
}

/// Tells the version and the size of the connection table.
struct GetInfo;

impl Doit for GetInfo {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let size = state(info)?.conn_table_size();
            Ok(info.reply(cmd::SET_INFO, |message| {
                message.put_u32(info_attr::VERSION, uapi::VERSION)?;
                message.put_u32(info_attr::CONN_TAB_SIZE, size)
            })?)
        })
    }
}
