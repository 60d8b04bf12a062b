// SPDX-License-Identifier: GPL-2.0

//! One service of the configuration.

use super::{
    departed::Departed,
    pools::Pools, //
};
use crate::{
    dest::{
        self,
        Dest,
        DestSpec, //
    },
    kapi::rcu::RcuBox,
    locality::Locality,
    pool::LocalAddress,
    service::{
        Method,
        Persistence,
        Service,
        ServiceId,
        Slot,
        Snapshot, //
    },
    stats::{
        Meter,
        Stats, //
    },
    sysctl::Settings, //
};
use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        rcu,
        Arc, //
    }, //
};
use rlvs_core::{
    persist::{
        Engine,
        Rules, //
    },
    rate::Counters,
    sched::{
        Change,
        Kind,
        Sched,
        Setup,
        NOBODY, //
    },
    uapi::{
        method,
        svc_flag, //
    }, //
};

/// What an operator sets of a service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceSpec {
    /// Its scheduler; `None` schedules nothing.
    pub(crate) kind: Option<Kind>,
    /// Of [`rlvs_core::uapi::svc_flag`], and what else was set there.
    pub(crate) flags: u32,
    /// Persistence timeout in jiffies.
    pub(crate) timeout_jiffies: u32,
    /// Persistence netmask, or the length of a prefix of IPv6 in host order; as it stands in the
    /// message.
    pub(crate) netmask: [u8; 4],
    /// Its persistence engine.
    pub(crate) engine: Option<Engine>,
}

impl ServiceSpec {
    /// What it is to do about clients that come again, as the service of that name.
    fn persistence(&self, id: &ServiceId) -> Option<Persistence> {
        if self.flags & svc_flag::PERSISTENT == 0 {
            return None;
        }
        Some(Persistence {
            rules: Rules {
                mark: match *id {
                    ServiceId::Mark { mark, .. } => Some(mark),
                    ServiceId::Address { .. } => None,
                },
                port: id.port(),
                netmask: self.netmask,
            },
            engine: self.engine,
            timeout: self.timeout_jiffies,
        })
    }

    /// The port of a destination that local ports are unique for; 0 if its connections go to many.
    pub(super) fn server_port(&self, id: &ServiceId, port: u16) -> u16 {
        if self.flags & svc_flag::PERSISTENT != 0 && id.port() == 0 {
            0
        } else {
            port
        }
    }
}

/// A destination of a service.
pub(crate) struct Member {
    /// What packets know of it.
    pub(crate) dest: Arc<Dest>,
    /// What an operator has set.
    pub(crate) spec: DestSpec,
    /// No other destination has had that number, and younger ones have larger ones.
    pub(crate) number: u64,
    pub(super) meter: Meter,
}

impl Member {
    /// What is shown of its traffic.
    pub(crate) fn stats(&self) -> Stats {
        self.meter.stats(&self.dest.traffic.total())
    }

    pub(super) fn is(&self, addr: IpAddr, port: u16) -> bool {
        self.dest.addr == addr && self.dest.port == port
    }

    pub(super) fn zero(&mut self) {
        self.meter.zero(self.dest.traffic.total());
    }
}

/// A service.
pub(crate) struct Entry {
    pub(super) service: Arc<Service>,
    pub(super) spec: ServiceSpec,
    /// Its scheduler's memory of addresses.
    pub(super) locality: Option<Arc<Locality>>,
    pub(super) laddrs: KVec<Arc<LocalAddress>>,
    pub(super) members: KVVec<Member>,
    pub(super) meter: Meter,
    /// What destinations had counted when the service let them go.
    pub(super) retired: Counters,
}

impl Entry {
    /// Its name.
    pub(crate) fn id(&self) -> &ServiceId {
        &self.service.id
    }

    /// What an operator has set.
    pub(crate) fn spec(&self) -> &ServiceSpec {
        &self.spec
    }

    /// Its destinations, youngest first as mainline has them.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().rev()
    }

    /// Its local addresses, oldest first.
    pub(crate) fn laddrs(&self) -> &[Arc<LocalAddress>] {
        &self.laddrs
    }

    /// What is shown of its traffic.
    pub(crate) fn stats(&self) -> Stats {
        self.meter.stats(&self.total())
    }

    fn total(&self) -> Counters {
        self.members.iter().fold(self.retired, |sum, member| {
            sum.wrapping_add(&member.dest.traffic.total())
        })
    }

    pub(super) fn position(&self, addr: IpAddr, port: u16) -> Option<usize> {
        self.members.iter().position(|member| member.is(addr, port))
    }

    /// The destinations with their settings, as a snapshot wants them.
    pub(super) fn dests(&self) -> impl Iterator<Item = (&Arc<Dest>, &DestSpec)> {
        self.members().map(|member| (&member.dest, &member.spec))
    }

    pub(super) fn zero(&mut self) {
        self.members.iter_mut().for_each(Member::zero);
        self.meter.zero(self.total());
    }

    /// Has its counters collected, and if `estimate`, takes them for the end of a period.
    pub(super) fn update(&mut self, departed: &mut Departed, estimate: bool) {
        let mut total = self.retired;
        for member in self.members.iter_mut() {
            let counted = departed.collect(&member.dest);
            total = total.wrapping_add(&counted);
            if estimate {
                member.meter.update(counted);
            }
        }
        if estimate {
            self.meter.update(total);
        }
    }

    /// Has the scheduler forget what it remembers of addresses and should not any more.
    pub(super) fn tend_locality(&self, settings: &Settings) {
        let Some(locality) = &self.locality else {
            return;
        };
        let guard = rcu::read_lock();
        if let Some(snapshot) = self.service.snapshot.load(&guard) {
            let expiration = settings.locality_expiration(locality.kind());
            locality.tend(&snapshot.slots, expiration, &guard);
        }
        drop(guard);
        locality.resize();
    }

    /// Publishes a snapshot. If it is to the scheduler that there is a change, its turn follows; of two
    /// packets that come in between one may have somebody else's.
    pub(super) fn publish(&self, snapshot: RcuBox<Snapshot>, change: Option<Change>) {
        if let (Some(sched), Some(change)) = (&snapshot.sched, change) {
            let turn = sched.turn_after(self.service.turn.load(Relaxed), change);
            self.service.turn.store(turn, Relaxed);
        }
        drop(self.service.snapshot.replace(Some(snapshot)));
    }
}

/// Makes what a service is to publish, from its settings as they will be. `dests` are the youngest
/// first.
pub(super) fn snapshot<'a>(
    pools: &mut Pools,
    id: &ServiceId,
    spec: &ServiceSpec,
    locality: &Option<Arc<Locality>>,
    laddrs: &[Arc<LocalAddress>],
    dests: impl Iterator<Item = (&'a Arc<Dest>, &'a DestSpec)>,
) -> Result<RcuBox<Snapshot>> {
    let (least, most) = dests.size_hint();
    let mut slots = KVVec::with_capacity(most.unwrap_or(least), GFP_KERNEL)?;
    for (dest, set) in dests {
        let has_laddrs = !laddrs.is_empty();
        let method = match set.method {
            method if dest::fullnat(method, has_laddrs) => {
                let port = spec.server_port(id, dest.port);
                Method::FullNat(pools.ports(id, dest.addr, port, laddrs)?)
            }
            method::MASQ => Method::Nat,
            method::TUNNEL => Method::Tunnel,
            method::DROUTE => Method::Direct,
            method::BYPASS => Method::Bypass,
            // And the numbers that nobody has given a meaning: mainline leaves their packets to this host.
            _ => Method::Local,
        };
        let slot = Slot {
            dest: dest.clone(),
            weight: set.weight,
            last_weight: dest.last_weight_with(set.weight),
            method,
        };
        slots.push(slot, GFP_KERNEL)?;
    }
    let len = spec.kind.map_or(0, |kind| kind.table_len(slots.len()));
    let mut table = KVVec::with_capacity(len, GFP_KERNEL)?;
    for _ in 0..len {
        table.push(NOBODY, GFP_KERNEL)?;
    }
    let setup = Setup {
        family: id.family(),
        flags: spec.flags,
    };
    RcuBox::new(Snapshot {
        sched: spec
            .kind
            .map(|kind| Sched::prepare(kind, setup, &slots, &mut table)),
        table,
        locality: locality.clone(),
        one_packet: spec.flags & svc_flag::ONEPACKET != 0,
        persistence: spec.persistence(id),
        slots,
    })
}

/// A list of the same local addresses.
pub(super) fn copy<'a>(
    laddrs: impl Iterator<Item = &'a Arc<LocalAddress>>,
) -> Result<KVec<Arc<LocalAddress>>> {
    let mut copy = KVec::new();
    for laddr in laddrs {
        copy.push(laddr.clone(), GFP_KERNEL)?;
    }
    Ok(copy)
}
