// SPDX-License-Identifier: GPL-2.0

//! The word of a connection: its state, the flags that most packets ask for, and how many came first.

use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};
use rlvs_core::{
    defence::Lottery,
    proto::State, //
};

/// One of the flags of a [`Word`], or several.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags(u32);

impl Flags {
    /// The client's packets carry its address: the server has not answered with data yet.
    pub(super) const TOA: Self = Self(1 << 8);
    /// Its template does not know yet that it is established.
    pub(super) const UNASSURED: Self = Self(1 << 9);
    /// conntrack keeps the connection, too.
    pub(super) const TRACKED: Self = Self(1 << 10);
    /// It is the control connection of an FTP session.
    pub(super) const CONTROL: Self = Self(1 << 11);
    /// Its server's packets pass here although they need not.
    pub(super) const ANSWERED: Self = Self(1 << 12);
    /// It has left the table, and is none of its destination's any more.
    pub(super) const ENDED: Self = Self(1 << 13);
    /// Another director has told of it.
    pub(super) const SYNCED: Self = Self(1 << 14);
    /// It was said how long it lasts, and no packet has passed since.
    pub(super) const HEARD: Self = Self(1 << 15);
    /// Others are to be told of it.
    pub(super) const WATCHED: Self = Self(1 << 16);
    /// How its packets reach the server, where that makes a difference to most of them: what [`Via`](super::Via)
    /// says, in the cache line that they need anyway.
    pub(super) const FULLNAT: Self = Self(1 << 17);
    pub(super) const DIRECT: Self = Self(1 << 18);
    pub(super) const TUNNEL: Self = Self(1 << 19);
    /// They do not leave, or go where they wanted to.
    pub(super) const UNSENT: Self = Self(1 << 20);

    /// Those, and these.
    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those, and these if so.
    #[inline]
    pub(super) fn with_if(self, other: Self, on: bool) -> Self {
        if on {
            self.with(other)
        } else {
            self
        }
    }
}

/// The bits that hold the [`State`].
const STATE: u32 = 0xff;

/// The bits that hold how many packets the client has sent, up to [`MANY`], and one of them.
const PACKETS: u32 = 0xf << 28;
const PACKET: u32 = 1 << 28;

/// So many need not be told from more.
const MANY: u32 = Lottery::MOST * PACKET + PACKET;

/// What the word held at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment(u32);

impl Moment {
    /// The state.
    #[inline]
    pub(super) fn state(self) -> State {
        // CAST: The state is the low byte.
        State::from_u8((self.0 & STATE) as u8)
    }

    /// Is it this state?
    #[inline]
    pub(super) fn is(self, state: State) -> bool {
        self.0 & STATE == u32::from(state as u8)
    }

    /// Has it any of these flags?
    #[inline]
    pub(super) fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }
}

/// Read by every packet, and written by few.
pub(super) struct Word(Atomic<u32>);

impl Word {
    /// A word without packets.
    #[inline]
    pub(super) fn new(state: State, flags: Flags) -> Self {
        Self(Atomic::new(u32::from(state as u8) | flags.0))
    }

    /// What it holds now.
    #[inline]
    pub(super) fn now(&self) -> Moment {
        Moment(self.0.load(Relaxed))
    }

    /// Sets a flag; returns what was there before. What was written before is seen by whoever sees the flag.
    pub(super) fn set(&self, flag: Flags) -> Moment {
        let mut word = self.0.load(Relaxed);
        while word & flag.0 == 0 {
            match self.0.cmpxchg(word, word | flag.0, Full) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        Moment(word)
    }

    /// Takes a flag away.
    pub(super) fn clear(&self, flag: Flags) {
        let mut word = self.0.load(Relaxed);
        while word & flag.0 != 0 {
            match self.0.cmpxchg(word, word & !flag.0, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Takes the state a step, unless the connection has ended; writes only if it changes. Of those who take the
    /// same step at once, one is told what was there before, and the new state.
    #[inline]
    pub(super) fn step(&self, step: impl Fn(State) -> State) -> Option<(Moment, State)> {
        let mut was = self.now();
        loop {
            let new = step(was.state());
            if new == was.state() || was.has(Flags::ENDED) {
                return None;
            }
            let word = was.0 & !STATE | u32::from(new as u8);
            match self.0.cmpxchg(was.0, word, Full) {
                Ok(_) => return Some((was, new)),
                Err(now) => was = Moment(now),
            }
        }
    }

    /// How many packets the client has sent, as far as that matters.
    pub(super) fn packets(&self) -> u32 {
        (self.0.load(Relaxed) & PACKETS) / PACKET
    }

    /// The client has sent one.
    #[inline(always)]
    pub(super) fn count(&self) {
        if self.0.load(Relaxed) & PACKETS < MANY {
            self.count_few();
        }
    }

    #[cold]
    fn count_few(&self) {
        let mut word = self.0.load(Relaxed);
        while word & PACKETS < MANY {
            match self.0.cmpxchg(word, word.wrapping_add(PACKET), Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }
}
