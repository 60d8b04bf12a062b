// SPDX-License-Identifier: GPL-2.0

//! A connection: what a packet needs of it, and how long it lasts.
//!
//! A connection has no timer and no reference count. Packets note when it was last used; it has
//! expired once it was idle for longer than its state allows, whoever looks, and a periodic work
//! collects it. What is read and written for each packet shares a cache line with the keys.
//!
//! By FullNAT and NAT the real server's packets come back here, so there is a key for them. By every
//! other method they do not.

mod timeouts;
mod word;

pub(crate) use timeouts::TimeoutTable;

use crate::{
    dest::Dest,
    family::Carried,
    kapi::{
        bh::BhDisabled,
        hash::{
            Entry,
            Key,
            Seed, //
        },
        time, //
    },
    pool::Lease,
    session::{
        Member,
        Part,
        Session, //
    },
    template::{
        Control,
        Template, //
    }, //
};
use kernel::{
    alloc::KBox,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    defence::{
        self,
        Lottery,
        Worth, //
    },
    flow::{
        Direction,
        Tuple, //
    },
    proto::{
        State, //
    },
    sync::{
        Ledger,
        Rules, //
    },
    wire::headers::Segment, //
};
use word::{
    Flags,
    Word, //
};

/// A connection in the table: under the tuple of the client's packets, then under that of the real
/// server's, each as it comes to the director.
pub(crate) type ConnEntry<A> = Entry<Tuple<A>, Conn, 2>;

/// The index of the key of the client's packets; the real server's is the other one.
pub(crate) const ORIGINAL: u8 = 0;

/// Instead of it, of the packet that has just opened the connection.
pub(crate) const OPENED: u8 = 2;

impl<A: Carried> Key for Tuple<A> {
    #[inline]
    fn hash(&self, seed: &Seed) -> u32 {
        seed.hash_all(A::words(self).as_ref())
    }
}

/// How the packets of a connection reach the real server.
pub(crate) enum Via {
    /// With another destination address.
    Nat,
    /// With another source address, too: a local one.
    FullNat(Lease),
    /// As they are, from this host's network to its.
    Direct,
    /// In other packets.
    Tunnel,
    /// They do not leave this host.
    Local,
    /// To no real server at all: where they wanted to go.
    Bypass,
}

impl Via {
    /// Do the server's packets pass elsewhere, or unseen? Mainline makes an exception of the last one.
    #[inline]
    fn is_one_way(&self) -> bool {
        matches!(self, Self::Direct | Self::Tunnel | Self::Local)
    }

    /// What stands of it in the word.
    #[inline]
    fn flag(&self) -> Flags {
        match self {
            Self::Nat => Flags::default(),
            Self::FullNat(_) => Flags::FULLNAT,
            Self::Direct => Flags::DIRECT,
            Self::Tunnel => Flags::TUNNEL,
            Self::Local | Self::Bypass => Flags::UNSENT,
        }
    }
}

/// What else a connection is from its beginning on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traits(Flags);

impl Traits {
    /// The client's address is to travel along.
    #[inline]
    pub(crate) fn toa(self, on: bool) -> Self {
        Self(self.0.with_if(Flags::TOA, on))
    }

    /// conntrack keeps it, too.
    #[inline]
    pub(crate) fn tracked(self, on: bool) -> Self {
        Self(self.0.with_if(Flags::TRACKED, on))
    }

    /// Another director has told of it.
    pub(crate) fn synced(self) -> Self {
        Self(self.0.with(Flags::SYNCED))
    }
}

/// A connection; the table holds its tuples.
///
/// What every packet needs stands first: for IPv4 it is in one cache line with the tuples.
#[repr(C)]
pub(crate) struct Conn {
    /// Its state, and what most packets ask for.
    word: Word,
    /// When a packet was last seen, in jiffies, late by up to [`GRAIN`].
    seen: Atomic<u32>,
    /// Where it goes.
    pub(crate) dest: Arc<Dest>,
    /// How its packets get there.
    pub(crate) via: Via,
    /// The template that it was opened by.
    control: Option<Control>,
    /// The FTP session that it belongs to.
    member: Option<KBox<Member>>,
    /// What others were told of it, a [`Ledger`]; while it is `HEARD`, how long it lasts, in jiffies.
    sync: Atomic<u64>,
}

/// Its packets go as they are, or nowhere.
const NOT_REWRITTEN: Flags = Flags::DIRECT.with(Flags::TUNNEL).with(Flags::UNSENT);

/// Something is to be decided about its packets.
const NOT_PLAIN: Flags = Flags::TOA
    .with(Flags::TRACKED)
    .with(Flags::CONTROL)
    .with(Flags::HEARD)
    .with(Flags::WATCHED)
    .with(Flags::UNSENT);

/// Uses closer together than this many jiffies are not told apart, so that a busy connection's
/// line stays clean.
const GRAIN: u32 = time::HZ / 4;

/// Idle for so many jiffies, it may be dropped while memory is short.
const IDLE: u32 = defence::IDLE * time::HZ;

impl Conn {
    /// A connection to `dest` in its first state. It counts as one of the destination's until it has
    /// [`ended`](Self::ended) or is dropped.
    #[inline]
    pub(crate) fn new(
        dest: Arc<Dest>,
        state: State,
        via: Via,
        traits: Traits,
        control: Option<Control>,
    ) -> Self {
        dest.bind();
        let unassured = match &control {
            Some(template) if !template.is_assured() => Flags::UNASSURED,
            _ => Flags::default(),
        };
        Self {
            word: Word::new(state, traits.0.with(via.flag()).with(unassured)),
            seen: Atomic::new(time::now()),
            dest,
            via,
            control,
            member: None,
            sync: Atomic::new(0),
        }
    }

    /// Was it opened by a template?
    #[inline]
    pub(crate) fn is_controlled(&self) -> bool {
        self.control.is_some()
    }

    /// The template that it was opened by.
    pub(crate) fn template(&self) -> Option<&Template> {
        self.control.as_deref()
    }

    /// Has another director told of it?
    pub(crate) fn is_synced(&self) -> bool {
        self.word.now().has(Flags::SYNCED)
    }

    /// Something else than its packets, another director say, has told in which state it is, and how long it
    /// lasts, in jiffies, 0 if not.
    pub(crate) fn hear(&self, state: State, lasts: u32, now: u32) {
        self.update(|_| state);
        self.seen.store(now, Relaxed);
        self.sync.store(lasts.into(), Relaxed);
        if lasts == 0 {
            self.word.clear(Flags::HEARD);
        } else {
            self.word.set(Flags::HEARD);
        }
    }

    /// Others are to be told of it, or no longer. They have no word for FullNAT.
    pub(crate) fn watch(&self, on: bool) {
        match on {
            true if !self.is_fullnat() => {
                self.word.set(Flags::WATCHED);
            }
            _ => self.word.clear(Flags::WATCHED),
        }
    }

    /// Does another director matter to its packets?
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.word.now().has(Flags::HEARD.with(Flags::WATCHED))
    }

    /// A packet has passed: here is where it is known now how long it lasts.
    pub(crate) fn unhear(&self) {
        if self.word.now().has(Flags::HEARD) {
            self.word.clear(Flags::HEARD);
            self.sync.store(Ledger::default().pack(), Relaxed);
        }
    }

    /// A packet of the client's has passed: what others know now, if they are to be told of it at all, and
    /// whether they are to be told of this.
    pub(crate) fn is_due(
        &self,
        rules: &Rules,
        now: u32,
        timeouts: &TimeoutTable,
    ) -> Option<(Ledger, bool)> {
        if !self.word.now().has(Flags::WATCHED) {
            return None;
        }
        let state = self.state();
        let word = self.sync.load(Relaxed);
        let (ledger, due) =
            Ledger::unpack(word).packet(rules, Some(state), timeouts.jiffies(state), now);
        // Of two packets at once one is enough.
        let first = self.sync.cmpxchg(word, ledger.pack(), Relaxed).is_ok();
        Some((ledger, due && first))
    }

    /// It is one of an FTP session.
    pub(crate) fn join(&mut self, member: KBox<Member>) {
        if member.part() == Part::Control {
            self.word.set(Flags::CONTROL);
        }
        self.member = Some(member);
    }

    /// Is it the control connection of an FTP session?
    #[inline]
    pub(crate) fn is_control(&self) -> bool {
        self.word.now().has(Flags::CONTROL)
    }

    /// The FTP session that it belongs to.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.member.as_deref().map(Member::session)
    }

    /// What it is of a session, if its client is awaited.
    pub(crate) fn awaited(&self) -> Option<&Member> {
        let member = self.member.as_deref();
        member.filter(|member| member.part() == Part::Awaited)
    }

    /// Waits for the first packet, as if it were new.
    pub(crate) fn listen(&self, now: u32) {
        self.seen.store(now, Relaxed);
        self.update(|_| State::Listen);
    }

    /// Is the source rewritten too?
    #[inline]
    pub(crate) fn is_fullnat(&self) -> bool {
        self.word.now().has(Flags::FULLNAT)
    }

    /// Do its packets reach the server as they are, from this host's network?
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.word.now().has(Flags::DIRECT)
    }

    /// Do its packets reach the server in other packets?
    #[inline]
    pub(crate) fn is_tunneled(&self) -> bool {
        self.word.now().has(Flags::TUNNEL)
    }

    /// Are its packets given other addresses, so that the answers must pass here?
    #[inline]
    pub(crate) fn is_rewritten(&self) -> bool {
        !self.word.now().has(NOT_REWRITTEN)
    }

    /// Is nothing to be decided about its packets: are they given other addresses, another next hop, or
    /// other headers in front?
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.word.now().has(NOT_PLAIN)
    }

    /// Will its template have to be told once it is established?
    #[inline]
    pub(crate) fn is_unassured(&self) -> bool {
        self.word.now().has(Flags::UNASSURED)
    }

    /// The state it is in.
    #[inline]
    pub(crate) fn state(&self) -> State {
        self.word.now().state()
    }

    /// Is it established, as one of TCP?
    #[inline]
    pub(crate) fn is_established(&self) -> bool {
        self.word.now().is(State::Established)
    }

    /// Is only the client's half of it seen?
    #[inline]
    pub(crate) fn is_one_way(&self) -> bool {
        self.via.is_one_way() && !self.word.now().has(Flags::ANSWERED)
    }

    /// Notes that the other half is seen too, though nothing is to be done about it.
    pub(crate) fn answered(&self) {
        self.word.set(Flags::ANSWERED);
    }

    /// Notes that no packet finds it any more: destinations are chosen by what is left.
    pub(crate) fn ended(&self) {
        let was = self.word.set(Flags::ENDED);
        if !was.has(Flags::ENDED) {
            self.dest.unbind(was.state().is_active());
        }
    }

    /// Does conntrack keep it, too?
    #[inline]
    pub(crate) fn is_tracked(&self) -> bool {
        self.word.now().has(Flags::TRACKED)
    }

    /// Do the client's packets carry its address?
    #[inline]
    pub(crate) fn carries_toa(&self) -> bool {
        self.word.now().has(Flags::TOA)
    }

    /// Notes a packet of so many bytes that does nothing to the state: counts it, and takes down its time.
    #[inline(always)]
    pub(crate) fn passed(&self, direction: Direction, bytes: u32, now: u32, bh: &BhDisabled) {
        self.count(direction, bytes, bh);
        if direction == Direction::Original {
            self.word.count();
        }
        if now.wrapping_sub(self.seen.load(Relaxed)) >= GRAIN {
            self.seen.store(now, Relaxed);
        }
    }

    /// Notes any packet: takes the state a step, too. `secure` tells whether `secure_tcp` is active.
    #[inline]
    pub(crate) fn saw(
        &self,
        direction: Direction,
        bytes: u32,
        segment: &Segment,
        now: u32,
        secure: impl FnOnce() -> bool,
        bh: &BhDisabled,
    ) {
        self.passed(direction, bytes, now, bh);
        if segment.has_states() {
            let (one_way, secure) = (self.is_one_way(), secure());
            self.update(|state| segment.step(state, direction, one_way, secure));
        } else if direction == Direction::Reply && self.is_unassured() {
            self.assure();
        }
    }

    /// Is it to be dropped, now that memory is short?
    pub(crate) fn is_to_drop(&self, now: u32, lottery: &mut Lottery) -> bool {
        let drop = match defence::worth(self.state()) {
            Worth::Nothing => true,
            Worth::Little => self.idle(now) >= IDLE && lottery.draws(self.word.packets()),
            Worth::Much => false,
        };
        if let Some(template) = self.control.as_ref().filter(|_| drop) {
            template.forsake();
        }
        drop
    }

    /// It is established: so its template is not forgotten with the first connection that is.
    #[cold]
    fn assure(&self) {
        if let Some(template) = &self.control {
            template.assure();
        }
        self.word.clear(Flags::UNASSURED);
    }

    /// Counts a packet of so many bytes. What the server of a deleted destination still sends is not
    /// counted, as in mainline: its service does not take it over.
    #[inline]
    pub(crate) fn count(&self, direction: Direction, bytes: u32, bh: &BhDisabled) {
        if direction == Direction::Original || self.dest.is_available() {
            self.dest.traffic.packet(direction, bytes, bh);
        }
    }

    /// The server has answered with data: it knows the client by now.
    #[inline]
    pub(crate) fn server_spoke(&self) {
        self.word.clear(Flags::TOA);
    }

    /// Takes the state a step; counts a change once.
    #[inline]
    fn update(&self, step: impl Fn(State) -> State) {
        let Some((was, new)) = self.word.step(step) else {
            return;
        };
        if was.state().is_active() != new.is_active() {
            self.dest.set_active(new.is_active());
        }
        if new.is_established() && was.has(Flags::UNASSURED) {
            self.assure();
        }
    }

    /// Seconds until it expires if no packet comes; `None` if it has expired.
    pub(crate) fn expires_in(&self, now: u32, timeouts: &TimeoutTable) -> Option<u32> {
        let left = self.lasts(timeouts).checked_sub(self.idle(now));
        let left = left.or_else(|| self.is_needed().then_some(0))?;
        Some(left / time::HZ)
    }

    /// Has it been idle for longer than its state allows?
    #[inline(always)]
    pub(crate) fn is_expired(&self, now: u32, timeouts: &TimeoutTable) -> bool {
        let idle = self.idle(now);
        // No timeout is that short.
        idle >= GRAIN && idle > self.lasts(timeouts) && !self.is_needed()
    }

    /// How long it may be idle, in jiffies.
    #[inline]
    fn lasts(&self, timeouts: &TimeoutTable) -> u32 {
        let told = match self.word.now().has(Flags::HEARD) {
            false => 0,
            true => self.told(),
        };
        match told {
            0 => timeouts.jiffies(self.state()),
            told => told,
        }
    }

    /// How long it lasts, as it was said; 0 if a packet has passed just now, and there is a ledger.
    #[cold]
    fn told(&self) -> u32 {
        u32::try_from(self.sync.load(Relaxed)).unwrap_or(0)
    }

    /// Do other connections need it? Then it lasts, idle or not.
    #[cold]
    fn is_needed(&self) -> bool {
        self.member.as_deref().is_some_and(Member::is_needed)
    }

    /// Jiffies since the last packet. Another CPU may have seen one since the caller looked at the
    /// clock: then none.
    #[inline(always)]
    fn idle(&self, now: u32) -> u32 {
        let idle = now.wrapping_sub(self.seen.load(Relaxed));
        if idle > u32::MAX / 2 {
            0
        } else {
            idle
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.ended();
    }
}
