// SPDX-License-Identifier: GPL-2.0

//! Sequence numbers of a TCP stream whose bytes were replaced by more or fewer on the way.
//!
//! The numbers of the sender and those of the receiver drift apart with each segment that was resized.
//! What one side says of the stream is translated into the numbers of the other.

use super::checksum::Delta;
use super::checksum::L4Checksum;
use super::options;
use super::options::Options;
use super::tcp;

/// How far the receiver's numbers of a stream are ahead of the sender's, all modulo 2^32.
///
/// Two offsets are known: that behind the segment that was resized last, and the one before. What is
/// older than that has been acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Shift {
    /// The sender's number of the first byte of the segment that was resized last.
    at: u32,
    /// The offset up to there.
    before: u32,
    /// The offset behind it.
    behind: u32,
}

impl Shift {
    /// Notes that the segment starting at the sender's number `seq` was made longer by `by` bytes, or
    /// shorter. It may be said again of a segment that is sent again.
    pub fn resized(&mut self, seq: u32, by: i32) {
        if by != 0 && (!self.is_any() || is_after(seq, self.at)) {
            self.at = seq;
            self.before = self.behind;
            self.behind = self.behind.wrapping_add_signed(by);
        }
    }

    /// Whether the numbers differ, or have.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.before != 0 || self.behind != 0
    }

    /// The receiver's number for the sender's.
    #[inline]
    pub fn to_receiver(&self, seq: u32) -> u32 {
        if is_after(seq, self.at) {
            seq.wrapping_add(self.behind)
        } else {
            seq.wrapping_add(self.before)
        }
    }

    /// The sender's number for the receiver's.
    #[inline]
    pub fn to_sender(&self, ack: u32) -> u32 {
        if is_after(ack.wrapping_sub(self.before), self.at) {
            ack.wrapping_sub(self.behind)
        } else {
            ack.wrapping_sub(self.before)
        }
    }
}

/// Whether a number comes after another one.
#[inline]
fn is_after(a: u32, b: u32) -> bool {
    // Half of all numbers do.
    matches!(a.wrapping_sub(b), 1..=0x7fff_ffff)
}

/// Gives a segment of the sender the receiver's number, and fixes the checksum.
///
/// `segment` holds at least the fixed TCP header; one that is shorter stays as it is.
pub fn sent(segment: &mut [u8], shift: &Shift, csum: L4Checksum) {
    let Some([_, _, _, _, s0, s1, s2, s3, .., c0, c1, _, _]) =
        segment.first_chunk_mut::<{ tcp::MIN_LEN }>()
    else {
        return;
    };
    let old = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
    let new = shift.to_receiver(old);
    [*s0, *s1, *s2, *s3] = new.to_be_bytes();
    if csum == L4Checksum::Full {
        let field = u16::from_be_bytes([*c0, *c1]);
        [*c0, *c1] = Delta::new().u32(old, new).apply(field).to_be_bytes();
    }
}

/// Gives what a segment of the receiver acknowledges, selectively too, the sender's numbers, and fixes
/// the checksum.
///
/// `segment` holds the whole TCP header; options that are not there stay as they are.
pub fn acknowledged(segment: &mut [u8], shift: &Shift, csum: L4Checksum) {
    let Some([.., a0, a1, a2, a3, _, flags, _, _, c0, c1, _, _]) =
        segment.first_chunk_mut::<{ tcp::MIN_LEN }>()
    else {
        return;
    };
    if !tcp::Flags(*flags).ack() {
        return;
    }
    let old = u32::from_be_bytes([*a0, *a1, *a2, *a3]);
    let new = shift.to_sender(old);
    [*a0, *a1, *a2, *a3] = new.to_be_bytes();
    if csum == L4Checksum::Full {
        let field = u16::from_be_bytes([*c0, *c1]);
        [*c0, *c1] = Delta::new().u32(old, new).apply(field).to_be_bytes();
    }
    tcp::edit_options(segment, csum, |list| edit_sack(list, shift));
}

/// Translates the blocks of every SACK option (RFC 2018); returns how many.
fn edit_sack(list: &mut [u8], shift: &Shift) -> usize {
    let mut edits = 0;
    let mut at = 0;
    loop {
        let mut walk = Options::resume(list, at);
        let Some(Ok(option)) = walk.next() else {
            return edits;
        };
        at = walk.position();
        if option.kind != options::SACK {
            continue;
        }
        let end = option.offset.saturating_add(option.len);
        let blocks = list.get_mut(option.offset.saturating_add(2)..end);
        for edge in blocks.unwrap_or_default().chunks_exact_mut(4) {
            if let &mut [ref mut e0, ref mut e1, ref mut e2, ref mut e3] = edge {
                let new = shift.to_sender(u32::from_be_bytes([*e0, *e1, *e2, *e3]));
                [*e0, *e1, *e2, *e3] = new.to_be_bytes();
                edits = 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    #[test]
    fn nothing_resized_nothing_shifted() {
        let mut shift = Shift::default();
        shift.resized(7, 0);
        assert!(!shift.is_any());
        for number in [0, 1, u32::MAX] {
            assert_eq!(
                (shift.to_receiver(number), shift.to_sender(number)),
                (number, number)
            );
        }
    }

    #[test]
    fn a_segment_sent_again_is_resized_once() {
        let mut shift = Shift::default();
        shift.resized(1000, 3);
        let once = shift;
        shift.resized(1000, 3);
        shift.resized(900, 3);
        assert_eq!(shift, once);
        assert_eq!(shift.to_receiver(1000), 1000);
        assert_eq!(shift.to_receiver(1050), 1053);
        assert_eq!(shift.to_sender(1053), 1050);
        assert_eq!(shift.to_sender(1000), 1000);
    }

    proptest! {
        /// A stream of segments, some resized, as sender and receiver number them.
        #[test]
        fn both_ends_see_a_stream_without_gaps(
            first: u32,
            segments in vec((1..2000_u32, prop_oneof![Just(0), -20..=20_i32]), 1..40),
        ) {
            let mut shift = Shift::default();
            let (mut seq, mut got) = (first, first);
            for (len, by) in segments {
                let by = by.max(1 - len as i32);
                prop_assert_eq!(shift.to_receiver(seq), got);
                shift.resized(seq, by);
                // Sent again it has the same number, and the receiver asks for it by that number.
                prop_assert_eq!(shift.to_receiver(seq), got);
                prop_assert_eq!(shift.to_sender(got), seq);
                seq = seq.wrapping_add(len);
                got = got.wrapping_add(len.wrapping_add_signed(by));
                prop_assert_eq!(shift.to_sender(got), seq);
            }
        }

        #[test]
        fn a_shifted_segment_keeps_its_checksum(
            packet in testing::tcp(12),
            at: u32,
            by in -100..100_i32,
            csum in testing::csum(),
        ) {
            let mut shift = Shift::default();
            shift.resized(at, by);
            let before = packet.build_as(csum);
            let mut bytes = before.clone();
            sent(&mut bytes[packet.ihl()..], &shift, csum);
            let seq = tcp::Header::parse(&bytes[packet.ihl()..]).unwrap().seq;
            prop_assert_eq!(seq, shift.to_receiver(0x0102_0304));
            acknowledged(&mut bytes[packet.ihl()..], &shift, csum);
            let ack = tcp::Header::parse(&bytes[packet.ihl()..]).unwrap();
            prop_assert_eq!(ack.ack, if ack.flags.ack() { shift.to_sender(0x0506_0708) } else { 0x0506_0708 });
            let sum = |bytes: &[u8]| testing::checksum(&bytes[packet.ihl()..]) % 0xffff;
            if csum == L4Checksum::Full {
                prop_assert_eq!(sum(&bytes), sum(&before));
            } else {
                let at = packet.checksum_at();
                prop_assert_eq!(&bytes[at..at + 2], &before[at..at + 2]);
            }
        }

        #[test]
        fn selective_acknowledgements_are_shifted(
            blocks in vec(any::<u32>(), 1..=4),
            nops in 0..3_usize,
            at: u32,
            by in -100..100_i32,
            packet in testing::tcp(0),
        ) {
            let with = |edges: &[u32]| {
                let mut options = vec![1; nops];
                options.extend([5, 2 + 4 * edges.len() as u8]);
                options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
                options.resize(options.len().next_multiple_of(4), 0);
                testing::Packet { l4: testing::L4::Tcp { options, flags: 0x10 }, ..packet.clone() }
            };
            let mut shift = Shift::default();
            shift.resized(at, by);
            let (old, ihl) = (with(&blocks), packet.ihl());
            let moved: Vec<u32> = blocks.iter().map(|edge| shift.to_sender(*edge)).collect();
            let mut bytes = old.build();
            acknowledged(&mut bytes[ihl..], &shift, L4Checksum::Full);
            prop_assert_eq!(&bytes[ihl + 20..], &with(&moved).build()[ihl + 20..]);
            let sum = |bytes: &[u8]| testing::checksum(&bytes[ihl..]) % 0xffff;
            prop_assert_eq!(sum(&bytes), sum(&old.build()));
        }

        #[test]
        fn any_bytes_are_shifted_or_left_alone(mut bytes in vec(any::<u8>(), 0..80), at: u32, by: i32) {
            let mut shift = Shift::default();
            shift.resized(at, by);
            let len = bytes.len();
            sent(&mut bytes, &shift, L4Checksum::Full);
            acknowledged(&mut bytes, &shift, L4Checksum::Full);
            prop_assert_eq!(bytes.len(), len);
        }
    }
}
