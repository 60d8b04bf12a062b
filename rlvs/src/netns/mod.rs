// SPDX-License-Identifier: GPL-2.0

//! What rlvs holds in one network namespace.

mod tend;

use crate::{
    config::{
        Config,
        Plane, //
    },
    conn::{
        ConnEntry,
        TimeoutTable,
        ORIGINAL, //
    },
    dest::Dest,
    ext::{
        Counter,
        ExtCounters, //
    },
    family::{
        Both,
        Carried,
        Kind, //
    },
    filter::AddressFilter,
    kapi::{
        family::Defrag6,
        netdev::{
            self,
            Watch,
            Watcher, //
        },
        netfilter::{
            self,
            Hook,
            HookSet, //
        },
        netns::{
            Net,
            PerNet,
            Registration,
            Subsys, //
        },
        random,
        sysctl::{
            self,
            Registered,
            Values, //
        },
        time,
        work::DelayedWork, //
    },
    session::Ftp,
    sysctl::Settings,
    table::{
        Conns,
        ServiceTable,
        TemplateTable, //
    },
    xmit::Routes, //
};
use core::{
    net::{
        IpAddr,
        Ipv4Addr,
        Ipv6Addr, //
    },
    pin::Pin, //
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        rcu::{
            self,
            Guard, //
        },
        Arc,
        Mutex,
        SetOnce, //
    }, //
};
use rlvs_core::{
    defence::Lottery,
    flow::Tuple,
    proto::State,
    rate, //
};

static SUBSYS: Subsys<NetState> = Subsys::new();
static DEVICES: Watch<NetState> = Watch::new();

/// The hooks of a namespace that has services of a family.
pub(crate) struct Hooks {
    /// Of IPv4.
    pub(crate) ipv4: &'static [Hook<NetState>],
    /// Of IPv6.
    pub(crate) ipv6: &'static [Hook<NetState>],
}

/// They are a floor above us.
static HOOKS: SetOnce<&'static Hooks> = SetOnce::new();

/// Makes the state of every namespace, which will have its packets handled by `hooks`.
pub(crate) fn register(hooks: &'static Hooks) -> Result<Registration<NetState>> {
    HOOKS.populate(hooks);
    SUBSYS.register()
}

/// Has devices that go given up; to end before the state of the namespaces.
pub(crate) fn watch_devices() -> Result<netdev::Registration<NetState>> {
    DEVICES.register()
}

impl Watcher for NetState {
    fn gone(net: &Net) {
        if let Some(state) = Self::of(net) {
            state.routes.clear();
        }
    }
}

/// The state of a namespace.
///
/// Fields are dropped in the order in which they stand: the work and the files that look at the
/// others go first.
#[pin_data]
pub(crate) struct NetState {
    #[pin]
    work: DelayedWork<Self>,
    ipv4_hooks: HookSet<Self>,
    ipv6_hooks: HookSet<Self>,
    defrag6: Defrag6,
    /// What an operator has set.
    pub(crate) settings: Arc<Settings>,
    /// Connections.
    pub(crate) conns: Conns,
    /// The destination of connections that have none.
    pub(crate) nowhere: Arc<Dest>,
    /// Where clients of persistent services go.
    pub(crate) templates: TemplateTable,
    /// Services, as packets find them.
    pub(crate) services: ServiceTable,
    /// Which addresses are ours.
    pub(crate) filter: AddressFilter,
    /// How long connections last.
    pub(crate) timeouts: TimeoutTable,
    /// What happened beyond traffic.
    pub(crate) counters: ExtCounters,
    /// Routes to real servers and to clients.
    pub(crate) routes: Routes,
    /// FTP sessions.
    pub(crate) ftp: Arc<Ftp>,
    /// Which synchronisation daemons run: the bits of [`Role`].
    roles: Atomic<i32>,
    /// Services, as operators see them.
    #[pin]
    pub(crate) config: Mutex<Config>,
    /// Which connections are dropped while memory is short.
    #[pin]
    lottery: Mutex<Lottery>,
    /// Where the collection of expired connections goes on.
    cursors: Both<Cursors>,
    /// Where that of templates does.
    template_cursor: Atomic<u32>,
    /// When the collection is due, in jiffies.
    collect_at: Atomic<u32>,
    /// When the round of the configuration has begun, in jiffies.
    round_began: Atomic<u32>,
    /// When its next step is due, in jiffies.
    step_at: Atomic<u32>,
    /// Pages of memory that were available when somebody looked.
    available: Atomic<u64>,
    /// Counts packets of which some are dropped.
    drop_counter: Atomic<u32>,
    /// Whether the work was asked to run at once: 0, or one of the constants below.
    kicked: Atomic<i32>,
    /// Whether connections are to end because their destination was deleted.
    orphaned: Atomic<bool>,
    /// When a shortage was last logged, in jiffies.
    logged: Atomic<u32>,
}

/// What a synchronisation daemon does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Tells others of connections.
    Master = 1,
    /// Takes over the connections that others tell of.
    Backup = 2,
}

/// Of each family the hash where a walk goes on.
struct Cursors;

impl Kind for Cursors {
    type Of<A: Carried> = Atomic<u32>;
}

/// Of `NetState::kicked`: the work was asked to look at the connections at once.
const KICKED: i32 = 1;
/// Of `NetState::kicked`: asking is of no use before the next time it does so by itself.
const RESTING: i32 = 2;

/// How long a round of the configuration takes, in jiffies.
const PERIOD: u32 = rate::PERIOD * time::HZ;

impl NetState {
    /// Packets found the table too small, or something to collect that is worth the haste.
    pub(crate) fn kick(&self) {
        if self.kicked.load(Relaxed) == 0 && self.kicked.xchg(KICKED, Full) == 0 {
            self.work.kick();
        }
    }

    /// How many connections and templates there are.
    pub(crate) fn conns_and_templates(&self) -> usize {
        self.conns.len().saturating_add(self.templates.len())
    }

    /// Are there as many as there may be?
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.conns_and_templates() >= self.settings.conn_max()
    }

    /// Is this packet, which would open a connection, one to be dropped?
    #[inline]
    pub(crate) fn is_to_drop(&self) -> bool {
        match self.settings.drop_rate(|| self.available.load(Relaxed)) {
            0 => false,
            // An exact count is not worth more: two CPUs may take the same number.
            rate => self.drop_counter.fetch_add(1, Relaxed).checked_rem(rate) == Some(0),
        }
    }

    /// The connection whose answers go to the client past the balancer, but are seen here, since its real
    /// server is this host, say. `tuple` is that of an answer.
    #[inline]
    pub(crate) fn unasked<'g, A: Carried>(
        &'g self,
        tuple: &Tuple<A>,
        now: u32,
        guard: &'g Guard,
    ) -> Option<&'g ConnEntry<A>> {
        match self.filter.has(tuple.src) {
            true => self.passing(tuple, now, guard),
            false => None,
        }
    }

    #[cold]
    fn passing<'g, A: Carried>(
        &'g self,
        tuple: &Tuple<A>,
        now: u32,
        guard: &'g Guard,
    ) -> Option<&'g ConnEntry<A>> {
        let hit = A::of(&self.conns).find(&tuple.reversed(), guard)?;
        let unasked = hit.index == ORIGINAL
            && !hit.entry.is_rewritten()
            && !hit.entry.is_expired(now, &self.timeouts);
        unasked.then_some(hit.entry)
    }

    /// A synchronisation daemon begins or ends its work. The caller is alone.
    pub(crate) fn set_role(&self, role: Role, on: bool) {
        let roles = self.roles.load(Relaxed) & !(role as i32);
        self.roles
            .store(roles | if on { role as i32 } else { 0 }, Relaxed);
    }

    /// Does a synchronisation daemon run?
    pub(crate) fn is_synchronised(&self) -> bool {
        self.roles.load(Relaxed) != 0
    }

    /// Are others told of connections?
    #[inline]
    pub(crate) fn is_master(&self) -> bool {
        self.roles.load(Relaxed) & Role::Master as i32 != 0
    }

    /// Does this host only take over connections, to have them when another one fails?
    #[inline]
    pub(crate) fn is_standby(&self) -> bool {
        self.settings.backup_only() && self.roles.load(Relaxed) & Role::Backup as i32 != 0
    }

    /// Has packets of a family looked at while there are services that want them.
    fn serve<A: Carried>(&self, net: &Net, hooks: &HookSet<Self>, services: usize) -> Result {
        if services == 0 {
            hooks.unregister(net);
            return Ok(());
        }
        self.routes.open::<A>()?;
        hooks.register(net)?;
        self.work.queue(time::HZ as usize);
        Ok(())
    }

    /// Is a packet, found under the key with that index or under none, left to the host itself, which only takes
    /// over connections? What real servers answer is not: who has asked them through this host waits for it.
    #[inline]
    pub(crate) fn leaves(&self, index: Option<u8>) -> bool {
        self.is_standby() && index.is_none_or(|index| index == ORIGINAL)
    }

    /// There are connections to look after: sooner or later is soon enough.
    pub(crate) fn tend_later(&self) {
        self.work.queue(time::HZ as usize);
    }

    /// How many buckets the larger table of connections has now: programs know of one.
    pub(crate) fn conn_table_size(&self) -> u32 {
        let guard = rcu::read_lock();
        let (v4, v6) = (self.conns.v4.buckets(&guard), self.conns.v6.buckets(&guard));
        u32::try_from(v4.max(v6)).unwrap_or(u32::MAX)
    }

    /// Sets timeouts, in seconds; 0 leaves one as it is.
    pub(crate) fn set_timeouts(&self, tcp: u32, fin: u32, udp: u32) {
        for (state, seconds) in [
            (State::Established, tcp),
            (State::FinWait, fin),
            (State::Udp, udp),
        ] {
            if seconds > 0 {
                self.timeouts.set(state, seconds);
            }
        }
    }

    /// Counts a new connection that found no local port, and logs it once a second at most.
    pub(crate) fn exhausted(&self) {
        self.counters.count(Counter::LaddrExhausted);
        let (now, last) = (time::now(), self.logged.load(Relaxed));
        if now.wrapping_sub(last) >= time::HZ && self.logged.cmpxchg(last, now, Relaxed).is_ok() {
            pr_warn!("no local address has a free port: add local addresses (rlvsadm -P)\n");
            self.kick();
        }
    }
}

impl PerNet for NetState {
    const SUBSYS: &'static Subsys<Self> = &SUBSYS;

    fn new(_net: &Net) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            work <- DelayedWork::new(),
            ipv4_hooks: HookSet::new(HOOKS.copy().map_or(&[], |hooks| hooks.ipv4)),
            ipv6_hooks: HookSet::new(HOOKS.copy().map_or(&[], |hooks| hooks.ipv6)),
            defrag6: Defrag6::new(),
            settings: Settings::new(
                Self::of(Net::first()).map(|first| &*first.settings),
            )?,
            conns: Conns::new()?,
            nowhere: Dest::nowhere()?,
            templates: TemplateTable::new()?,
            services: ServiceTable::new()?,
            filter <- AddressFilter::new(random::u32()),
            timeouts: TimeoutTable::new(),
            counters: ExtCounters::new()?,
            routes: Routes::new()?,
            ftp: Ftp::new()?,
            roles: Atomic::new(0),
            config <- new_mutex!(Config::new()?),
            lottery <- new_mutex!(Lottery::default()),
            cursors: Both {
                v4: Atomic::new(0),
                v6: Atomic::new(0),
            },
            template_cursor: Atomic::new(0),
            collect_at: Atomic::new(time::now()),
            round_began: Atomic::new(time::now()),
            step_at: Atomic::new(time::now().wrapping_add(PERIOD)),
            available: Atomic::new(u64::MAX),
            drop_counter: Atomic::new(1),
            kicked: Atomic::new(0),
            orphaned: Atomic::new(false),
            logged: Atomic::new(time::now().wrapping_sub(time::HZ)),
        }? Error)
    }

    fn ready(self: Pin<&Self>, net: &Net) {
        self.work.bind(self, net);
    }

    fn pre_exit(self: Pin<&Self>, net: &Net) {
        self.ipv4_hooks.unregister(net);
        self.ipv6_hooks.unregister(net);
        self.defrag6.disable(net);
        self.work.stop();
    }

    fn exit(self: Pin<&Self>, net: &Net) {
        netfilter::drop_queued(net);
    }
}

impl Plane for NetState {
    fn services(&self) -> &ServiceTable {
        &self.services
    }

    fn learn(&self, addr: IpAddr) {
        self.filter.add(addr);
    }

    fn services_changed(&self, net: &Net, ipv4: usize, ipv6: usize) -> Result {
        if ipv6 > 0 {
            self.defrag6.enable(net)?;
        }
        self.serve::<Ipv4Addr>(net, &self.ipv4_hooks, ipv4)?;
        self.serve::<Ipv6Addr>(net, &self.ipv6_hooks, ipv6)?;
        if ipv6 == 0 {
            self.defrag6.disable(net);
        }
        // Connections outlive their services, and packets of theirs must find them again.
        if ipv4 == 0 && ipv6 == 0 && self.conns.len() == 0 {
            self.filter.clear();
        }
        Ok(())
    }

    fn dismissed(&self) {
        if self.settings.expire_nodest_conn() {
            self.orphaned.store(true, Relaxed);
            self.work.kick();
        }
    }
}

/// To register it is to make the files; [`NetState`] must be there first.
static SYSCTLS: Subsys<Registered<Settings>> = Subsys::new();

impl Values for Settings {
    const PATH: &'static CStr = c"net/ipv4/vs";
    const ENTRIES: &'static [sysctl::Entry<Self>] = Self::ENTRIES;
    const SUBSYS: &'static Subsys<Registered<Self>> = &SYSCTLS;

    fn of(net: &Net) -> Option<Arc<Self>> {
        NetState::of(net).map(|state| state.settings.clone())
    }
}
