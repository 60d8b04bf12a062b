// SPDX-License-Identifier: GPL-2.0

//! The order of listings, which is ipvsadm's to the last entry.
//!
//! ipvsadm compares addresses by a difference that wraps around, so that 192.168.0.1 stands before
//! 10.0.0.1. Such a comparison is no order: three addresses may each precede the next in a circle,
//! and where they end up depends on the way they are sorted. So the way is ipvsadm's, too: the
//! merge sort of glibc.

use std::{cmp::Ordering, net::IpAddr};

use crate::model::{Destination, Family, Service, ServiceId};

/// Sorts services by mark, family, protocol, address and port.
pub fn services(services: Vec<Service>) -> Vec<Service> {
    merge_sort(services, &|a, b| {
        let (a, b) = (ServiceKey::of(&a.id), ServiceKey::of(&b.id));
        wrapping(a.mark, b.mark)
            .then_with(|| (a.family, a.protocol).cmp(&(b.family, b.protocol)))
            .then_with(|| words(a.address, b.address))
            .then_with(|| a.port.cmp(&b.port))
    })
}

/// Sorts destinations by address and port.
pub fn destinations(destinations: Vec<Destination>) -> Vec<Destination> {
    merge_sort(destinations, &|a, b| {
        words(Some(a.address), Some(b.address)).then_with(|| a.port.cmp(&b.port))
    })
}

/// What services are compared by; what a service has not got is zero.
struct ServiceKey {
    mark: u32,
    family: u8,
    protocol: u16,
    address: Option<IpAddr>,
    port: u16,
}

impl ServiceKey {
    fn of(id: &ServiceId) -> Self {
        let family = match id.family() {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        match *id {
            ServiceId::Address {
                protocol,
                address,
                port,
            } => ServiceKey {
                mark: 0,
                family,
                protocol,
                address: Some(address),
                port,
            },
            ServiceId::Mark { mark, .. } => ServiceKey {
                mark,
                family,
                protocol: 0,
                address: None,
                port: 0,
            },
        }
    }
}

fn wrapping(a: u32, b: u32) -> Ordering {
    (a.wrapping_sub(b) as i32).cmp(&0)
}

/// Compares the first words that differ; an IPv4 address is one word and three zeros.
fn words(a: Option<IpAddr>, b: Option<IpAddr>) -> Ordering {
    let differing = |a: [u32; 4], b: [u32; 4]| a.into_iter().zip(b).find(|(a, b)| a != b);
    match differing(as_words(a), as_words(b)) {
        Some((a, b)) => wrapping(a, b),
        None => Ordering::Equal,
    }
}

fn as_words(address: Option<IpAddr>) -> [u32; 4] {
    match address {
        None => [0; 4],
        Some(IpAddr::V4(address)) => [u32::from(address), 0, 0, 0],
        Some(IpAddr::V6(address)) => {
            let number = u128::from(address);
            [96, 64, 32, 0].map(|shift| (number >> shift) as u32)
        }
    }
}

fn merge_sort<T>(mut items: Vec<T>, compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let length = items.len();
    let second = merge_sort(items.split_off(length / 2), compare);
    let first = merge_sort(items, compare);
    let mut merged = Vec::with_capacity(length);
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        let next = match compare(a, b) {
            Ordering::Greater => second.next(),
            Ordering::Less | Ordering::Equal => first.next(),
        };
        merged.extend(next);
    }
    merged.extend(first);
    merged.extend(second);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata::{destination, service};

    fn sorted(ids: &[ServiceId]) -> Vec<ServiceId> {
        let unsorted = ids.iter().map(|id| service(id.clone())).collect();
        services(unsorted)
            .into_iter()
            .map(|service| service.id)
            .collect()
    }

    fn tcp(address: &str, port: u16) -> ServiceId {
        ServiceId::Address {
            protocol: 6,
            address: address.parse().unwrap(),
            port,
        }
    }

    #[test]
    fn addresses_far_apart_wrap_around() {
        let ids = [
            tcp("10.0.0.1", 80),
            tcp("192.168.0.1", 80),
            tcp("10.0.0.1", 22),
        ];
        let expected = [
            tcp("192.168.0.1", 80),
            tcp("10.0.0.1", 22),
            tcp("10.0.0.1", 80),
        ];
        assert_eq!(sorted(&ids), expected);
    }

    #[test]
    fn marks_stand_around_addresses() {
        let mark = |mark, family| ServiceId::Mark { mark, family };
        let ids = [
            mark(5, Family::V6),
            mark(5, Family::V4),
            tcp("2001:db8::1", 80),
            tcp("10.0.0.1", 80),
            mark(u32::MAX, Family::V4),
            mark(3_000_000_000, Family::V4),
        ];
        let expected = [
            mark(3_000_000_000, Family::V4),
            mark(u32::MAX, Family::V4),
            tcp("10.0.0.1", 80),
            tcp("2001:db8::1", 80),
            mark(5, Family::V4),
            mark(5, Family::V6),
        ];
        assert_eq!(sorted(&ids), expected);
    }

    #[test]
    fn destinations_of_both_families() {
        // As ipvsadm was seen to sort them, given in the kernel's order.
        let unsorted = [
            "10.1.0.7",
            "127.0.0.1",
            "2001:db8::5",
            "10.1.0.5",
            "192.168.1.1",
            "10.1.0.1",
        ];
        let expected = [
            "192.168.1.1",
            "10.1.0.1",
            "10.1.0.5",
            "10.1.0.7",
            "2001:db8::5",
            "127.0.0.1",
        ];
        let unsorted = unsorted
            .iter()
            .map(|address| destination(address))
            .collect();
        let sorted: Vec<String> = destinations(unsorted)
            .iter()
            .map(|d| d.address.to_string())
            .collect();
        assert_eq!(sorted, expected);
    }
}
