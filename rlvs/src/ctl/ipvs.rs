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
    config::{
        Config,
        NO_SERVICE,
        SERVICE_EXISTS, //
    },
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
        inet::{
            self,
            Device, //
        },
        netns::PerNet,
        nla::{
            Attr,
            Attrs,
            Kind,
            Policy,
            Table, //
        }, //
    },
    netns::{
        NetState,
        Role, //
    },
    service::ServiceId,
    sync::{
        Spec,
        SyncState, //
    },
    LocalModule, //
};
use core::net::{
    IpAddr,
    Ipv4Addr,
    Ipv6Addr, //
};
use kernel::{
    module::this_module,
    prelude::*, //
};
use rlvs_core::{
    flow,
    proto::State,
    sync,
    uapi::{
        self,
        daemon_state,
        ipvs::{
            attr,
            cmd,
            daemon,
            dest,
            info as info_attr,
            svc, //
        },
        IFNAME_MAX,
        PE_NAME_MAX,
        SCHED_NAME_MAX, //
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

static SERVICE: Table<{ svc::STATS64 as usize + 1 }> = Table::new()
    .with(svc::AF, Kind::U16)
    .with(svc::PROTOCOL, Kind::U16)
    .with(svc::ADDR, Kind::Binary(16))
    .with(svc::PORT, Kind::U16)
    .with(svc::FWMARK, Kind::U32)
    .with(svc::SCHED_NAME, Kind::NulString(SCHED_NAME_MAX as u16))
    .with(svc::FLAGS, Kind::Binary(8))
    .with(svc::TIMEOUT, Kind::U32)
    .with(svc::NETMASK, Kind::U32)
    .with(svc::STATS, Kind::Nest)
    .with(svc::PE_NAME, Kind::NulString(PE_NAME_MAX as u16));

static DEST: Table<{ dest::TUN_FLAGS as usize + 1 }> = Table::new()
    .with(dest::ADDR, Kind::Binary(16))
    .with(dest::PORT, Kind::U16)
    .with(dest::FWD_METHOD, Kind::U32)
    .with(dest::WEIGHT, Kind::U32)
    .with(dest::U_THRESH, Kind::U32)
    .with(dest::L_THRESH, Kind::U32)
    .with(dest::ACTIVE_CONNS, Kind::U32)
    .with(dest::INACT_CONNS, Kind::U32)
    .with(dest::PERSIST_CONNS, Kind::U32)
    .with(dest::STATS, Kind::Nest)
    .with(dest::ADDR_FAMILY, Kind::U16)
    .with(dest::TUN_TYPE, Kind::U8)
    .with(dest::TUN_PORT, Kind::U16)
    .with(dest::TUN_FLAGS, Kind::U16);

static DAEMON: Table<{ daemon::MCAST_TTL as usize + 1 }> = Table::new()
    .with(daemon::STATE, Kind::U32)
    .with(daemon::MCAST_IFN, Kind::NulString(IFNAME_MAX as u16))
    .with(daemon::SYNC_ID, Kind::U32)
    .with(daemon::SYNC_MAXLEN, Kind::U16)
    .with(daemon::MCAST_GROUP, Kind::U32)
    .with(daemon::MCAST_GROUP6, Kind::AtLeast(16))
    .with(daemon::MCAST_PORT, Kind::U16)
    .with(daemon::MCAST_TTL, Kind::U8);

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
    let anything = |refusal| Refused::by_config(refusal, None, None);
    let mut config = state.config.lock();
    match (command, info.attrs().get(attr::SERVICE)) {
        (cmd::FLUSH, _) => return config.flush(info.net(), state).map_err(anything),
        (cmd::ZERO, None) => return config.zero(None).map_err(anything),
        _ => {}
    }

    let (service, attrs, id) = named(info)?;
    let refused = |refusal| Refused::by_config(refusal, Some(service), None);
    let new = match command {
        cmd::NEW_SERVICE | cmd::SET_SERVICE => Some(parse::NewService::new(attrs)?),
        _ => None,
    };
    let entry = config.find(&id);
    match (command, entry) {
        (cmd::NEW_SERVICE, Some(_)) => return Err(refused(SERVICE_EXISTS)),
        (cmd::NEW_SERVICE, None) | (_, Some(_)) => {}
        _ => return Err(refused(NO_SERVICE)),
    }
    if let Some(new) = new {
        let spec = new.spec(&id, entry.map_or(0, |entry| entry.spec().flags))?;
        return match command {
            cmd::NEW_SERVICE => config.add_service(info.net(), state, id, spec),
            _ => config.edit_service(state, &id, spec),
        }
        .map_err(refused);
    }
    match command {
        cmd::DEL_SERVICE => config.del_service(info.net(), state, &id).map_err(refused),
        cmd::ZERO => config.zero(Some(&id)).map_err(refused),
        _ => set_dest(info, state, &mut config, service, &id),
    }
}

/// The same for destinations of the service of that name, which is there.
#[inline(never)]
fn set_dest<'a>(
    info: &'a Info,
    state: &NetState,
    config: &mut Config,
    service: Attr<'a>,
    id: &ServiceId,
) -> Result<(), Refused<'a>> {
    let command = info.command();
    let nest = parse::need(info.attrs(), attr::DEST, c"no destination is named")?;
    let attrs = checked(info, nest, DEST.policy())?;
    let new = parse::NewDest::new(attrs, command != cmd::DEL_DEST)?;
    let (addr, port) = new.key(id.family())?;
    if flow::Family::of(addr) != id.family() && command != cmd::DEL_DEST && state.is_synchronised()
    {
        let message = c"synchronisation knows no destination of another address family";
        return Err(Refused::new(EINVAL, message).at(nest));
    }
    match command {
        cmd::NEW_DEST => config.add_dest(info.net(), state, id, addr, port, new.spec()?),
        cmd::SET_DEST => config.edit_dest(id, addr, port, new.spec()?),
        _ => config.del_dest(info.net(), state, id, addr, port),
    }
    .map_err(|refusal| Refused::by_config(refusal, Some(service), Some(nest)))
}

/// The service that a request names, with the attributes that do.
fn named(info: &Info) -> Result<(Attr<'_>, Attrs<'_>, ServiceId), Refused<'_>> {
    let service = parse::need(info.attrs(), attr::SERVICE, c"no service is named")?;
    let attrs = checked(info, service, SERVICE.policy())?;
    Ok((service, attrs, parse::service_id(attrs)?))
}

/// The attributes in a nest, which look as they should.
fn checked<'a>(info: &'a Info, nest: Attr<'a>, policy: Policy) -> Result<Attrs<'a>, Refused<'a>> {
    info.check(nest.attrs(), policy)
        .map_err(|_| Refused::new(EINVAL, c"an attribute has the wrong length").at(nest))
}

/// One service.
struct GetService;

impl Doit for GetService {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let state = state(info)?;
            let (service, _, id) = named(info)?;
            let config = state.config.lock();
            let entry = config
                .find(&id)
                .ok_or_else(|| Refused::by_config(NO_SERVICE, Some(service), None))?;
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
        let services = config.services_from(dumper.place());
        dumper.each(
            config.generation(),
            cmd::NEW_SERVICE,
            services.map(|(number, entry)| (number.saturating_add(1), entry)),
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
        // Who asks in a way that makes no sense is told of no destinations, as in mainline.
        let named = info
            .check(info.attrs(), POLICY.policy())
            .map(|_| named(info));
        let Ok(Ok((_, _, id))) = named else {
            return Ok(());
        };
        let knows_rlvs = info.attrs().get(attr::RLVS).is_some();
        let config = state.config.lock();
        let place = dumper.place();
        let left = |number| place == 0 || number < place;
        // A service that has gone since the last buffer makes this an interrupted dump.
        let members = config.find(&id).into_iter().flat_map(|entry| {
            let members = entry.members();
            members.map(move |member| (member.number, (entry, member)))
        });
        dumper.each(
            config.generation(),
            cmd::NEW_DEST,
            members.filter(|(number, _)| left(*number)),
            |(entry, member), message| dump::dest(entry, member, knows_rlvs, message),
        )
    }
}

/// Starting and stopping the synchronisation daemon.
struct SetDaemon;

impl Doit for SetDaemon {
    fn doit(info: &Info) -> Result {
        answer(info, || {
            let nest = parse::need(info.attrs(), attr::DAEMON, c"no daemon is described")?;
            let attrs = checked(info, nest, DAEMON.policy())?;
            let which = parse::need(attrs, daemon::STATE, c"master or backup, it is not said")?;
            let new = match info.command() {
                cmd::NEW_DAEMON => Some(new_daemon(info, attrs)?),
                _ => None,
            };
            let role = match parse::read(which, Attr::u32)? {
                daemon_state::MASTER => Role::Master,
                daemon_state::BACKUP => Role::Backup,
                _ => {
                    let message = c"there are a master and a backup only";
                    return Err(Refused::new(EINVAL, message).at(which));
                }
            };
            let (state, net) = (state(info)?, info.net());
            let sync = SyncState::of(net).ok_or(ENODEV)?;
            match new {
                Some((device, spec)) => sync.start(state, net, role, device, spec),
                None => sync.stop(state, role),
            }
            .map_err(|errno| match errno {
                EEXIST => Refused::new(errno, c"the daemon runs already").at(which),
                ESRCH => Refused::new(errno, c"the daemon does not run").at(which),
                _ => Refused::new(errno, c"the daemon's sockets cannot be made").at(nest),
            })
        })
    }
}

/// What is set of a daemon that is to be started, and its device.
fn new_daemon<'a>(info: &'a Info, attrs: Attrs<'a>) -> Result<(Device, Spec), Refused<'a>> {
    let device = parse::need(attrs, daemon::MCAST_IFN, c"no network device is named")?;
    let syncid = parse::need(attrs, daemon::SYNC_ID, c"the daemon has no number")?;
    let group = if let Some(attr) = attrs.get(daemon::MCAST_GROUP) {
        Some((attr, Ipv4Addr::from(attr.padded()).into()))
    } else {
        let group = attrs.get(daemon::MCAST_GROUP6);
        group.map(|attr| (attr, Ipv6Addr::from(attr.padded()).into()))
    };
    let group = match group {
        None => sync::GROUP.into(),
        Some((_, group)) if IpAddr::is_multicast(&group) => group,
        Some((attr, _)) => {
            let message = c"the address is not that of a group";
            return Err(Refused::new(EINVAL, message).at(attr));
        }
    };
    if state(info)?.config.lock().is_mixed() {
        let message = c"a destination is of another address family than its service";
        return Err(Refused::new(EINVAL, message));
    }
    let name = parse::read(device, Attr::string)?;
    let found = inet::device(info.net(), name);
    let found = found.ok_or(Refused::new(ENODEV, c"no such network device").at(device))?;
    let optional = |number| attrs.get(number);
    let maxlen =
        optional(daemon::SYNC_MAXLEN).map_or(Ok(0), |attr| parse::read(attr, Attr::u16))?;
    let port = optional(daemon::MCAST_PORT).map_or(Ok(0), |attr| parse::read(attr, Attr::u16))?;
    let hops = optional(daemon::MCAST_TTL).map_or(Ok(0), |attr| parse::read(attr, Attr::u8))?;
    let mut copy = [0; IFNAME_MAX + 1];
    for (to, from) in copy.iter_mut().zip(name) {
        *to = *from;
    }
    let spec = Spec {
        device: copy,
        syncid: parse::read(syncid, Attr::u32)?,
        maxlen,
        group,
        port: if port == 0 { sync::PORT } else { port },
        hops: hops.max(1),
    };
    Ok((found, spec))
}

/// The synchronisation daemons that run.
struct Daemons;

impl Dump for Daemons {
    fn dump(dumper: &mut Dumper<'_>) -> Result {
        let info = dumper.info();
        state(info).map_err(|refused| refused.errno)?;
        let sync = SyncState::of(info.net()).ok_or(ENODEV)?;
        let place = dumper.place();
        let daemons = sync.running().into_iter().flatten();
        let left = daemons.filter(|(role, _)| *role as u64 > place);
        dumper.each(
            0,
            cmd::NEW_DAEMON,
            left.map(|(role, spec)| (role as u64, (role, spec))),
            |(role, spec), message| dump::daemon(role as u32, &spec, message),
        )
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
