// SPDX-License-Identifier: GPL-2.0

//! `ip_vs_status`: how full the tables are.

use super::print;
use crate::{
    config::CHUNK,
    kapi::{
        hash::LFACTOR,
        netns::{
            Net,
            PerNet, //
        },
        proc::Show,
        time, //
    },
    netns::NetState, //
};
use kernel::{
    seq_file::SeqFile,
    sync::rcu::{
        self,
        Guard, //
    }, //
};
use rlvs_core::{
    listing::{
        Census,
        Estimation,
        Table, //
    },
    rate, //
};

/// Buckets that are looked at under one RCU read lock.
const BATCH: usize = 64;

/// The file.
pub(super) struct Status;

impl Show for Status {
    fn show(net: &Net, _record: u64, out: &SeqFile) -> Option<u64> {
        let state = NetState::of(net)?;
        let conns = &state.conns;
        let entries = state.conns_and_templates();
        // A lock that is taken within the call would last as long as the call.
        let buckets = state.conn_table_size() as usize;
        print(
            out,
            Table {
                names: ("Conn", "Conns"),
                entries,
                buckets,
                lfactor: LFACTOR,
                census: (entries > 0).then(|| {
                    let mut all = Census::default();
                    census(&mut all, |at, guard| {
                        conns.v4.chain_len(at, Census::MANY, guard)
                    });
                    if conns.v6.len() > 0 {
                        census(&mut all, |at, guard| {
                            conns.v6.chain_len(at, Census::MANY, guard)
                        });
                    }
                    all
                }),
            },
        );
        let services = &state.services;
        let (entries, slots, estimators) = {
            let config = state.config.lock();
            let round = config.round();
            (config.services(), round.slices, round.members)
        };
        let buckets = services.buckets(&rcu::read_lock());
        print(
            out,
            Table {
                names: ("Service", "Services"),
                entries,
                buckets,
                lfactor: LFACTOR,
                census: (entries > 0).then(|| {
                    let mut all = Census::default();
                    census(&mut all, |at, guard| {
                        services.chain_len(at, Census::MANY, guard)
                    });
                    all
                }),
            },
        );
        print(
            out,
            Estimation {
                slots,
                max_slots: rate::MAX_SLICES,
                chain: CHUNK,
                estimators,
            },
        );
        None
    }
}

/// Counts chains by their length, of all buckets that `chain` tells of. If the table is resized
/// meanwhile, the numbers are of the old and of the new one.
fn census(census: &mut Census, chain: impl Fn(usize, &Guard) -> Option<usize>) {
    let mut bucket = 0usize;
    loop {
        let guard = rcu::read_lock();
        for _ in 0..BATCH {
            match chain(bucket, &guard) {
                Some(len) => census.count(len),
                None => return,
            }
            bucket = bucket.wrapping_add(1);
        }
        drop(guard);
        time::cond_resched();
    }
}
