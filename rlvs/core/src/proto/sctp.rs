// SPDX-License-Identifier: GPL-2.0

//! The SCTP states of a connection, as somebody in the middle sees them.
//!
//! What each chunk leads to is IPVS's, table by table. The states are those of the real server, and
//! some more that tell apart what it does not remember: which INIT, which cookie.

use super::State;
use crate::flow::Direction;
use crate::wire::sctp::Chunk;

const NO: State = State::SctpNone;
const I1: State = State::Init1;
const IN: State = State::Init;
const CS: State = State::CookieSent;
const CR: State = State::CookieReplied;
const CW: State = State::CookieWait;
const CO: State = State::Cookie;
const CE: State = State::CookieEchoed;
const ES: State = State::SctpEstablished;
const SS: State = State::ShutdownSent;
const SR: State = State::ShutdownReceived;
const SA: State = State::ShutdownAckSent;
const RJ: State = State::Rejected;
const CL: State = State::Closed;

/// What follows each state, in the order of the states' numbers.
type Row = [State; 14];

/// One row for each kind of chunk that counts.
struct Table {
    /// DATA, SACK, HEARTBEAT and whatever else is no part of the machine.
    data: Row,
    init: Row,
    init_ack: Row,
    cookie_echo: Row,
    cookie_ack: Row,
    shutdown: Row,
    shutdown_ack: Row,
    shutdown_complete: Row,
    error: Row,
    abort: Row,
}

/// Chunks of the client, where the replies pass here too.
#[rustfmt::skip]
static ORIGINAL: Table = Table {
    //                   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    data:              [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    init:              [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
    init_ack:          [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
    cookie_echo:       [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    cookie_ack:        [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
    shutdown:          [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    shutdown_ack:      [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
    shutdown_complete: [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
    error:             [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
    abort:             [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
};

/// Chunks of the real server.
#[rustfmt::skip]
static REPLY: Table = Table {
    //                   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    data:              [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    init:              [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
    init_ack:          [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    cookie_echo:       [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
    cookie_ack:        [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
    shutdown:          [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
    shutdown_ack:      [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
    shutdown_complete: [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    error:             [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    abort:             [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
};

/// Chunks of the client, where nobody here sees the replies.
#[rustfmt::skip]
static ONE_WAY: Table = Table {
    //                   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    data:              [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    init:              [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
    init_ack:          [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
    cookie_echo:       [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    cookie_ack:        [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
    shutdown:          [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    shutdown_ack:      [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
    shutdown_complete: [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
    error:             [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    abort:             [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
};

/// The state of a connection after a packet whose chunk is that; none changes nothing.
///
/// `one_way` says that replies do not pass here (DR, TUN); a reply that does is stepped as one,
/// and the caller stops saying so. A state that is not SCTP's closes.
#[inline]
pub fn step(state: State, direction: Direction, chunk: Option<Chunk>, one_way: bool) -> State {
    let Some(chunk) = chunk else {
        return state;
    };
    let table = match (direction, one_way) {
        (Direction::Reply, _) => &REPLY,
        (Direction::Original, false) => &ORIGINAL,
        (Direction::Original, true) => &ONE_WAY,
    };
    let row = match chunk {
        Chunk::INIT => &table.init,
        Chunk::INIT_ACK => &table.init_ack,
        Chunk::COOKIE_ECHO => &table.cookie_echo,
        Chunk::COOKIE_ACK => &table.cookie_ack,
        Chunk::SHUTDOWN => &table.shutdown,
        Chunk::SHUTDOWN_ACK => &table.shutdown_ack,
        Chunk::SHUTDOWN_COMPLETE => &table.shutdown_complete,
        Chunk::ERROR => &table.error,
        Chunk::ABORT => &table.abort,
        _ => &table.data,
    };
    let index = usize::from(state as u8).wrapping_sub(usize::from(NO as u8));
    row.get(index).copied().unwrap_or(CL)
}

/// Whether a packet with that chunk may open a connection: an INIT; with `sloppy`, anything but an
/// ABORT.
#[inline]
pub fn opens(chunk: Option<Chunk>, sloppy: bool) -> bool {
    match chunk {
        Some(Chunk::INIT) => true,
        Some(chunk) => sloppy && chunk != Chunk::ABORT,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use Direction::Original;
    use Direction::Reply;

    use super::*;

    const STATES: [(&str, State); 14] = [
        ("NO", NO),
        ("I1", I1),
        ("IN", IN),
        ("CS", CS),
        ("CR", CR),
        ("CW", CW),
        ("CO", CO),
        ("CE", CE),
        ("ES", ES),
        ("SS", SS),
        ("SR", SR),
        ("SA", SA),
        ("RJ", RJ),
        ("CL", CL),
    ];

    /// The kinds of chunk in the order of the columns below, by their numbers in RFC 9260.
    const CHUNKS: [u8; 10] = [0, 1, 2, 10, 11, 7, 8, 14, 9, 6];

    /// A state, and what follows it: after each chunk of the client, of the server, of a client whose
    /// server is not heard.
    const FOLLOWS: &str = "
        NO | ES I1 CW CR ES SR CL CL CL CL | ES CW CS CE ES SS SA CL CL CL | ES I1 CE ES ES SR CL CL CL CL
        I1 | I1 IN CW IN I1 I1 IN CL I1 CL | I1 CW CS CE ES SS SA I1 CL RJ | I1 IN CE ES I1 I1 IN CL I1 CL
        IN | IN IN CW IN IN IN IN CL IN CL | IN CW CS CE ES SS SA IN CL CL | IN IN CE ES IN IN IN CL IN CL
        CS | CS CS CS CR CS CS CS CS CS CL | CS CW CS CE ES SS SA CS CL CL | CS IN CE ES ES CS CS CL CS CL
        CR | CR CR CR CR CR CR CR CR CR CL | CR CW CR CE ES SS SA CR CL CL | CR IN CE ES ES CR CR CL CR CL
        CW | CW CW CO CW CW CW CW CW CW RJ | CW CW CW CE ES SS CW CW CW CL | ES IN CE ES CW CW CW CW CW RJ
        CO | CO CO CO CO CO CO CO CO CO CL | CO CW CO CE ES SS CO CO CO CL | CO CO CO CO ES CO CO CO CO CL
        CE | CE CE CE CE ES CE CE CE CL CL | CE CW CE CE ES SS CE CE CE CL | CE CE CE CE ES CE CE CE CE CL
        ES | ES ES ES ES ES SR ES ES ES CL | ES ES ES ES ES SS ES ES ES CL | ES ES ES ES ES SR CL ES ES CL
        SS | SS SS SS SS SS SS CL SS SS CL | SS CW SS SS SS SS SA SS SS CL | SS SS SS SS SS SS CL SS SS CL
        SR | SR SR SR SR SR SR SR SR SR CL | SR CW SR SR SR SR SA SR SR CL | SR SR SR SR SR SR SR CL SR CL
        SA | SA SA SA SA SA SA CL CL SA CL | SA CW SA SA SA SA SA SA SA CL | SA SA SA SA SA SA CL CL SA CL
        RJ | RJ IN RJ RJ RJ RJ RJ RJ RJ CL | RJ CW RJ RJ RJ RJ RJ RJ RJ CL | RJ IN RJ RJ RJ RJ RJ RJ RJ CL
        CL | CL IN CL CL CL CL CL CL CL CL | CL CW CL CL CL CL CL CL CL CL | CL IN CL CL CL CL CL CL CL CL
    ";

    fn named(name: &str) -> State {
        STATES.iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn each_chunk_leads_to_what_it_leads_to_in_ipvs() {
        let mut compared = 0;
        for line in FOLLOWS.lines().filter(|line| line.contains('|')) {
            let mut parts = line.split('|');
            let state = named(parts.next().unwrap().trim());
            for (direction, one_way) in [(Original, false), (Reply, false), (Original, true)] {
                let follows = parts.next().unwrap().split_whitespace().map(named);
                for (chunk, expected) in CHUNKS.iter().zip(follows) {
                    assert_eq!(
                        step(state, direction, Some(Chunk(*chunk)), one_way),
                        expected,
                        "{state:?} {direction:?} one_way {one_way} chunk {chunk}"
                    );
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 14 * 30);
    }

    #[test]
    fn the_states_are_in_the_order_of_ipvs() {
        for (number, (_, state)) in STATES.iter().enumerate() {
            assert_eq!(*state as usize, NO as usize + number);
        }
    }

    #[test]
    fn chunks_that_are_no_part_of_the_machine_count_as_data() {
        for (_, state) in STATES {
            for chunk in (0..=255).filter(|chunk| !CHUNKS.contains(chunk)) {
                for (direction, one_way) in [(Original, false), (Reply, false), (Original, true)] {
                    assert_eq!(
                        step(state, direction, Some(Chunk(chunk)), one_way),
                        step(state, direction, Some(Chunk(0)), one_way)
                    );
                }
            }
        }
    }

    #[test]
    fn a_packet_without_a_chunk_changes_nothing() {
        for (_, state) in STATES {
            assert_eq!(step(state, Original, None, false), state);
        }
        assert!(!opens(None, true));
    }

    #[test]
    fn one_way_does_not_matter_to_replies() {
        for (_, state) in STATES {
            for chunk in 0..=255 {
                let chunk = Some(Chunk(chunk));
                assert_eq!(
                    step(state, Reply, chunk, true),
                    step(state, Reply, chunk, false)
                );
            }
        }
    }

    /// The states that a new connection goes through.
    fn life(one_way: bool, packets: &[(Direction, Chunk)]) -> Vec<State> {
        let mut state = NO;
        let next = |(direction, chunk): &(Direction, Chunk)| {
            state = step(state, *direction, Some(*chunk), one_way);
            state
        };
        packets.iter().map(next).collect()
    }

    const OPEN: [(Direction, Chunk); 4] = [
        (Original, Chunk::INIT),
        (Reply, Chunk::INIT_ACK),
        (Original, Chunk::COOKIE_ECHO),
        (Reply, Chunk::COOKIE_ACK),
    ];

    #[test]
    fn an_association_opens_and_closes() {
        let close = [
            (Original, Chunk::SHUTDOWN),
            (Reply, Chunk::SHUTDOWN_ACK),
            (Original, Chunk::SHUTDOWN_COMPLETE),
        ];
        let whole = [OPEN.as_slice(), &close].concat();
        assert_eq!(life(false, &whole), [I1, CS, CR, ES, SR, SA, CL]);
        let unseen: Vec<_> = whole
            .into_iter()
            .filter(|(way, _)| *way == Original)
            .collect();
        assert_eq!(life(true, &unseen), [I1, ES, SR, CL]);
    }

    #[test]
    fn a_refused_init_is_rejected() {
        let refused = [(Original, Chunk::INIT), (Reply, Chunk::ABORT)];
        assert_eq!(life(false, &refused), [I1, RJ]);
    }

    #[test]
    fn a_connection_that_is_over_is_opened_anew() {
        for state in [CL, RJ] {
            assert_eq!(step(state, Original, Some(Chunk::INIT), false), IN);
        }
    }

    #[test]
    fn an_init_opens_and_an_abort_never_does() {
        for chunk in 0..=255 {
            assert_eq!(opens(Some(Chunk(chunk)), false), chunk == 1);
            assert_eq!(opens(Some(Chunk(chunk)), true), chunk != 6);
        }
    }

    #[test]
    fn a_state_that_is_not_of_sctp_closes() {
        for number in 0..12 {
            let state = State::from_u8(number);
            assert_eq!(step(state, Original, Some(Chunk(0)), false), CL);
        }
    }
}
