// SPDX-License-Identifier: GPL-2.0

//! A template: which destination the connections of some clients go to, and for how long.
//!
//! It has a table of its own ([`crate::table::TemplateTable`]): what finds a template is no tuple of a
//! packet. It is looked up when a connection is opened and at no other time. A connection holds the
//! template that it was opened by, which does not expire before the connection has ended.

use crate::{
    dest::Dest,
    kapi::{
        hash::{
            Entry,
            Key,
            Seed, //
        },
        time, //
    }, //
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};
use rlvs_core::{
    defence::{
        self,
        Lottery, //
    },
    persist::{
        Engine,
        TemplateKey, //
    },
    sync::{
        Ledger,
        Rules, //
    }, //
};

/// A template in the table. Connections that it controls hold the template beyond that.
pub(crate) type TemplateEntry = Entry<TemplateKey, Arc<Template>, 1>;

impl Key for TemplateKey {
    fn hash(&self, seed: &Seed) -> u32 {
        seed.hash_all(&self.words())
    }
}

/// So much longer a template stays if it has expired and still controls connections, as in mainline.
const EXTENSION: u32 = 60 * time::HZ;

/// Idle for so many jiffies, it may be dropped while memory is short.
const IDLE: u64 = defence::IDLE as u64 * time::HZ as u64;

/// Of [`Template::until`]: nobody wants it any more.
const FORSAKEN: u64 = 0;

/// What a persistence engine has found.
pub(crate) type Found = (Engine, KVec<u8>);

/// A template.
pub(crate) struct Template {
    /// What it is found by.
    pub(crate) key: TemplateKey,
    /// Where connections go.
    pub(crate) dest: Arc<Dest>,
    /// The port there that listings tell; 0 if there are many.
    pub(crate) port: u16,
    /// What it was found by besides addresses.
    pub(crate) found: Option<Found>,
    /// How long it stays once the last connection was opened, in jiffies.
    timeout: u32,
    /// Until then it stays, in jiffies.
    until: Atomic<u64>,
    /// Connections that it controls.
    controls: Atomic<i32>,
    /// A connection of its was established.
    assured: Atomic<bool>,
    /// Packets whose connections were for them alone, as far as that matters.
    packets: Atomic<u32>,
    /// Where the destination stood in the service's snapshot when somebody looked.
    pub(crate) place: Atomic<usize>,
    /// Another director has told of it.
    pub(crate) is_synced: bool,
    /// What others were told of it: a [`Ledger`].
    ledger: Atomic<u64>,
}

impl Template {
    /// A template that stays for `timeout` jiffies. It counts as one of the destination's until it is
    /// dropped.
    pub(crate) fn new(
        key: TemplateKey,
        dest: Arc<Dest>,
        port: u16,
        timeout: u32,
        found: Option<Found>,
    ) -> Self {
        dest.bind_template();
        let this = Self {
            key,
            dest,
            port,
            found,
            timeout,
            until: Atomic::new(0),
            controls: Atomic::new(0),
            assured: Atomic::new(false),
            packets: Atomic::new(0),
            place: Atomic::new(0),
            is_synced: false,
            ledger: Atomic::new(0),
        };
        this.renew();
        this
    }

    /// The same, as another director has told of it.
    pub(crate) fn synced(mut self) -> Self {
        self.is_synced = true;
        self
    }

    /// A connection is opened: it stays for its timeout from now on.
    pub(crate) fn renew(&self) {
        self.extend(self.timeout);
    }

    /// It stays for so many jiffies from now on.
    pub(crate) fn extend(&self, timeout: u32) {
        let until = time::now_long().wrapping_add(timeout.into());
        self.until.store(until, Relaxed);
    }

    /// How long it stays once the last connection was opened, in jiffies.
    pub(crate) fn timeout(&self) -> u32 {
        self.timeout
    }

    /// A packet of a connection of its has passed: are others to be told of it?
    pub(crate) fn is_due(&self, rules: &Rules, now: u32) -> bool {
        let word = self.ledger.load(Relaxed);
        let (ledger, due) = Ledger::unpack(word).packet(rules, None, self.timeout, now);
        // Of two packets at once one is enough.
        self.ledger.cmpxchg(word, ledger.pack(), Relaxed).is_ok() && due
    }

    /// Jiffies that it has left at `now`; `None` if it has expired. While it controls connections it
    /// does not.
    pub(crate) fn left(&self, now: u64) -> Option<u64> {
        let until = self.until.load(Relaxed);
        if let Some(left) = until.checked_sub(now) {
            return Some(left);
        }
        if !self.is_in_control() {
            return None;
        }
        if until != FORSAKEN {
            let longer = now.wrapping_add(EXTENSION.into());
            // Who has renewed it meanwhile, knows better.
            let _ = self.until.cmpxchg(until, longer, Relaxed);
        }
        Some(EXTENSION.into())
    }

    /// A connection of its is dropped, for memory is short: if none was established, it goes with the
    /// last one.
    pub(crate) fn forsake(&self) {
        if !self.is_assured() {
            self.until.store(FORSAKEN, Relaxed);
        }
    }

    /// A packet was sent whose connection is for it alone.
    pub(crate) fn count(&self) {
        let packets = self.packets.load(Relaxed);
        if packets <= Lottery::MOST {
            self.packets.store(packets.wrapping_add(1), Relaxed);
        }
    }

    /// Is it to be dropped, now that memory is short? One that has served single packets is drawn like a
    /// connection, of others one that no connection was established by.
    pub(crate) fn is_to_drop(&self, now: u64, lottery: &mut Lottery) -> bool {
        if self.is_in_control() {
            return false;
        }
        let packets = self.packets.load(Relaxed);
        if packets == 0 {
            return !self.is_assured();
        }
        let left = self.until.load(Relaxed).saturating_sub(now);
        let idle = u64::from(self.timeout).saturating_sub(left);
        idle >= IDLE && lottery.draws(packets)
    }

    /// Does it control connections?
    pub(crate) fn is_in_control(&self) -> bool {
        self.controls.load(Relaxed) > 0
    }

    /// Was a connection of its established?
    pub(crate) fn is_assured(&self) -> bool {
        self.assured.load(Relaxed)
    }

    /// A connection of its is established.
    #[cold]
    pub(crate) fn assure(&self) {
        self.assured.store(true, Relaxed);
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        self.dest.unbind_template();
    }
}

/// A connection's hold on the template that it was opened by.
pub(crate) struct Control(Arc<Template>);

impl Control {
    /// One connection more is controlled by the template.
    pub(crate) fn new(template: &Arc<Template>) -> Self {
        template.controls.add(1, Relaxed);
        Self(template.clone())
    }
}

impl Deref for Control {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.0
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.0.controls.fetch_sub(1, Full);
    }
}
