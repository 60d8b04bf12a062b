// SPDX-License-Identifier: GPL-2.0

//! What is attached: as the operator says it, as the programs read it, and as it is kept beside them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// How many ports the programs can be told.
pub const PORTS: usize = 32;
/// Alibaba's and DPVS's kind, alibaba's for IPv6, that of its first release, and UCloud's.
pub const KINDS: &[u8] = &[254, 253, 200, 252];
/// Of the option in the form of RFC 6994: `TO`. It is not registered.
pub const EXID: u16 = 0x544f;

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// Every address, of both families.
    const ANY: Prefix = Prefix {
        addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        len: 0,
    };

    /// The key in the programs' map: bits, then the address, IPv4 as mapped IPv6.
    pub fn key(&self) -> [u8; 20] {
        let (addr, len) = match self.addr {
            IpAddr::V4(addr) => (addr.to_ipv6_mapped(), 96 + u32::from(self.len)),
            IpAddr::V6(addr) => (addr, u32::from(self.len)),
        };
        let mut key = [0; 20];
        key[..4].copy_from_slice(&len.to_ne_bytes());
        key[4..].copy_from_slice(&addr.octets());
        key
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Prefix::ANY);
        }
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let addr: IpAddr = addr
            .parse()
            .map_err(|_| "neither an address, nor ADDRESS/LENGTH, nor `any'".to_string())?;
        let (all, bits) = match addr {
            IpAddr::V4(addr) => (32, u128::from(addr.to_bits()) << 96),
            IpAddr::V6(addr) => (128, addr.to_bits()),
        };
        let len = match len {
            None => all,
            Some(len) => match len.parse() {
                // That every stranger is believed is said in so many words or not at all.
                Ok(0) => return Err("everybody is `any'".to_string()),
                Ok(len) if len <= all => len,
                _ => return Err(format!("the length of a prefix is 1 to {all}")),
            },
        };
        if bits.checked_shl(u32::from(len)).unwrap_or(0) != 0 {
            return Err(format!("bits are set behind the first {len}"));
        }
        Ok(Prefix { addr, len })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Prefix::ANY {
            return f.write_str("any");
        }
        match (self.addr, self.len) {
            (IpAddr::V4(addr), 32) => write!(f, "{addr}"),
            (IpAddr::V6(addr), 128) => write!(f, "{addr}"),
            (addr, len) => write!(f, "{addr}/{len}"),
        }
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// All that `attach` is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub from: Vec<Prefix>,
    pub cgroups: Vec<String>,
    pub kinds: Vec<u8>,
    pub exid: u16,
    /// Local ports; none means all.
    pub ports: Vec<u16>,
    pub udp: bool,
    pub devices: Vec<String>,
}

impl Config {
    /// `struct config` of bpf/common.h.
    pub fn for_programs(&self) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        for &kind in &self.kinds {
            bytes[usize::from(kind)] = 1;
        }
        let count = self.ports.len().min(PORTS);
        let ports = self.ports.iter().copied().chain(std::iter::repeat(0));
        for number in ports.take(PORTS).chain([count as u16, self.exid]) {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match text.parse::<Prefix>() {
            Ok(prefix) => prefix.to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn prefixes() {
        for good in [
            "10.0.0.1",
            "10.0.0.0/24",
            "2001:db8::/32",
            "2001:db8::1",
            "any",
        ] {
            assert_eq!(told(good), good);
        }
        assert_eq!(told("10.0.0.1/32"), "10.0.0.1");
        assert_eq!(told("10.0.0.1/24"), "bits are set behind the first 24");
        assert_eq!(told("2001:db8::1/64"), "bits are set behind the first 64");
        assert_eq!(told("10.0.0.0/33"), "the length of a prefix is 1 to 32");
        assert_eq!(told("10.0.0.0/x"), "the length of a prefix is 1 to 32");
        assert_eq!(told("0.0.0.0/0"), "everybody is `any'");
        assert_eq!(told("::/0"), "everybody is `any'");
        assert!(told("all").starts_with("neither"));
    }

    #[test]
    fn keys() {
        let key = |text: &str| text.parse::<Prefix>().unwrap().key();
        assert_eq!(key("any"), [0; 20]);
        let mut ip4 = [0; 20];
        ip4[..4].copy_from_slice(&120u32.to_ne_bytes());
        ip4[14..19].copy_from_slice(&[0xff, 0xff, 10, 1, 2]);
        assert_eq!(key("10.1.2.0/24"), ip4);
    }

    #[test]
    fn layout() {
        let config = Config {
            from: vec![],
            cgroups: vec![],
            kinds: vec![254],
            exid: 0x1234,
            ports: vec![80],
            udp: false,
            devices: vec![],
        };
        let bytes = config.for_programs();
        assert_eq!(bytes.len(), 256 + 2 * PORTS + 4);
        assert_eq!(bytes.iter().position(|&byte| byte != 0), Some(254));
        assert_eq!(bytes[256..258], 80u16.to_ne_bytes());
        assert_eq!(bytes[320..322], 1u16.to_ne_bytes());
        assert_eq!(bytes[322..], 0x1234u16.to_ne_bytes());
    }
}
