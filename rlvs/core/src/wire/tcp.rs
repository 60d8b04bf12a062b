// SPDX-License-Identifier: GPL-2.0

//! The TCP header (RFC 9293).

use super::checksum::Delta;
use super::checksum::L4Checksum;
use super::options;
use super::options::Options;
use super::Error;

/// Length of a header without options, in bytes.
pub const MIN_LEN: usize = 20;
/// Largest length of a header, in bytes.
pub const MAX_LEN: usize = MIN_LEN + options::MAX_LEN;
/// [`clamp_mss`] goes no lower: Linux itself treats less as an attack.
pub const MSS_FLOOR: u16 = 88;

/// The control bits of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;

    /// Whether FIN is set.
    #[inline]
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Whether SYN is set.
    #[inline]
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether RST is set.
    #[inline]
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether ACK is set.
    #[inline]
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

/// A TCP header's fields; ports in host order, options not read.
///
/// # Invariants
///
/// `20 <= header_len <= 60`, a multiple of 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Length of the header with its options, in bytes.
    pub header_len: usize,
    /// Control bits.
    pub flags: Flags,
    /// Window, not scaled.
    pub window: u16,
    /// Checksum as it stands.
    pub checksum: u16,
}

impl Header {
    /// A header without flags, numbers and options.
    pub fn bare(sport: u16, dport: u16) -> Self {
        Self {
            sport,
            dport,
            seq: 0,
            ack: 0,
            header_len: MIN_LEN,
            flags: Flags(0),
            window: 0,
            checksum: 0,
        }
    }

    /// Reads a header from at least 20 bytes; the options need not be in the slice.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let h: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;
        let header_len = header_len(h);
        if header_len < MIN_LEN {
            return Err(Error::Malformed);
        }
        Ok(Self {
            sport: u16::from_be_bytes([h[0], h[1]]),
            dport: u16::from_be_bytes([h[2], h[3]]),
            seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
            ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
            header_len,
            flags: Flags(h[13]),
            window: u16::from_be_bytes([h[14], h[15]]),
            checksum: u16::from_be_bytes([h[16], h[17]]),
        })
    }
}

/// Lowers the MSS that a SYN announces by `less` bytes, and fixes the checksum.
///
/// `tcp` holds the whole header with its options; more does no harm. The result is never below
/// [`MSS_FLOOR`], and a smaller value stays what it is. Returns whether anything changed.
#[inline]
pub fn clamp_mss(tcp: &mut [u8], less: u16, csum: L4Checksum) -> bool {
    let clamped = edit_options(tcp, csum, |options| {
        let mut at = 0;
        let mut clamped = 0;
        loop {
            let mut walk = Options::resume(options, at);
            let Some(Ok(option)) = walk.next() else {
                return clamped;
            };
            at = walk.position();
            if option.kind != options::MSS || option.len != 4 {
                continue;
            }
            let Some([_, _, value @ ..]) = options
                .get_mut(option.offset..)
                .and_then(<[u8]>::first_chunk_mut::<4>)
            else {
                continue;
            };
            let old = u16::from_be_bytes(*value);
            let new = old.saturating_sub(less).max(MSS_FLOOR).min(old);
            if new != old {
                *value = new.to_be_bytes();
                clamped = 1;
            }
        }
    });
    clamped != 0
}

/// Length of the header in bytes, as its data offset says it.
#[inline]
fn header_len(h: &[u8; MIN_LEN]) -> usize {
    usize::from(h[12] >> 4) << 2
}

/// The options of a header, as [`edit_options`] would show them.
#[inline]
pub(super) fn options(tcp: &[u8]) -> &[u8] {
    let Some((fixed, rest)) = tcp.split_first_chunk::<MIN_LEN>() else {
        return &[];
    };
    rest.get(..options_len(fixed, rest.len())).unwrap_or(&[])
}

/// How many of the `rest` bytes behind the fixed part are options.
#[inline]
fn options_len(fixed: &[u8; MIN_LEN], rest: usize) -> usize {
    header_len(fixed).saturating_sub(MIN_LEN).min(rest)
}

/// Lets `edit` change the options in place, and fixes the checksum if it says that it did.
///
/// `edit` returns how many changes it made. Bytes behind the header are not shown to it; a
/// header that is shorter than it says ends with the slice.
#[inline]
pub(super) fn edit_options(
    tcp: &mut [u8],
    csum: L4Checksum,
    edit: impl FnOnce(&mut [u8]) -> usize,
) -> usize {
    let Some((fixed, rest)) = tcp.split_first_chunk_mut::<MIN_LEN>() else {
        return 0;
    };
    let Some(options) = rest.get_mut(..options_len(fixed, rest.len())) else {
        return 0;
    };
    let before = Delta::new().remove(options);
    let edits = edit(options);
    // An option may start at an odd offset, so the list counts as a whole.
    if edits != 0 && csum == L4Checksum::Full {
        let old = u16::from_be_bytes([fixed[16], fixed[17]]);
        [fixed[16], fixed[17]] = before.append(options).apply(old).to_be_bytes();
    }
    edits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing;
    use super::super::testing::Packet;
    use super::super::testing::L4;
    use super::*;

    #[test]
    fn a_data_offset_below_the_header_is_refused() {
        let mut header = [0; 20];
        header[12] = 0x4f;
        assert_eq!(Header::parse(&header), Err(Error::Malformed));
        header[12] = 0xf0;
        assert_eq!(Header::parse(&header).map(|h| h.header_len), Ok(60));
        assert_eq!(Header::parse(&header[..19]), Err(Error::Truncated));
    }

    #[test]
    fn flags_are_told_apart() {
        let all = |f: Flags| [f.fin(), f.syn(), f.rst(), f.ack()];
        for (at, bit) in [0, 1, 2, 4].into_iter().enumerate() {
            let mut expected = [false; 4];
            expected[at] = true;
            assert_eq!(all(Flags(1 << bit)), expected);
        }
        assert_eq!(all(Flags(0xe8)), [false; 4]);
    }

    fn clamp(options: &[u8], less: u16) -> (bool, Vec<u8>) {
        let mut header = vec![0; 20];
        header[12] = (5 + options.len() as u8 / 4) << 4;
        header.extend(options);
        let changed = clamp_mss(&mut header, less, L4Checksum::Full);
        (changed, header.split_off(20))
    }

    #[test]
    fn mss_goes_down_to_its_floor_and_no_further() {
        assert_eq!(clamp(&[2, 4, 5, 180], 8), (true, vec![2, 4, 5, 172]));
        assert_eq!(clamp(&[2, 4, 5, 180], 0), (false, vec![2, 4, 5, 180]));
        assert_eq!(clamp(&[2, 4, 0, 90], 20), (true, vec![2, 4, 0, 88]));
        assert_eq!(clamp(&[2, 4, 0, 60], 20), (false, vec![2, 4, 0, 60]));
        assert_eq!(clamp(&[2, 4, 5, 180], u16::MAX), (true, vec![2, 4, 0, 88]));
    }

    #[test]
    fn no_mss_is_nothing_to_lower() {
        assert_eq!(clamp(&[], 8), (false, vec![]));
        assert_eq!(clamp(&[2, 3, 5, 180], 8), (false, vec![2, 3, 5, 180]));
        assert_eq!(clamp(&[0, 2, 4, 9], 8), (false, vec![0, 2, 4, 9]));
        assert!(!clamp_mss(&mut [0; 19], 8, L4Checksum::Full));
    }

    #[test]
    fn payload_that_looks_like_mss_stays() {
        let mut segment = vec![0; 20];
        segment[12] = 0x50;
        segment.extend([2, 4, 5, 180]);
        assert!(!clamp_mss(&mut segment, 8, L4Checksum::Full));
        assert_eq!(segment[20..], [2, 4, 5, 180]);
    }

    proptest! {
        #[test]
        fn checksum_is_right_wherever_mss_stands(
            packet in testing::tcp(36),
            nops in 0..4_usize,
            mss in 100..u16::MAX,
            less in 0..100_u16,
            csum in testing::csum(),
        ) {
            let with = |mss: u16| {
                let [high, low] = mss.to_be_bytes();
                let mut options = vec![1; nops];
                options.extend([2, 4, high, low]);
                options.resize(8, 0);
                Packet { l4: L4::Tcp { options, flags: 2 }, ..packet.clone() }
            };
            let mut bytes = with(mss).build_as(csum);
            let changed = clamp_mss(&mut bytes[packet.ihl()..], less, csum);
            let expected = mss.saturating_sub(less).max(88);
            prop_assert_eq!(changed, expected != mss);
            prop_assert_eq!(bytes, with(expected).build_as(csum));
        }
    }
}
