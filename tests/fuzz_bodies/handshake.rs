//! A request. The answer must be HTTP, and must not depend on cuts in the request.

use corecast::handshake::{Probe, Progress, Response, Rules, Upgrade, health_response, read};
use corecast::origins::Origins;
use corecast::readiness::Phase;

/// The first byte determines the rules, the second one the place of a cut, and the rest is the
/// request.
pub(crate) fn check(data: &[u8]) {
    let [rules, cut, bytes @ ..] = data else { return };
    let some = vec!["https://*.example.com".to_owned(), "http://localhost:*".to_owned()];
    let rules = Rules {
        origins: Origins::of_list(if rules & 1 == 0 { vec![] } else { some }),
        echo: rules & 2 != 0,
        path_prefix: if rules & 4 == 0 { String::new() } else { "/a".to_owned() },
        head_bytes_max: 8 * 1024,
        ..Rules::default()
    };
    let whole = read(bytes, &rules);
    let cut_bytes = bytes.len() * usize::from(*cut) / 256;
    let front = read(&bytes[..cut_bytes], &rules);
    match &whole {
        Progress::Incomplete => {
            assert!(bytes.len() < rules.head_bytes_max, "a head that is too long is refused");
            assert_eq!(front, Progress::Incomplete, "a result does not change");
        }
        Progress::Upgrade(upgrade) => {
            check_upgrade(upgrade, bytes, &rules);
            if cut_bytes >= upgrade.consumed {
                assert_eq!(front, whole, "frames follow the head");
            } else {
                assert_eq!(front, Progress::Incomplete, "half a request is not refused");
            }
        }
        Progress::Health(probe) => {
            for phase in [Phase::Serving, Phase::Full] {
                check_head(&health_response(phase, *probe), *probe != Probe::Head);
            }
            assert!(matches!(front, Progress::Incomplete | Progress::Health(_)));
        }
        Progress::Respond(response) => {
            check_response(response);
            assert!(!matches!(front, Progress::Upgrade(_)), "an upgrade is not taken back");
        }
    }
}

fn check_upgrade(upgrade: &Upgrade, bytes: &[u8], rules: &Rules) {
    assert!(upgrade.consumed <= bytes.len(), "only received bytes are consumed");
    assert!(upgrade.consumed <= rules.head_bytes_max, "and not more than the limit");
    let response = upgrade.acceptance.head();
    let (status, head_bytes, headers) = head(&response);
    assert_eq!(status, 101);
    assert_eq!(head_bytes, response.len(), "a 101 has no body");
    assert!(headers.iter().any(|(name, _)| name == "Sec-WebSocket-Accept"));
}

fn check_response(response: &Response) {
    let (status, ..) = head(&response.bytes);
    assert_eq!(status, response.reason.details().code);
    check_head(&response.bytes, true);
}

/// Checks an answer with or without a body.
fn check_head(bytes: &[u8], has_body: bool) {
    let (_, head_bytes, headers) = head(bytes);
    let body = &bytes[head_bytes..];
    if !has_body {
        return assert!(body.is_empty(), "HEAD is answered with a head");
    }
    let length = ("Content-Length".to_owned(), body.len().to_string());
    assert!(headers.contains(&length), "{headers:?} for {} bytes", body.len());
    assert_eq!(body.last(), Some(&b'\n'), "a body is one line");
}

/// Returns status, length and headers of a response head.
fn head(bytes: &[u8]) -> (u16, usize, Vec<(String, String)>) {
    let mut headers = [httparse::EMPTY_HEADER; 8];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = response.parse(bytes).expect("an answer is HTTP").unwrap();
    let headers = response.headers.iter().map(|header| {
        (header.name.to_owned(), String::from_utf8(header.value.to_vec()).expect("and text"))
    });
    (response.code.expect("it has a status"), head_bytes, headers.collect())
}
