// SPDX-License-Identifier: GPL-2.0

//! UDP: a datagram keeps a connection alive, and that is all.

use super::State;

/// The state of a connection after a datagram, either way.
#[inline]
pub fn step() -> State {
    State::Udp
}
