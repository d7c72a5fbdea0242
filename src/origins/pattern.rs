//! Patterns in lists of hosts and origins.

use super::authority::is_private_ending;

/// Whether `pattern` matches all of `text`, without regard to case. A `*` stands for any text.
pub(super) fn matches_part(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut in_pattern, mut in_text) = (0, 0);
    // The last `*`, and the position in `text` up to which it matches.
    let mut star = None;
    while in_text < text.len() {
        if pattern.get(in_pattern) == Some(&b'*') {
            star = Some((in_pattern, in_text));
            in_pattern += 1;
        } else if pattern.get(in_pattern).is_some_and(|p| p.eq_ignore_ascii_case(&text[in_text])) {
            in_pattern += 1;
            in_text += 1;
        } else if let Some((star_in_pattern, stands_to)) = star {
            star = Some((star_in_pattern, stands_to + 1));
            in_pattern = star_in_pattern + 1;
            in_text = stands_to + 1;
        } else {
            return false;
        }
    }
    pattern[in_pattern..].iter().all(|&byte| byte == b'*')
}

/// Whether anyone can register a name that `pattern`, a host, matches. A `*` stands for any labels,
/// so two labels must follow that of the last `*`, as in `*.example.com`. One is enough if it is
/// reserved for private networks, as in `*.localhost`. Endings such as `co.uk`, under which names
/// are sold too, are not known here.
pub(super) fn matches_strangers(pattern: &str) -> bool {
    let Some((_, end)) = pattern.rsplit_once('*') else { return false };
    let end = end.strip_suffix('.').unwrap_or(end);
    let mut labels = end.split('.').skip(1);
    match (labels.next(), labels.next()) {
        // No name ends like an IPv6 address.
        (None, _) => !end.ends_with(']'),
        (Some(last), None) => !is_private_ending(last),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_ends_in_a_domain_or_in_a_private_ending() {
        for (pattern, strangers) in [
            ("example.com", false),
            ("*.example.com", false),
            ("app-*.example.com", false),
            ("a.*.example.com.", false),
            ("*.localhost", false),
            ("*.Internal", false),
            ("*.local", false),
            ("*.test.", false),
            ("[fd00::*]", false),
            ("*", true),
            ("*.com", true),
            ("*.com.", true),
            ("*example.com", true),
            ("*.example.*.com", true),
            ("example.*", true),
            ("example*", true),
            ("192.168.1.*", true),
        ] {
            assert_eq!(matches_strangers(pattern), strangers, "{pattern}");
        }
    }
}
