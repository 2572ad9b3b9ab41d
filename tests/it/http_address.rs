//! No call leaves for an address that is not public, however it is written and whatever a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use watchbell::handler::http::{Allowed, Http};

/// What the registries of IANA do not call globally reachable, in the form of the registry, and multicast.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "168.63.129.16/32",
    "::1/128",
    "::/128",
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:2::/48",
    "2001:db8::/32",
    "2001:10::/28",
    "2001:20::/28",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "4000::/3",
    "8000::/2",
];

/// Addresses of well-known public hosts, and the first and last before and after special ranges.
const PUBLIC: &[&str] = &[
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "2001:4860:4860::8888",
    "2400:cb00::1",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
];

#[tokio::test]
async fn every_spelling_of_an_inner_address_is_refused() {
    let http = Http::new();
    for host in [
        "127.0.0.1",
        "127.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "0",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[fc00::1]",
        "169.254.169.254",
        "0xA9FEA9FE",
        "2852039166",
        "[::ffff:a9fe:a9fe]",
        "[::ffff:169.254.169.254]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.100.100.200",
        "168.63.129.16",
        "255.255.255.255",
        "224.0.0.1",
    ] {
        let said = http.addresses(&format!("http://{host}/")).await.unwrap_err();
        assert!(said.to_string().contains("which this worker does not call"), "{host}: {said}");
    }
    for name in ["localhost", "LOCALHOST", "ｌocalhost"] {
        let said = http.addresses(&format!("http://{name}/")).await.unwrap_err().to_string();
        assert!(said.contains("resolves to a loopback address, which this worker does not call"), "{name}: {said}");
    }
    let said = http.addresses("http://169.254.169.254/latest/meta-data").await.unwrap_err().to_string();
    assert_eq!(
        said,
        "169.254.169.254 is a cloud's metadata service, which this worker does not call; \
         its operator could allow it (--http-allow)"
    );
}

#[tokio::test]
async fn public_addresses_are_called() {
    for text in PUBLIC {
        let address: IpAddr = text.parse().unwrap();
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let found = Http::new().addresses(&format!("https://{host}/")).await;
        assert_eq!(found.unwrap_or_else(|e| panic!("{text}: {e}")), [SocketAddr::new(address, 443)]);
    }
}

#[tokio::test]
async fn of_a_mixed_answer_only_public_addresses_are_used() {
    let addresses = ["10.0.0.1", "93.184.216.34", "::1", "2606:2800:220:1::1"].map(|a| a.parse::<IpAddr>().unwrap());
    let http = Http::new().resolve("mixed.test", addresses).resolve("inner.test", [addresses[0], addresses[2]]);
    let found = http.addresses("http://Mixed.test:8080/x").await.unwrap();
    assert_eq!(found, [SocketAddr::new(addresses[1], 8080), SocketAddr::new(addresses[3], 8080)]);
    let said = http.addresses("http://inner.test/").await.unwrap_err().to_string();
    assert!(said.starts_with("the host name inner.test resolves to "), "{said}");
    assert!(!said.contains("10.0.0.1") && !said.contains("::1"), "an inner address is told: {said}");
}

#[tokio::test]
async fn the_allow_list_opens_what_it_names_and_no_more() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("localhost:8080", &["http://localhost:8080"], &["http://localhost", "http://127.0.0.1:8080"]),
        ("127.0.0.1", &["http://127.0.0.1:1", "http://0x7f.1", "http://[::ffff:127.0.0.1]"], &["http://127.0.0.2"]),
        (
            "10.0.0.0/8:443",
            &["https://10.1.2.3", "https://[64:ff9b::a01:203]"],
            &["http://10.1.2.3", "https://11.0.0.1:0"],
        ),
        ("[::1]:99", &["http://[::1]:99"], &["http://[::1]", "http://127.0.0.1:99"]),
        ("fd00::/8", &["http://[fd12::1]"], &["http://[fc12::1]"]),
        ("inner.test", &["http://inner.test", "http://INNER.test:81"], &["http://10.0.0.1", "http://other.test"]),
        ("meta.test", &[], &["http://meta.test"]),
        ("169.254.169.254", &["http://169.254.169.254", "http://meta.test"], &["http://169.254.169.253"]),
    ];
    let inner: IpAddr = "10.0.0.1".parse().unwrap();
    let meta: IpAddr = "169.254.169.254".parse().unwrap();
    for (allowed, open, shut) in cases {
        let http = Http::new()
            .allow(allowed.parse().unwrap())
            .resolve("inner.test", [inner])
            .resolve("other.test", [inner])
            .resolve("meta.test", [meta])
            .resolve("localhost", [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        for url in *open {
            http.addresses(url).await.unwrap_or_else(|e| panic!("{allowed}: {url}: {e}"));
        }
        for url in *shut {
            assert!(http.addresses(url).await.is_err(), "{allowed}: {url}");
        }
    }
    for bad in ["", "a b", "10.0.0.1/8", "10.0.0.0/33", "http://x", "x:0", "x:70000", "user@x", "x/y", ":80", "*"] {
        assert!(bad.parse::<Allowed>().is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_special_address_passes(network in prop::sample::select(SPECIAL), bits: u128) {
        let address = within(network, bits);
        prop_assert!(refused(address), "{address} of {network}");
        if let IpAddr::V4(v4) = address {
            prop_assert!(refused(IpAddr::V6(v4.to_ipv6_mapped())), "{address} mapped");
            prop_assert!(refused(IpAddr::V6(v4.to_ipv6_compatible())), "{address} compatible");
            let [a, b] = [v4.to_bits() >> 16, v4.to_bits() & 0xffff].map(|half| u16::try_from(half).unwrap());
            for v6 in [[0x64, 0xff9b, 0, 0, 0, 0, a, b], [0x64, 0xff9b, 1, 0, 0, 0, a, b], [0x2002, a, b, 0, 0, 0, 0, 1],
                       [0x2001, 0, a, b, 0, 0, !a, !b]] {
                prop_assert!(refused(IpAddr::V6(Ipv6Addr::from(v6))), "{address} as {}", Ipv6Addr::from(v6));
            }
            // numbers in every notation that resolvers know
            let n = v4.to_bits();
            for host in [format!("{n}"), format!("{n:#x}"), format!("0{n:o}"), format!("{}.{}", n >> 24, n & 0xff_ffff)] {
                let found = block_on(Http::new().addresses(&format!("http://{host}/")));
                prop_assert!(found.is_err(), "{host}");
            }
        }
    }

    /// The std's own predicates, as far as they are stable, are a second opinion.
    #[test]
    fn what_passes_is_nothing_that_std_knows(a: u32, b: u128) {
        let v4 = Ipv4Addr::from_bits(a);
        let is_special = v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(refused(v4.into()) || !is_special, "{v4}");
        let v6 = Ipv6Addr::from_bits(b);
        let is_special = v6.is_loopback() || v6.is_multicast() || v6.is_unspecified() || v6.is_unique_local()
            || v6.is_unicast_link_local();
        prop_assert!(refused(v6.into()) || !is_special, "{v6}");
    }

    /// Whatever a host looks like, nothing panics, and a call goes to public addresses or nowhere.
    #[test]
    fn any_host_is_answered(host in "[0-9a-fx.:\\[\\]%]{1,24}") {
        let known = Http::new().resolve(host.clone(), []);
        if let Ok(found) = block_on(known.addresses(&format!("http://{host}/"))) {
            for address in found {
                prop_assert!(!refused(address.ip()), "{host}: {address}");
            }
        }
    }
}

fn refused(address: IpAddr) -> bool {
    block_on(Http::new().resolve("any.test", [address]).addresses("http://any.test/")).is_err()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// An address of the network whose other bits are these.
fn within(network: &str, bits: u128) -> IpAddr {
    let (address, length) = network.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match address.parse().unwrap() {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | (u32::try_from(bits & 0xffff_ffff).unwrap() & host)))
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | (bits & host)))
        }
    }
}
