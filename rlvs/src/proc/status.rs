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
        let entries = conns.len();
        // A lock that is taken within the call would last as long as the call.
        let buckets = conns.buckets(&rcu::read_lock());
        print(
            out,
            Table {
                names: ("Conn", "Conns"),
                entries,
                buckets,
                lfactor: LFACTOR,
                census: (entries > 0)
                    .then(|| census(|bucket, guard| conns.chain_len(bucket, Census::MANY, guard))),
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
                    census(|bucket, guard| services.chain_len(bucket, Census::MANY, guard))
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
fn census(chain: impl Fn(usize, &Guard) -> Option<usize>) -> Census {
    let mut census = Census::default();
    let mut bucket = 0usize;
    loop {
        let guard = rcu::read_lock();
        for _ in 0..BATCH {
            match chain(bucket, &guard) {
                Some(len) => census.count(len),
                None => return census,
            }
            bucket = bucket.wrapping_add(1);
        }
        drop(guard);
        time::cond_resched();
    }
}
