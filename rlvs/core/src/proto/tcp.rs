// SPDX-License-Identifier: GPL-2.0

//! The TCP states of a connection, as somebody in the middle sees them.
//!
//! What each segment leads to is IPVS's, table by table, so that `/proc/net/ip_vs_conn`, the
//! active counters and the timeouts mean what operators know. It is not RFC 9293's machine: there
//! are two ends, and segments may be lost behind us.

use super::State;
use crate::flow::Direction;
use crate::wire::tcp::Flags;

const ES: State = State::Established;
const SS: State = State::SynSent;
const SR: State = State::SynRecv;
const FW: State = State::FinWait;
const TW: State = State::TimeWait;
const CL: State = State::Close;
const CW: State = State::CloseWait;
const LA: State = State::LastAck;
const LI: State = State::Listen;
const SA: State = State::SynAck;

/// What follows each state, in the order of the states' numbers.
type Row = [State; 11];

/// One row for each kind of segment that counts.
struct Table {
    syn: Row,
    fin: Row,
    ack: Row,
    rst: Row,
}

/// Segments of the client, where the replies pass here too.
#[rustfmt::skip]
static ORIGINAL: Table = Table {
    //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    syn: [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    fin: [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    ack: [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
};

/// Segments of the real server.
#[rustfmt::skip]
static REPLY: Table = Table {
    //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    syn: [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    fin: [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    ack: [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    rst: [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
};

/// Segments of the client, where nobody here sees the replies.
#[rustfmt::skip]
static ONE_WAY: Table = Table {
    //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    syn: [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    fin: [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    ack: [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
};

// What follows is in force while `secure_tcp` is: what the client alone has sent establishes nothing.

/// As [`ORIGINAL`].
#[rustfmt::skip]
static SECURE_ORIGINAL: Table = Table {
    //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    syn: [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
    fin: [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
    ack: [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
    rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
};

/// As [`REPLY`].
#[rustfmt::skip]
static SECURE_REPLY: Table = Table {
    //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    syn: [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
    fin: [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    ack: [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    rst: [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
};

/// As [`ONE_WAY`].
#[rustfmt::skip]
static SECURE_ONE_WAY: Table = Table {
    //    NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    syn: [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
    fin: [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    ack: [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    rst: [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
};

/// The state of a connection after a segment.
///
/// `one_way` says that replies do not pass here (DR, TUN); a reply that does is stepped as one,
/// and the caller stops saying so. `secure` takes the tables of `secure_tcp`. RST counts before SYN,
/// SYN before FIN, FIN before ACK; a segment without any of them closes, and so does a state that is
/// not TCP's.
#[inline]
pub fn step(
    state: State,
    direction: Direction,
    flags: Flags,
    one_way: bool,
    secure: bool,
) -> State {
    let table = match (direction, one_way, secure) {
        (Direction::Reply, _, false) => &REPLY,
        (Direction::Reply, _, true) => &SECURE_REPLY,
        (Direction::Original, false, false) => &ORIGINAL,
        (Direction::Original, false, true) => &SECURE_ORIGINAL,
        (Direction::Original, true, false) => &ONE_WAY,
        (Direction::Original, true, true) => &SECURE_ONE_WAY,
    };
    let row = if flags.rst() {
        &table.rst
    } else if flags.syn() {
        &table.syn
    } else if flags.fin() {
        &table.fin
    } else if flags.ack() {
        &table.ack
    } else {
        return CL;
    };
    row.get(usize::from(state as u8)).copied().unwrap_or(CL)
}

/// Whether a segment may open a connection: a SYN without RST; with `sloppy`, anything but a RST.
///
/// ACK does not matter, as in IPVS: in active FTP the first segment seen may be a SYN-ACK.
#[inline]
pub fn opens(flags: Flags, sloppy: bool) -> bool {
    (flags.syn() || sloppy) && !flags.rst()
}

#[cfg(test)]
mod tests {
    use Direction::Original;
    use Direction::Reply;

    use super::*;

    const SYN: u8 = Flags::SYN;
    const ACK: u8 = Flags::ACK;
    const FIN: u8 = Flags::FIN;
    const RST: u8 = Flags::RST;

    /// The states that a new connection goes through.
    fn life(one_way: bool, segments: &[(Direction, u8)]) -> Vec<State> {
        life_of(one_way, false, segments)
    }

    fn life_of(one_way: bool, secure: bool, segments: &[(Direction, u8)]) -> Vec<State> {
        let mut state = State::None;
        let next = |(direction, flags): &(Direction, u8)| {
            state = step(state, *direction, Flags(*flags), one_way, secure);
            state
        };
        segments.iter().map(next).collect()
    }

    const OPEN: [(Direction, u8); 3] = [(Original, SYN), (Reply, SYN | ACK), (Original, ACK)];

    #[test]
    fn a_handshake_establishes() {
        assert_eq!(life(false, &OPEN), [SR, SR, ES]);
        assert_eq!(life(true, &[(Original, SYN), (Original, ACK)]), [SR, ES]);
    }

    #[test]
    fn a_client_that_closes_first() {
        let close = [(Original, FIN | ACK), (Reply, FIN | ACK), (Original, ACK)];
        assert_eq!(life(false, &[OPEN, close].concat())[3..], [CW, TW, TW]);
    }

    #[test]
    fn a_server_that_closes_first() {
        let close = [(Reply, FIN | ACK), (Original, ACK), (Original, FIN | ACK)];
        assert_eq!(life(false, &[OPEN, close].concat())[3..], [FW, FW, TW]);
    }

    #[test]
    fn an_unseen_reply_is_not_waited_for() {
        let life = life(
            true,
            &[(Original, SYN), (Original, ACK), (Original, FIN | ACK)],
        );
        assert_eq!(life, [SR, ES, FW]);
    }

    #[test]
    fn a_reset_closes_from_either_side() {
        for side in [Original, Reply] {
            assert_eq!(
                life(false, &[OPEN.as_slice(), &[(side, RST)]].concat())[3],
                CL
            );
        }
        // A refused connection: the reset comes from the server alone.
        assert_eq!(
            life(false, &[(Original, SYN), (Reply, RST | ACK)]),
            [SR, CL]
        );
        assert_eq!(life(false, &[(Original, SYN), (Original, RST)]), [SR, SR]);
    }

    #[test]
    fn a_closed_connection_is_opened_anew() {
        for state in [TW, CL, CW, FW, LA] {
            assert_eq!(step(state, Original, Flags(SYN), false, false), SR);
        }
        assert_eq!(step(ES, Original, Flags(SYN), false, false), ES);
    }

    #[test]
    fn reset_counts_first_then_syn_then_fin() {
        assert_eq!(
            step(ES, Original, Flags(RST | SYN | FIN | ACK), false, false),
            CL
        );
        assert_eq!(step(TW, Original, Flags(SYN | FIN | ACK), false, false), SR);
        assert_eq!(step(ES, Original, Flags(FIN | ACK), false, false), CW);
    }

    #[test]
    fn a_segment_without_a_flag_that_counts_closes() {
        for state in State::ALL {
            assert_eq!(step(state, Original, Flags(Flags::PSH), false, false), CL);
        }
    }

    #[test]
    fn one_way_does_not_matter_to_replies() {
        for state in State::ALL {
            for flags in 0..=255 {
                let flags = Flags(flags);
                for secure in [false, true] {
                    assert_eq!(
                        step(state, Reply, flags, true, secure),
                        step(state, Reply, flags, false, secure)
                    );
                }
            }
        }
    }

    #[test]
    fn secure_waits_for_the_server() {
        // Nothing that a client sends alone gets it further than its SYN.
        let alone = [(Original, SYN), (Original, ACK), (Original, ACK)];
        assert_eq!(life_of(false, true, &alone), [SR, SR, SR]);
        assert_eq!(life_of(false, false, &alone), [SR, ES, ES]);
        // Its acknowledgement comes after the server's SYN, but the server's data establishes.
        let both = [OPEN.as_slice(), &[(Reply, ACK), (Original, ACK)]].concat();
        assert_eq!(life_of(false, true, &both), [SR, SA, SA, ES, ES]);
        let one_way = [(Original, SYN), (Original, ACK)];
        assert_eq!(life_of(true, true, &one_way), [SA, ES]);
    }

    /// Where `secure_tcp` makes a difference, as the list of mainline's comparison has it.
    #[test]
    fn secure_differs_in_these_and_no_others() {
        let mut found = Vec::new();
        for (direction, one_way) in [(Original, false), (Reply, false), (Original, true)] {
            for (name, flags) in [("syn", SYN), ("fin", FIN), ("ack", ACK), ("rst", RST)] {
                for state in State::ALL {
                    let plain = step(state, direction, Flags(flags), one_way, false);
                    let secure = step(state, direction, Flags(flags), one_way, true);
                    if plain != secure {
                        found.push((direction, one_way, name, state, plain, secure));
                    }
                }
            }
        }
        let in_only = |state| (Original, true, "syn", state, SR, SA);
        let expected = [
            (Original, false, "syn", SA, SR, SA),
            (Original, false, "fin", SA, TW, SA),
            (Original, false, "ack", SR, ES, SR),
            (Original, false, "ack", SA, ES, SA),
            (Original, false, "rst", SA, SR, CL),
            (Reply, false, "syn", SR, SR, SA),
            (Reply, false, "syn", SA, SR, SA),
            in_only(State::None),
            in_only(FW),
            in_only(TW),
            in_only(CL),
            in_only(CW),
            in_only(LA),
            in_only(LI),
            in_only(SA),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_a_syn_opens() {
        for flags in 0..=255_u8 {
            let syn_without_rst = flags & (SYN | RST) == SYN;
            assert_eq!(opens(Flags(flags), false), syn_without_rst);
        }
    }
}
