// SPDX-License-Identifier: GPL-2.0

//! The lines of `ip_vs_stats` and `ip_vs_stats_percpu`.

use crate::rate::{
    Counters,
    Rates, //
};
use core::fmt;

/// Five numbers in the widths of both statistics files.
struct Row(Counters);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters {
            conns,
            inpkts,
            outpkts,
            inbytes,
            outbytes,
        } = self.0;
        write!(
            f,
            "{conns:8X} {inpkts:8X} {outpkts:8X} {inbytes:16X} {outbytes:16X}"
        )
    }
}

impl From<Rates> for Row {
    fn from(rates: Rates) -> Self {
        Self(Counters {
            conns: rates.cps,
            inpkts: rates.inpps,
            outpkts: rates.outpps,
            inbytes: rates.inbps,
            outbytes: rates.outbps,
        })
    }
}

/// `ip_vs_stats`, all of it.
pub struct Stats(pub Counters, pub Rates);

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, rates) = (Row(self.0), Row::from(self.1));
        write!(
            f,
            "   Total Incoming Outgoing         Incoming         Outgoing\n\
             \x20  Conns  Packets  Packets            Bytes            Bytes\n\
             {total}\n\n\
             \x20Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
             {rates}\n"
        )
    }
}

/// `ip_vs_stats_percpu`: its head.
pub const PERCPU_HEAD: &str = "       Total Incoming Outgoing         Incoming         Outgoing\n\
     CPU    Conns  Packets  Packets            Bytes            Bytes\n";

/// `ip_vs_stats_percpu`: one processor.
pub struct Cpu(pub i32, pub Counters);

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:3X} {}", self.0, Row(self.1))
    }
}

/// `ip_vs_stats_percpu`: what follows the processors.
pub struct AllCpus(pub Counters, pub Rates);

impl fmt::Display for AllCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, rates) = (Row(self.0), Row::from(self.1));
        write!(
            f,
            "\x20 ~ {total}\n\n\
             \x20    Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
             \x20   {rates}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Counters {
        Counters {
            conns: 1,
            inpkts: 0xab,
            outpkts: 0x1_2345_6789,
            inbytes: 0xdead_beef,
            outbytes: u64::MAX,
        }
    }

    const RATES: Rates = Rates {
        cps: 1,
        inpps: 2,
        outpps: 3,
        inbps: 4,
        outbps: 0x500,
    };

    #[test]
    fn statistics_are_hexadecimal() {
        assert_eq!(
            Stats(counters(), RATES).to_string(),
            "   Total Incoming Outgoing         Incoming         Outgoing\n   \
             Conns  Packets  Packets            Bytes            Bytes\n       \
             1       AB 123456789         DEADBEEF FFFFFFFFFFFFFFFF\n\n \
             Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       \
             1        2        3                4              500\n"
        );
    }

    #[test]
    fn processors_are_hexadecimal_too() {
        assert_eq!(
            format!(
                "{PERCPU_HEAD}{}{}",
                Cpu(0x1f, counters()),
                AllCpus(counters(), RATES)
            ),
            "       Total Incoming Outgoing         Incoming         Outgoing\n\
             CPU    Conns  Packets  Packets            Bytes            Bytes\n \
             1F        1       AB 123456789         DEADBEEF FFFFFFFFFFFFFFFF\n  \
             ~        1       AB 123456789         DEADBEEF FFFFFFFFFFFFFFFF\n\n     \
             Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n           \
             1        2        3                4              500\n"
        );
    }
}
