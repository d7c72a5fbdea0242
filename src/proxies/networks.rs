//! The peers that count as proxies.

use core::net::{IpAddr, Ipv6Addr};

use crate::limits::PROXIES_MAX;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host. Never an IPv4 address in the form of an IPv6 address.
    Address(IpAddr),
    /// A process of this host, on a Unix socket.
    Unix,
}

impl Peer {
    /// The peer with an address. An IPv4 address in the form of an IPv6 address (RFC 4291
    /// §2.5.5.2) becomes an IPv4 address.
    pub fn of(address: IpAddr) -> Peer {
        Peer::Address(address.to_canonical())
    }

    /// Returns the address of a host.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Address(address) => Some(address),
            Peer::Unix => None,
        }
    }
}

/// The proxies that may name the clients of their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<Network>,
    /// Whether all peers on Unix sockets are proxies.
    unix: bool,
}

/// All addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    bits: u32,
}

impl Proxies {
    /// Parses a list of networks in CIDR notation, of single addresses, and of `unix`, which stands
    /// for all peers on Unix sockets.
    ///
    /// # Errors
    /// An entry is none of these, or there are more than [`PROXIES_MAX`]. The text names the entry
    /// and says how to write it.
    pub fn parse(texts: &[String]) -> Result<Proxies, String> {
        if texts.len() > PROXIES_MAX {
            let count = texts.len();
            return Err(format!(
                "has {count} networks, but at most {PROXIES_MAX} are allowed, because each new \
                 connection is compared with all of them: join networks"
            ));
        }
        let mut proxies = Proxies::default();
        for text in texts {
            match text.as_str() {
                "unix" => proxies.unix = true,
                network => proxies.networks.push(Network::parse(network)?),
            }
        }
        Ok(proxies)
    }

    /// Whether no peer is a proxy.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether a peer is a proxy.
    pub fn contains(&self, peer: Peer) -> bool {
        match peer {
            Peer::Address(address) => self.networks.iter().any(|one| one.contains(address)),
            Peer::Unix => self.unix,
        }
    }
}

impl Network {
    fn parse(text: &str) -> Result<Network, String> {
        let wrong = || {
            format!(
                "{text:?} is not a network: use an address, a network such as \"10.0.0.0/8\" or \
                 \"2001:db8::/32\", or \"unix\" for all peers on Unix sockets"
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { u32::BITS } else { u128::BITS };
        let is_number = |bits: &&str| bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            Some(bits) => {
                let number = Some(bits).filter(is_number).and_then(|bits| bits.parse().ok());
                number.filter(|&bits| bits <= most).ok_or_else(wrong)?
            }
            None => most,
        };
        let network = Network { first: address, bits };
        let first = network.first_of(address);
        if first != address {
            return Err(format!(
                "{text:?} has bits after the first {bits}: use \"{first}/{bits}\" for the whole \
                 network"
            ));
        }
        Ok(network.canonical())
    }

    /// Returns the same network with IPv4 addresses, if it has only IPv4 addresses in the form of
    /// IPv6 addresses.
    fn canonical(self) -> Network {
        const MAPPED_BITS: u32 = u128::BITS - u32::BITS;
        match self.first.to_canonical() {
            first if first != self.first && self.bits >= MAPPED_BITS => {
                Network { first, bits: self.bits - MAPPED_BITS }
            }
            _ => self,
        }
    }

    /// Returns the first address of the network of this size that has `address`.
    fn first_of(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::BITS - self.bits).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u128::BITS - self.bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
            }
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first_of(address) == self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Result<Proxies, String> {
        Proxies::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn contains(proxies: &Proxies, address: &str) -> bool {
        proxies.contains(Peer::of(address.parse().unwrap()))
    }

    #[test]
    fn a_list_contains_its_networks_and_nothing_else() {
        let list = proxies(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "0.0.0.0/32"]).unwrap();
        for address in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:ffff::1", "0.0.0.0"] {
            assert!(contains(&list, address), "{address}");
        }
        for address in ["11.0.0.0", "9.255.255.255", "192.0.2.8", "2001:db9::", "::a00:1"] {
            assert!(!contains(&list, address), "{address}");
        }
        assert!(contains(&list, "::ffff:10.1.2.3"), "a mapped address is an IPv4 address");
        assert!(!list.contains(Peer::Unix));
        let mapped = proxies(&["::ffff:10.0.0.0/104"]).unwrap();
        assert!(contains(&mapped, "10.1.2.3") && !contains(&mapped, "11.0.0.1"));
        let all = proxies(&["0.0.0.0/0", "unix"]).unwrap();
        assert!(contains(&all, "255.255.255.255") && all.contains(Peer::Unix));
        assert!(!contains(&all, "::1"), "another family");
        assert!(proxies(&[]).unwrap().is_empty() && !proxies(&["unix"]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_network_is_refused_with_a_way_out() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "1.2.3"]
        {
            let error = proxies(&[text]).unwrap_err();
            assert!(error.contains("is not a network"), "{error}");
        }
        let error = proxies(&["10.1.2.3/8"]).unwrap_err();
        assert!(error.contains("use \"10.0.0.0/8\""), "{error}");
        let error = proxies(&["2001:db8::1/64"]).unwrap_err();
        assert!(error.contains("use \"2001:db8::/64\""), "{error}");
        let error = proxies(&["10.0.0.1"; PROXIES_MAX + 1]).unwrap_err();
        assert!(error.contains(&PROXIES_MAX.to_string()), "{error}");
    }
}
