// SPDX-License-Identifier: GPL-2.0

//! Every way to change the configuration.

use super::{
    departed::{
        GraveKey,
        Plots, //
    },
    entry::{
        copy,
        snapshot,
        Entry,
        Member,
        ServiceSpec, //
    },
    pools::Pools,
    services::{
        Room,
        Services, //
    },
    Config,
    Plane,
    Refusal,
    Subject, //
};
use crate::{
    dest::{
        Dest,
        DestSpec, //
    },
    kapi::{
        inet,
        netns::Net,
        rcu::{
            RcuBox,
            RcuPtr, //
        }, //
    },
    locality::Locality,
    pool::LocalAddress,
    service::{
        Service,
        ServiceId, //
    },
    stats::Meter, //
};
use core::{
    iter,
    net::IpAddr, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    }, //
};
use rlvs_core::{
    flow::Family,
    rate::Counters,
    sched::Change, //
};

/// There is one of that name.
pub(crate) const SERVICE_EXISTS: Refusal =
    Refusal::new(EEXIST, Subject::Service, c"the service exists already");
/// There is none of that name.
pub(crate) const NO_SERVICE: Refusal = Refusal::new(ESRCH, Subject::Service, c"no such service");
const DEST_EXISTS: Refusal = Refusal::new(
    EEXIST,
    Subject::Member,
    c"the service has that destination already",
);
const NO_DEST: Refusal = Refusal::new(
    ENOENT,
    Subject::Member,
    c"the service has no such destination",
);
const LADDR_EXISTS: Refusal = Refusal::new(
    EEXIST,
    Subject::Member,
    c"the service has that local address already",
);
const NOT_ONE_HOST: Refusal = Refusal::new(
    EINVAL,
    Subject::Member,
    c"the address is not that of a single host",
);
const NO_LADDR: Refusal = Refusal::new(
    ENOENT,
    Subject::Member,
    c"the service has no such local address",
);

impl Config {
    /// Adds a service.
    pub(crate) fn add_service(
        &mut self,
        net: &Net,
        plane: &impl Plane,
        id: ServiceId,
        spec: ServiceSpec,
    ) -> Result<(), Refusal> {
        if self.find(&id).is_some() {
            return Err(SERVICE_EXISTS);
        }
        let locality = Locality::of(spec.kind)?;
        let snapshot = snapshot(&mut self.pools, &id, &spec, &locality, &[], iter::empty())?;
        let room = Room::new()?;
        let service = Service {
            id,
            turn: Atomic::new(0),
            snapshot: RcuPtr::new(snapshot),
        };
        let service = Arc::new(service, GFP_KERNEL)?;
        let added = spec.engine.map(|_| &service);
        let engines = added.map(|_| self.engines(None, added)).transpose()?;
        let now = self.counts();
        let (mut ipv4, mut ipv6) = now;
        match id.family() {
            Family::V4 => ipv4 = ipv4.saturating_add(1),
            Family::V6 => ipv6 = ipv6.saturating_add(1),
        }
        plane.services().insert(service.clone())?;
        if let Err(error) = more(net, plane, now, (ipv4, ipv6)) {
            plane.services().remove(&id);
            return Err(error.into());
        }
        if let ServiceId::Address { addr, .. } = id {
            plane.learn(addr);
        }
        let entry = Entry {
            service,
            spec,
            locality,
            laddrs: KVec::new(),
            members: KVVec::new(),
            meter: Meter::new(Counters::default()),
            retired: Counters::default(),
        };
        self.services.insert(room, entry);
        if let Some(engines) = engines {
            plane.services().set_engines(engines);
        }
        self.changed();
        Ok(())
    }

    /// Changes what is set of a service.
    pub(crate) fn edit_service(
        &mut self,
        plane: &impl Plane,
        id: &ServiceId,
        spec: ServiceSpec,
    ) -> Result<(), Refusal> {
        let entry = self.find(id).ok_or(NO_SERVICE)?;
        let (had, has) = (entry.spec.engine.is_some(), spec.engine.is_some());
        let changed = (had != has).then(|| {
            let with = has.then_some(&entry.service);
            self.engines(Some(id), with)
        });
        let engines = changed.transpose()?;
        let (entry, pools) = self.entry(id)?;
        let change = (spec.kind != entry.spec.kind).then_some(Change::Scheduler);
        let locality = match change {
            None => entry.locality.clone(),
            Some(_) => Locality::of(spec.kind)?,
        };
        let snapshot = snapshot(pools, id, &spec, &locality, &entry.laddrs, entry.dests())?;
        entry.publish(snapshot, change);
        entry.spec = spec;
        entry.locality = locality;
        if let Some(engines) = engines {
            plane.services().set_engines(engines);
        }
        self.changed();
        Ok(())
    }

    /// Deletes a service with its destinations and local addresses. Its connections stay until they
    /// time out.
    pub(crate) fn del_service(
        &mut self,
        net: &Net,
        plane: &impl Plane,
        id: &ServiceId,
    ) -> Result<(), Refusal> {
        let entry = self.find(id).ok_or(NO_SERVICE)?;
        let had = entry.spec.engine;
        let mut plots = Plots::new(entry.members.len())?;
        let engines = had.map(|_| self.engines(Some(id), None)).transpose()?;
        if let Some(engines) = engines {
            plane.services().set_engines(engines);
        }
        if let Some(entry) = self.services.remove(id) {
            self.let_go(plane, &mut plots, entry);
        }
        self.fewer(net, plane);
        Ok(())
    }

    /// Deletes all services.
    pub(crate) fn flush(&mut self, net: &Net, plane: &impl Plane) -> Result<(), Refusal> {
        let members = self.services.iter().map(|entry| entry.members.len());
        let mut plots = Plots::new(members.fold(0, usize::saturating_add))?;
        plane.services().set_engines(None);
        while let Some(entry) = self.services.pop() {
            self.let_go(plane, &mut plots, entry);
        }
        self.fewer(net, plane);
        Ok(())
    }

    /// Has the statistics of one service, or of everything, start from 0.
    pub(crate) fn zero(&mut self, id: Option<&ServiceId>) -> Result<(), Refusal> {
        match id {
            Some(id) => self.entry(id)?.0.zero(),
            None => {
                self.services.iter_mut().for_each(Entry::zero);
                self.collect();
                let total = self.total();
                self.round.meter.zero(total);
            }
        }
        Ok(())
    }

    /// Adds a destination.
    pub(crate) fn add_dest(
        &mut self,
        net: &Net,
        plane: &impl Plane,
        id: &ServiceId,
        addr: IpAddr,
        port: u16,
        spec: DestSpec,
    ) -> Result<(), Refusal> {
        if self.entry(id)?.0.position(addr, port).is_some() {
            return Err(DEST_EXISTS);
        }
        let key = GraveKey {
            id: *id,
            addr,
            port,
        };
        let dest = match self.departed.find(&key) {
            Some(dest) => dest.clone(),
            None if inet::is_one_host(net, addr) => Dest::new(addr, port)?,
            None => return Err(NOT_ONE_HOST),
        };
        let now = self.counts();
        let (entry, pools) = entry(&mut self.services, &mut self.pools, id)?;
        entry.members.reserve(1, GFP_KERNEL)?;
        let dests = Iterator::chain(iter::once((&dest, &spec)), entry.dests());
        let snapshot = snapshot(
            pools,
            id,
            &entry.spec,
            &entry.locality,
            &entry.laddrs,
            dests,
        )?;

        if mixed(id, addr) > 0 {
            // Errors about what goes there come in packets of the other family.
            let both = (now.0.saturating_add(1), now.1.saturating_add(1));
            more(net, plane, now, both)?;
        }
        if let Err(error) = plane.services().add_server(id, &dest) {
            let _ = plane.services_changed(net, now.0, now.1);
            return Err(error.into());
        }

        dest.configure(&spec);
        plane.learn(addr);
        self.mixed = self.mixed.wrapping_add(mixed(id, addr));
        self.numbers = self.numbers.wrapping_add(1);
        entry.members.push_within_capacity(Member {
            dest,
            spec,
            number: self.numbers,
            meter: Meter::new(Counters::default()),
        })?;
        if let Some(member) = entry.members.last_mut() {
            let counted = self.departed.raise(&key, &mut member.meter);
            entry.retired = entry.retired.wrapping_sub(&counted);
        }
        entry.publish(snapshot, Some(Change::Added));
        self.changed();
        Ok(())
    }

    /// Changes what is set of a destination.
    pub(crate) fn edit_dest(
        &mut self,
        id: &ServiceId,
        addr: IpAddr,
        port: u16,
        spec: DestSpec,
    ) -> Result<(), Refusal> {
        let (entry, pools) = self.entry(id)?;
        let at = entry.position(addr, port).ok_or(NO_DEST)?;
        let dests = entry.members().map(|member| {
            let spec = if member.is(addr, port) {
                &spec
            } else {
                &member.spec
            };
            (&member.dest, spec)
        });
        let snapshot = snapshot(
            pools,
            id,
            &entry.spec,
            &entry.locality,
            &entry.laddrs,
            dests,
        )?;
        if let Some(member) = entry.members.get_mut(at) {
            member.spec = spec;
            member.dest.configure(&spec);
        }
        entry.publish(snapshot, Some(Change::Edited));
        self.pools.outdate();
        self.changed();
        Ok(())
    }

    /// Deletes a destination. Its connections stay until they time out.
    pub(crate) fn del_dest(
        &mut self,
        net: &Net,
        plane: &impl Plane,
        id: &ServiceId,
        addr: IpAddr,
        port: u16,
    ) -> Result<(), Refusal> {
        let (entry, pools) = entry(&mut self.services, &mut self.pools, id)?;
        let at = entry.position(addr, port).ok_or(NO_DEST)?;
        let others = entry.members().filter(|member| !member.is(addr, port));
        let dests = others.map(|member| (&member.dest, &member.spec));
        let snapshot = snapshot(
            pools,
            id,
            &entry.spec,
            &entry.locality,
            &entry.laddrs,
            dests,
        )?;
        let mut plots = Plots::new(1)?;

        let member = entry.members.remove(at)?;
        plane.services().remove_server(id, &member.dest);
        let place = entry.members.len().saturating_sub(at);
        entry.publish(snapshot, Some(Change::Removed(place)));
        let counted = self.departed.bury(&mut plots, *id, member);
        self.mixed = self.mixed.wrapping_sub(mixed(id, addr));
        entry.retired = entry.retired.wrapping_add(&counted);
        plane.dismissed();
        self.fewer(net, plane);
        Ok(())
    }

    /// Adds a local address to a service.
    pub(crate) fn add_laddr(
        &mut self,
        net: &Net,
        plane: &impl Plane,
        id: &ServiceId,
        addr: IpAddr,
    ) -> Result<(), Refusal> {
        let number = self.numbers.wrapping_add(1);
        let (entry, pools) = self.entry(id)?;
        if entry.laddrs.iter().any(|laddr| laddr.addr == addr) {
            return Err(LADDR_EXISTS);
        }
        if !inet::is_one_host(net, addr) {
            return Err(NOT_ONE_HOST);
        }
        let laddr = LocalAddress {
            addr,
            number,
            conns: Atomic::new(0),
            exhausted: Atomic::new(0),
        };
        let laddr = Arc::new(laddr, GFP_KERNEL)?;
        let laddrs = copy(Iterator::chain(entry.laddrs.iter(), iter::once(&laddr)))?;
        let snapshot = snapshot(
            pools,
            id,
            &entry.spec,
            &entry.locality,
            &laddrs,
            entry.dests(),
        )?;
        plane.learn(addr);
        entry.laddrs = laddrs;
        entry.publish(snapshot, None);
        self.numbers = number;
        self.changed();
        Ok(())
    }

    /// Takes a local address from a service. Its connections stay.
    pub(crate) fn del_laddr(&mut self, id: &ServiceId, addr: IpAddr) -> Result<(), Refusal> {
        let (entry, pools) = self.entry(id)?;
        if !entry.laddrs.iter().any(|laddr| laddr.addr == addr) {
            return Err(NO_LADDR);
        }
        let laddrs = copy(entry.laddrs.iter().filter(|laddr| laddr.addr != addr))?;
        let snapshot = snapshot(
            pools,
            id,
            &entry.spec,
            &entry.locality,
            &laddrs,
            entry.dests(),
        )?;
        entry.laddrs = laddrs;
        entry.publish(snapshot, None);
        self.pools.outdate();
        self.changed();
        Ok(())
    }

    /// All services with a persistence engine, without that one, and with the other: packets are to find
    /// them. `None` if there are none.
    fn engines(
        &self,
        without: Option<&ServiceId>,
        with: Option<&Arc<Service>>,
    ) -> Result<Option<RcuBox<KVVec<Arc<Service>>>>> {
        let entries = self.services.iter();
        let others = entries.filter(|entry| {
            entry.spec.engine.is_some() && without.is_none_or(|id| entry.id() != id)
        });
        let mut services = KVVec::new();
        for service in Iterator::chain(others.map(|entry| &entry.service), with) {
            services.push(service.clone(), GFP_KERNEL)?;
        }
        if services.is_empty() {
            return Ok(None);
        }
        RcuBox::new(services).map(Some)
    }

    fn entry(&mut self, id: &ServiceId) -> Result<(&mut Entry, &mut Pools), Refusal> {
        entry(&mut self.services, &mut self.pools, id)
    }

    /// Packets do not find the service any more, and its destinations are buried.
    fn let_go(&mut self, plane: &impl Plane, plots: &mut Plots, entry: Entry) {
        let id = *entry.id();
        plane.services().remove(&id);
        self.departed.zero(&id);
        for mut member in entry.members {
            // A service that is added later under the same name starts from 0.
            member.zero();
            plane.services().remove_server(&id, &member.dest);
            self.mixed = self.mixed.wrapping_sub(mixed(&id, member.dest.addr));
            self.departed.bury(plots, id, member);
        }
        plane.dismissed();
    }

    /// Tells the packet path of fewer services or destinations. It cannot refuse: only hooks that are not there
    /// yet can fail.
    fn fewer(&mut self, net: &Net, plane: &impl Plane) {
        let (ipv4, ipv6) = self.counts();
        let _ = plane.services_changed(net, ipv4, ipv6);
        self.pools.outdate();
        self.changed();
    }

    /// How many services there are that want packets of IPv4 and of IPv6. What has a destination of the
    /// other family wants both.
    fn counts(&self) -> (usize, usize) {
        let count = |family| self.services.count(family).saturating_add(self.mixed);
        (count(Family::V4), count(Family::V6))
    }

    fn changed(&mut self) {
        self.generation = self.generation.wrapping_add(1).max(1);
    }
}

/// Tells the packet path of more services or destinations than `now`; if it refuses, of these again.
fn more(net: &Net, plane: &impl Plane, now: (usize, usize), then: (usize, usize)) -> Result {
    plane
        .services_changed(net, then.0, then.1)
        .inspect_err(|_| {
            let _ = plane.services_changed(net, now.0, now.1);
        })
}

/// The service of that name, to be changed, beside the pools.
fn entry<'a>(
    services: &'a mut Services,
    pools: &'a mut Pools,
    id: &ServiceId,
) -> Result<(&'a mut Entry, &'a mut Pools), Refusal> {
    Ok((services.get_mut(id).ok_or(NO_SERVICE)?, pools))
}

/// How many destinations of another family one is in a service.
fn mixed(id: &ServiceId, addr: IpAddr) -> usize {
    usize::from(id.family() != Family::of(addr))
}
