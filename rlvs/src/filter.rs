// SPDX-License-Identifier: GPL-2.0

//! Which packets cannot be ours: a small filter over the addresses of services, real servers and
//! local addresses, asked before anything is hashed.

use core::net::IpAddr;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use pin_init::init_array_from_fn;
use rlvs_core::{
    filter,
    flow::Address, //
};

/// The filter of a namespace. It may say yes too often, never no.
pub(crate) struct AddressFilter {
    seed: u32,
    words: [Atomic<u64>; filter::WORDS],
}

impl AddressFilter {
    /// A filter that knows no address.
    pub(crate) fn new(seed: u32) -> impl Init<Self> {
        init!(Self {
            seed,
            words <- init_array_from_fn(|_| Atomic::new(0)),
        })
    }

    /// Lets an address through from now on. Any context.
    pub(crate) fn add(&self, addr: IpAddr) {
        let (word, bit) = match addr {
            IpAddr::V4(addr) => filter::slot(addr, self.seed),
            IpAddr::V6(addr) => filter::slot(addr, self.seed),
        };
        if let Some(word) = self.words.get(word) {
            let mut seen = word.load(Relaxed);
            while seen & bit == 0 {
                match word.cmpxchg(seen, seen | bit, Relaxed) {
                    Ok(_) => return,
                    Err(now) => seen = now,
                }
            }
        }
    }

    /// Forgets all addresses.
    pub(crate) fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Might the address be one of ours?
    #[inline]
    pub(crate) fn has<A: Address>(&self, addr: A) -> bool {
        let (word, bit) = filter::slot(addr, self.seed);
        self.words
            .get(word)
            .is_some_and(|word| word.load(Relaxed) & bit != 0)
    }
}
