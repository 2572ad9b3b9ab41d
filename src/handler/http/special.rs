//! Which addresses are not on the public internet, by the registries of IANA.
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), RFC 6052
//! for NAT64, and the documentation of cloud providers for their metadata services.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

/// What an address that is not public is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Metadata,
    ThisHost,
    Loopback,
    Private,
    Carrier,
    LinkLocal,
    Multicast,
    Broadcast,
    Documentation,
    Benchmark,
    Tunnel,
    Reserved,
}

impl fmt::Display for Kind {
    /// In words that fit after "is".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "a cloud's metadata service",
            Self::ThisHost => "an address of this host",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Carrier => "a private address of a provider (CGNAT)",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "an address of documentation",
            Self::Benchmark => "an address of benchmarks",
            Self::Tunnel => "an address of a tunnel (Teredo, 6to4)",
            Self::Reserved => "a reserved address",
        })
    }
}

impl Kind {
    /// Whether a name on the allow-list opens it. Nobody calls the others by a name on purpose, but a name can
    /// be made to point there.
    pub(super) fn has_names(self) -> bool {
        matches!(self, Self::Loopback | Self::Private | Self::Carrier)
    }
}

/// The first that fits counts: a metadata service lies inside of a wider range. What is outside of 2000::/3 is
/// not public either, and only named here where there is a better word than reserved.
const SPECIAL: &[(&str, Kind)] = &[
    ("169.254.169.254/32", Kind::Metadata),
    ("169.254.170.2/32", Kind::Metadata),
    ("168.63.129.16/32", Kind::Metadata),
    ("100.100.100.200/32", Kind::Metadata),
    ("192.0.0.192/32", Kind::Metadata),
    ("0.0.0.0/8", Kind::ThisHost),
    ("127.0.0.0/8", Kind::Loopback),
    ("10.0.0.0/8", Kind::Private),
    ("172.16.0.0/12", Kind::Private),
    ("192.168.0.0/16", Kind::Private),
    ("100.64.0.0/10", Kind::Carrier),
    ("169.254.0.0/16", Kind::LinkLocal),
    ("192.0.0.0/24", Kind::Reserved),
    ("192.0.2.0/24", Kind::Documentation),
    ("198.51.100.0/24", Kind::Documentation),
    ("203.0.113.0/24", Kind::Documentation),
    ("192.88.99.0/24", Kind::Reserved),
    ("198.18.0.0/15", Kind::Benchmark),
    ("224.0.0.0/4", Kind::Multicast),
    ("255.255.255.255/32", Kind::Broadcast),
    ("240.0.0.0/4", Kind::Reserved),
    ("fd00:ec2::254/128", Kind::Metadata),
    ("fd20:ce::254/128", Kind::Metadata),
    ("::1/128", Kind::Loopback),
    ("::/128", Kind::ThisHost),
    ("fc00::/7", Kind::Private),
    ("fe80::/10", Kind::LinkLocal),
    ("fec0::/10", Kind::Private),
    ("ff00::/8", Kind::Multicast),
    ("2001::/32", Kind::Tunnel),
    ("2001::/23", Kind::Reserved),
    ("2001:db8::/32", Kind::Documentation),
    ("2002::/16", Kind::Tunnel),
    ("3fff::/20", Kind::Documentation),
];

/// The same, read.
static NETWORKS: LazyLock<Vec<(Network, Kind)>> =
    LazyLock::new(|| SPECIAL.iter().filter_map(|(text, kind)| Some((Network::of(text)?, *kind))).collect());

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
    let special = NETWORKS.iter().find(|(network, _)| network.contains(address)).map(|(_, kind)| *kind);
    special.or(match address {
        IpAddr::V6(v6) if v6.segments()[0] & 0xe000 != 0x2000 => Some(Kind::Reserved),
        _ => None,
    })
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
        for (network, _) in SPECIAL {
            assert!(Network::of(network).is_some(), "{network}");
        }
        assert_eq!(Network::of("10.0.0.1/8"), None);
        assert_eq!(Network::of("10.0.0.0/33"), None);
        assert!(Network::of("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
    }
}
