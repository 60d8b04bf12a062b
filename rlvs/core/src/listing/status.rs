// SPDX-License-Identifier: GPL-2.0

//! The lines of `ip_vs_status`.

use core::fmt;

/// How many buckets of a hash table have how long a chain. [`Census::MANY`] stands for all that
/// are longer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census([u32; Census::MANY + 1]);

impl Census {
    /// The longest chain that is told.
    pub const MANY: usize = 7;

    /// Counts a bucket.
    pub fn count(&mut self, len: usize) {
        if let Some(buckets) = self.0.get_mut(len.min(Self::MANY)) {
            *buckets = buckets.saturating_add(1);
        }
    }
}

/// `ip_vs_status`: a table.
pub struct Table<'a> {
    /// What its entries are called, one of them, and many of them.
    pub names: (&'a str, &'a str),
    /// How many entries there are.
    pub entries: usize,
    /// How many buckets, a power of two.
    pub buckets: usize,
    /// The binary logarithm of the load at which it grows.
    pub lfactor: i32,
    /// The lengths of its chains, if anybody has counted.
    pub census: Option<Census>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            names: (name, names),
            entries,
            buckets,
            lfactor,
            census,
        } = self;
        let bits = buckets.checked_ilog2().unwrap_or(0);
        writeln!(f, "{names}:\t{entries}")?;
        writeln!(
            f,
            "{name} buckets:\t{buckets} ({bits} bits, lfactor {lfactor})"
        )?;
        let Some(Census([empty, used @ ..])) = census else {
            return Ok(());
        };
        let used_sum = used.iter().fold(0, |sum: u32, n| sum.saturating_add(*n));
        let sum = used_sum.saturating_add(*empty);
        writeln!(
            f,
            "{name} buckets empty:\t{empty} ({}%)",
            percent(*empty, sum)
        )?;
        for (len, n) in (1..).zip(used) {
            if *n > 0 {
                let percent = percent(*n, used_sum);
                writeln!(f, "{name} buckets len-{len}:\t{n} ({percent}%)")?;
            }
        }
        Ok(())
    }
}

/// Rounded down; of nothing, 0.
fn percent(part: u32, whole: u32) -> u64 {
    u64::from(part)
        .wrapping_mul(100)
        .checked_div(u64::from(whole))
        .unwrap_or(0)
}

/// `ip_vs_status`: the estimation of rates.
pub struct Estimation {
    /// Parts that a period is cut into.
    pub slots: usize,
    /// How many these may be.
    pub max_slots: usize,
    /// Estimators that are updated in one go.
    pub chain: usize,
    /// Estimators there are.
    pub estimators: usize,
}

impl fmt::Display for Estimation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slots,
            max_slots,
            chain,
            estimators,
        } = self;
        write!(
            f,
            "Stats thread slots:\t{slots} (max {max_slots})\n\
             Stats chain max len:\t{chain}\n\
             Stats thread ests:\t{estimators}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(census: Option<Census>) -> Table<'static> {
        Table {
            names: ("Conn", "Conns"),
            entries: 9,
            buckets: 256,
            lfactor: -4,
            census,
        }
    }

    #[test]
    fn an_empty_table_tells_its_size_only() {
        assert_eq!(
            table(None).to_string(),
            "Conns:\t9\nConn buckets:\t256 (8 bits, lfactor -4)\n"
        );
    }

    #[test]
    fn a_table_tells_the_lengths_of_its_chains() {
        let mut census = Census::default();
        for len in [0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 7, 8, 1000] {
            census.count(len);
        }
        assert_eq!(
            table(Some(census)).to_string(),
            "Conns:\t9\n\
             Conn buckets:\t256 (8 bits, lfactor -4)\n\
             Conn buckets empty:\t7 (53%)\n\
             Conn buckets len-1:\t2 (33%)\n\
             Conn buckets len-2:\t1 (16%)\n\
             Conn buckets len-7:\t3 (50%)\n"
        );
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(u32::MAX, u32::MAX), 100);
    }

    #[test]
    fn the_estimation_has_three_lines() {
        let estimation = Estimation {
            slots: 1,
            max_slots: 50,
            chain: 128,
            estimators: 3,
        };
        assert_eq!(
            estimation.to_string(),
            "Stats thread slots:\t1 (max 50)\nStats chain max len:\t128\nStats thread ests:\t3\n"
        );
    }
}
