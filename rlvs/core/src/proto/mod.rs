// SPDX-License-Identifier: GPL-2.0

//! Protocol states of a connection, how long each lasts, and what leads from one to the next.

pub mod sctp;
pub mod tcp;
pub mod udp;

/// The state of a connection, of whatever protocol.
///
/// The numbers of the TCP states are those of IPVS; those of SCTP are 12 more than there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// TCP: nothing seen yet.
    None = 0,
    /// TCP: both sides have answered.
    Established = 1,
    /// TCP: the server's SYN came first.
    SynSent = 2,
    /// TCP: the client's SYN has passed.
    SynRecv = 3,
    /// TCP: the server has closed.
    FinWait = 4,
    /// TCP: both have closed.
    TimeWait = 5,
    /// TCP: reset, or never opened.
    Close = 6,
    /// TCP: the client has closed.
    CloseWait = 7,
    /// TCP: the last acknowledgement is missing.
    LastAck = 8,
    /// TCP: waits for a SYN.
    Listen = 9,
    /// TCP: SYN seen, while `secure_tcp` waits for the client's acknowledgement.
    SynAck = 10,
    /// UDP: its only state.
    Udp = 11,
    /// SCTP: nothing seen yet.
    SctpNone = 12,
    /// SCTP: the client's first INIT has passed.
    Init1 = 13,
    /// SCTP: it has passed again.
    Init = 14,
    /// SCTP: the server has sent a cookie.
    CookieSent = 15,
    /// SCTP: the client has returned it.
    CookieReplied = 16,
    /// SCTP: the server's own INIT has passed.
    CookieWait = 17,
    /// SCTP: the client has sent the server a cookie.
    Cookie = 18,
    /// SCTP: the server has returned it.
    CookieEchoed = 19,
    /// SCTP: both sides have answered.
    SctpEstablished = 20,
    /// SCTP: the server has closed.
    ShutdownSent = 21,
    /// SCTP: the client has closed.
    ShutdownReceived = 22,
    /// SCTP: the server has nothing more to send.
    ShutdownAckSent = 23,
    /// SCTP: the server has refused.
    Rejected = 24,
    /// SCTP: it is over.
    Closed = 25,
}

impl State {
    /// Every state, in the order of its number.
    pub const ALL: [Self; 26] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
        Self::Udp,
        Self::SctpNone,
        Self::Init1,
        Self::Init,
        Self::CookieSent,
        Self::CookieReplied,
        Self::CookieWait,
        Self::Cookie,
        Self::CookieEchoed,
        Self::SctpEstablished,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::Rejected,
        Self::Closed,
    ];

    /// The state of that number; [`State::None`] for a number that is none.
    #[inline]
    pub fn from_u8(number: u8) -> Self {
        match Self::ALL.get(usize::from(number)) {
            Some(state) => *state,
            None => Self::None,
        }
    }

    /// The name in `/proc/net/ip_vs_conn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
            Self::Udp => "UDP",
            Self::SctpNone => "NONE",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "C-SENT",
            Self::CookieReplied => "C-REPLIED",
            Self::CookieWait => "C-WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "C-ECHOED",
            Self::SctpEstablished => "ESTABLISHED",
            Self::ShutdownSent => "S-SENT",
            Self::ShutdownReceived => "S-RECEIVED",
            Self::ShutdownAckSent => "S-ACK-SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
        }
    }

    /// Whether both sides have answered.
    #[inline]
    pub fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::SctpEstablished)
    }

    /// Whether a connection in this state counts as an active one of its destination.
    ///
    /// Others count as inactive; UDP and the opening of SCTP are among them, as in IPVS.
    #[inline]
    pub fn is_active(self) -> bool {
        matches!(
            self,
            Self::Established
                | Self::SynSent
                | Self::SynRecv
                | Self::SynAck
                | Self::SctpEstablished
        )
    }
}

/// How long a connection may be idle in each state, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts([u32; State::ALL.len()]);

impl Default for Timeouts {
    /// IPVS's own.
    fn default() -> Self {
        Self([
            2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300, 2, 4, 61, 61, 61, 61, 61, 61,
            900, 61, 61, 61, 4, 61,
        ])
    }
}

impl Timeouts {
    /// The timeout of a state, in seconds.
    #[inline]
    pub fn of(&self, state: State) -> u32 {
        // The fallback is unreachable, and the compiler knows.
        self.0.get(usize::from(state as u8)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_state() {
        for number in 0..=255 {
            let state = State::from_u8(number);
            if number < 26 {
                assert_eq!(state as u8, number);
            } else {
                assert_eq!(state, State::None);
            }
        }
    }

    #[test]
    fn names_fit_the_column_that_ipvsadm_reads() {
        for state in State::ALL {
            assert!(state.name().len() <= 11, "{}", state.name());
        }
        assert_eq!(State::SynAck.name(), "SYNACK");
        assert_eq!(State::CloseWait.name(), "CLOSE_WAIT");
    }

    #[test]
    fn active_is_what_carries_data_or_is_about_to() {
        let active: Vec<_> = State::ALL.into_iter().filter(|s| s.is_active()).collect();
        assert_eq!(
            active,
            [
                State::Established,
                State::SynSent,
                State::SynRecv,
                State::SynAck,
                State::SctpEstablished
            ]
        );
    }

    #[test]
    fn timeouts_begin_as_those_of_ipvs() {
        let timeouts = Timeouts::default();
        let seconds = State::ALL.map(|state| timeouts.of(state));
        assert_eq!(
            seconds,
            [
                2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300, 2, 4, 61, 61, 61, 61, 61, 61,
                900, 61, 61, 61, 4, 61
            ]
        );
    }
}
