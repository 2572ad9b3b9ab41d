//! Which addresses are not on the public internet, by the registries of IANA.
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), RFC 6052
//! for NAT64, and the documentation of cloud providers for their metadata services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address that is not public is, in words that fit after "is".
pub(super) type Kind = &'static str;

/// In this order, because a metadata service lies inside a wider range.
const V4: &[(&str, Kind)] = &[
    ("169.254.169.254/32", "a cloud's metadata service"),
    ("169.254.170.2/32", "a cloud's metadata service"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("100.100.100.200/32", "a cloud's metadata service"),
    ("192.0.0.192/32", "a cloud's metadata service"),
    ("0.0.0.0/8", "an address of this host"),
    ("127.0.0.0/8", "a loopback address"),
    ("10.0.0.0/8", "a private address"),
    ("172.16.0.0/12", "a private address"),
    ("192.168.0.0/16", "a private address"),
    ("100.64.0.0/10", "a private address of a provider (CGNAT)"),
    ("169.254.0.0/16", "a link-local address"),
    ("192.0.0.0/24", "a reserved address"),
    ("192.0.2.0/24", "an address of documentation"),
    ("198.51.100.0/24", "an address of documentation"),
    ("203.0.113.0/24", "an address of documentation"),
    ("192.88.99.0/24", "a reserved address"),
    ("198.18.0.0/15", "an address of benchmarks"),
    ("224.0.0.0/4", "a multicast address"),
    ("255.255.255.255/32", "the broadcast address"),
    ("240.0.0.0/4", "a reserved address"),
];

/// Whatever is outside of 2000::/3 is none of the public internet; these are inside, or have a better name.
const V6: &[(&str, Kind)] = &[
    ("fd00:ec2::254/128", "a cloud's metadata service"),
    ("fd20:ce::254/128", "a cloud's metadata service"),
    ("::1/128", "a loopback address"),
    ("::/128", "an address of this host"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a private address"),
    ("ff00::/8", "a multicast address"),
    ("2001::/32", "an address of a tunnel (Teredo)"),
    ("2001::/23", "a reserved address"),
    ("2001:db8::/32", "an address of documentation"),
    ("2002::/16", "an address of a tunnel (6to4)"),
    ("3fff::/20", "an address of documentation"),
];

/// The IPv4 address that an IPv6 address stands for, where a packet would end up there: mapped
/// (`::ffff:0:0/96`) and NAT64 (`64:ff9b::/96`); every other address as it is.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            IpAddr::V4(Ipv4Addr::from_bits((u32::from(g) << 16) | u32::from(h)))
        }
        _ => address,
    }
}

/// What a canonical address is, if it is none of the public internet.
pub(super) fn kind(address: IpAddr) -> Option<Kind> {
    let table = if address.is_ipv4() { V4 } else { V6 };
    let named = table.iter().find(|(network, _)| Network::of(network).is_some_and(|n| n.contains(address)));
    match (named, address) {
        (Some((_, kind)), _) => Some(kind),
        (None, IpAddr::V6(v6)) if v6.segments()[0] & 0xe000 != 0x2000 => Some("a reserved address"),
        _ => None,
    }
}

/// Whether only its own number opens it, and no name that it answers to: nobody calls these by a name on
/// purpose, but a name can be made to point there.
pub(super) fn is_by_number_only(kind: Kind) -> bool {
    !matches!(kind, "a loopback address" | "a private address" | "a private address of a provider (CGNAT)")
}

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8` or a single address; `None` for anything else, set bits after the prefix included.
    pub(super) fn of(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let network = Self { address, bits: bits.unwrap_or(most) };
        (network.bits <= most && network.masked(address) == address).then_some(network)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == self.address
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_a_network() {
        for (network, _) in V4.iter().chain(V6) {
            assert!(Network::of(network).is_some(), "{network}");
        }
        assert_eq!(Network::of("10.0.0.1/8"), None);
        assert_eq!(Network::of("10.0.0.0/33"), None);
        assert!(Network::of("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
    }
}
