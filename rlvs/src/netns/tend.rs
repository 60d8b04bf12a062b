// SPDX-License-Identifier: GPL-2.0

//! What is done in a namespace from time to time: tables are sized, what has expired is collected, and the
//! configuration goes its rounds.

use super::{
    NetState,
    KICKED,
    PERIOD,
    RESTING, //
};
use crate::{
    config::Step,
    conn::ConnEntry,
    family::Carried,
    kapi::{
        hash::{
            Entry,
            Key,
            Table, //
        },
        mem,
        netns::Net,
        random,
        time,
        work::Deferred, //
    },
    table,
    template::{
        Template,
        TemplateEntry, //
    },
    xmit, //
};
use core::net::{
    Ipv4Addr,
    Ipv6Addr, //
};
use kernel::sync::{
    atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
    rcu, //
};
use rlvs_core::defence::Lottery;

/// The collector passes over the whole table in so many runs, a second each.
const RUNS_PER_PASS: usize = 4;

/// While memory is short, so large a part of a table is looked at every second for what can be dropped.
const DROPS_PER_PASS: usize = 32;

/// Steps of a round of the configuration that are done in one go.
const STEPS: usize = 32;

impl Deferred for NetState {
    /// Runs at least once a second while there is something to do, more often if much is configured.
    fn run(&self, net: &Net) {
        let kicked = self.kicked.load(Relaxed) == KICKED;
        // From the middle of a table on it takes one run more to have seen all of it.
        let runs = match self.orphaned.xchg(false, Full) {
            true => RUNS_PER_PASS.wrapping_add(1),
            false => 1,
        };
        let now = time::now();
        if kicked || runs > 1 || time::until(self.collect_at.load(Relaxed), now, PERIOD) == 0 {
            self.kicked.xchg(0, Full);
            self.collect_at.store(now.wrapping_add(time::HZ), Relaxed);
            self.tend_conns(net, runs);
        }
        let mut busy = true;
        if time::until(self.step_at.load(Relaxed), now, PERIOD) == 0 {
            busy = self.tend_config(now);
        }
        let serving = self.ipv4_hooks.is_registered() || self.ipv6_hooks.is_registered();
        if busy || serving || self.conns_and_templates() > 0 {
            let (now, next) = (time::now(), [&self.collect_at, &self.step_at]);
            let delay = next.map(|at| time::until(at.load(Relaxed), now, PERIOD));
            self.work
                .queue(delay.into_iter().min().unwrap_or(0) as usize);
        }
    }
}

impl NetState {
    /// Looks at memory, sizes the tables, collects what has expired in so many runs.
    fn tend_conns(&self, net: &Net, runs: usize) {
        let available = mem::available_pages();
        self.available.store(available, Relaxed);
        self.settings.defend(available);
        if self.settings.drops_entries() {
            self.drop_entries(net);
        }
        for _ in 0..runs {
            self.tend::<Ipv4Addr>(net);
            self.tend::<Ipv6Addr>(net);
            self.tend_templates();
        }
    }

    /// Sizes and collects the templates.
    fn tend_templates(&self) {
        let orphans = self.settings.expire_nodest_conn();
        let is_over = |entry: &TemplateEntry| {
            let template: &Template = entry;
            let orphan = orphans && !template.dest.is_available() && !template.is_in_control();
            orphan || template.left(time::now_long()).is_none()
        };
        self.tend_table(&self.templates, &self.template_cursor, is_over, |_| {});
    }

    /// Takes out of a part of the tables what is not worth much.
    fn drop_entries(&self, net: &Net) {
        let mut lottery = self.lottery.lock();
        self.drop_conns::<Ipv4Addr>(net, &mut lottery);
        self.drop_conns::<Ipv6Addr>(net, &mut lottery);
        let is_to_drop = |entry: &TemplateEntry| entry.is_to_drop(time::now_long(), &mut lottery);
        drop_some(&self.templates, is_to_drop, |_| {});
    }

    fn drop_conns<A: Carried>(&self, net: &Net, lottery: &mut Lottery) {
        drop_some(
            A::of(&self.conns),
            |entry| entry.is_to_drop(time::now(), lottery),
            |entry| over(net, entry),
        );
    }

    /// Sizes and collects the connections of a family.
    fn tend<A: Carried>(&self, net: &Net) {
        let orphans = self.settings.expire_nodest_conn();
        self.tend_table(
            A::of(&self.conns),
            A::of(&self.cursors),
            |entry| {
                orphans && !entry.dest.is_available()
                    || entry.is_expired(time::now(), &self.timeouts)
            },
            |entry| over(net, entry),
        );
    }

    /// Sizes a table, and takes out of a part of it what is over; tells `ended` of each.
    fn tend_table<K: Key, V: Send + Sync, const N: usize>(
        &self,
        table: &Table<K, V, N>,
        cursor: &Atomic<u32>,
        is_over: impl Fn(&Entry<K, V, N>) -> bool,
        ended: impl Fn(&Entry<K, V, N>),
    ) {
        let (wanted, buckets) = {
            let guard = rcu::read_lock();
            (table.wanted_buckets(&guard), table.buckets(&guard))
        };
        if let Some(wanted) = wanted {
            if table.resize(wanted).is_err() {
                // Without memory the table stays as it is, slower. Nobody may ask again before a
                // second is over.
                self.kicked.store(RESTING, Relaxed);
            }
        }
        let steps = (buckets / RUNS_PER_PASS).saturating_add(1);
        let next = table::collect(table, cursor.load(Relaxed), steps, is_over, ended);
        cursor.store(next, Relaxed);
    }

    /// Goes on with the round of what is configured until its next step is not due yet; false if there
    /// is nothing to do in the next round.
    fn tend_config(&self, now: u32) -> bool {
        let began = self.round_began.load(Relaxed);
        for _ in 0..STEPS {
            // The lock is free in between.
            let step = self.config.lock().step(&self.settings);
            match step {
                Step::Now => time::cond_resched(),
                Step::Slice { done, slices } => {
                    let part = (PERIOD as usize).saturating_mul(done).checked_div(slices);
                    let part = part.unwrap_or(0) as u32;
                    self.step_at.store(began.wrapping_add(part), Relaxed);
                    return true;
                }
                Step::Round { busy, routes } => {
                    self.routes.fit(routes);
                    let next = began.wrapping_add(PERIOD);
                    // Too late for that, or the first round for a long time.
                    let next = match time::until(next, now, PERIOD) {
                        0 => now.wrapping_add(PERIOD),
                        _ => next,
                    };
                    self.round_began.store(next, Relaxed);
                    self.step_at.store(next, Relaxed);
                    return busy;
                }
            }
        }
        // Who waits for the lock is not sure to get it while we ask for it again and again.
        self.step_at.store(time::now().wrapping_add(1), Relaxed);
        true
    }
}

/// Of a connection that has left the table.
fn over<A: Carried>(net: &Net, entry: &ConnEntry<A>) {
    entry.ended();
    xmit::untrack(net, entry);
}

/// Looks at one part of a table, beginning anywhere, and takes out what is to be dropped.
fn drop_some<K: Key, V: Send + Sync, const N: usize>(
    table: &Table<K, V, N>,
    is_to_drop: impl FnMut(&Entry<K, V, N>) -> bool,
    ended: impl Fn(&Entry<K, V, N>),
) {
    let buckets = table.buckets(&rcu::read_lock());
    let steps = buckets.div_ceil(DROPS_PER_PASS);
    table::collect(table, random::u32(), steps, is_to_drop, ended);
}
