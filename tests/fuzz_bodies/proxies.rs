//! What a proxy says of its client. It must not depend on cuts in the header, and must not name a
//! proxy's proxy as the client unless there is no other.

use corecast::limits::{PROXY_HEADER_BYTES_MAX, PROXY_LINE_BYTES_MAX};
use corecast::proxies::{
    First, Header, Peer, Proxies, begins_with_header, first_client, forwarded_client, read_header,
};

/// The first byte determines the place of a cut, and the rest is a header of the PROXY protocol
/// with a request behind it.
pub(crate) fn check(data: &[u8]) {
    let [cut, bytes @ ..] = data else { return };
    let whole = read_header(bytes);
    let cut_bytes = bytes.len() * usize::from(*cut) / 256;
    let front = read_header(&bytes[..cut_bytes]);
    let request = match whole {
        Header::Incomplete => {
            let most = PROXY_HEADER_BYTES_MAX.max(PROXY_LINE_BYTES_MAX);
            assert!(bytes.len() < most, "what is too long is not waited for");
            assert_eq!(front, Header::Incomplete, "nothing is taken back");
            return;
        }
        Header::Complete { client, consumed } => {
            assert!(begins_with_header(bytes));
            assert!(consumed <= bytes.len(), "only what came is consumed");
            let expected = if cut_bytes >= consumed { whole } else { Header::Incomplete };
            assert_eq!(front, expected, "what follows is the request");
            check_canonical(client.map(Peer::Address));
            &bytes[consumed..]
        }
        Header::Absent => {
            assert!(matches!(front, Header::Absent | Header::Incomplete));
            bytes
        }
        Header::Invalid(_) => {
            assert!(matches!(front, Header::Invalid(_) | Header::Incomplete));
            return;
        }
    };
    let proxies = ["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()];
    let proxies = Proxies::parse(&proxies).expect("networks");
    let (some, none) = (forwarded_client(request, &proxies), Proxies::default());
    if let (Header::Absent, First::Client(client)) = (whole, first_client(bytes, &proxies)) {
        assert_eq!(client, some, "a client that waits is the one that is admitted");
    }
    let last = forwarded_client(request, &none);
    check_canonical(some.map(Peer::Address));
    if let Some(last) = last.filter(|&last| !proxies.contains(Peer::Address(last))) {
        assert_eq!(some, Some(last), "the last address is no proxy's");
    }
}

fn check_canonical(client: Option<Peer>) {
    if let Some(Peer::Address(address)) = client {
        assert_eq!(address, address.to_canonical(), "an IPv4 address has one form");
    }
}
