//! Patterns in lists of hosts and origins.

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
