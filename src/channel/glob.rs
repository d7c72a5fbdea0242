//! Patterns for the names of channels, as in Centrifugo: `*` is any text, `?` one character,
//! `[a-z]` and `[abc]` one of these, `[!a]` one of the others, `{a,b}` one of several patterns, and
//! `\` makes the next character an ordinary one.

use regex_lite::Regex;

/// A pattern that can be matched against names.
#[derive(Clone, Debug)]
pub struct Glob {
    /// The text before the first special character.
    prefix: Box<str>,
    rest: Rest,
}

/// The part of a pattern from its first special character on.
#[derive(Clone, Debug)]
enum Rest {
    /// Names end here.
    End,
    /// Any text may follow.
    Anything,
    /// Text of this form follows. Matching takes time in proportion to the product of the lengths
    /// of pattern and name, whatever they contain.
    Form { form: Regex, bytes: usize },
}

/// The reason why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// A `[` has no `]`, or nothing is between them.
    #[error("a [ needs characters and a ]; write \\[ for the character itself")]
    Class,
    /// The range has its ends in the wrong order.
    #[error("the range {0}-{1} ends before it begins")]
    Range(char, char),
    /// A `{` has no `}`.
    #[error("a {{ needs a }}; write \\{{ for the character itself")]
    Braces,
    /// The pattern is too long or too deeply nested.
    #[error("it is too complex")]
    Complex,
}

impl Glob {
    /// Parses a pattern. An empty one matches every name.
    ///
    /// # Errors
    /// See [`GlobError`].
    pub fn new(pattern: &str) -> Result<Glob, GlobError> {
        let special = pattern.find(['*', '?', '[', '{', '\\']);
        let (prefix, rest) = pattern.split_at(special.unwrap_or(pattern.len()));
        let rest = if rest.is_empty() {
            if prefix.is_empty() { Rest::Anything } else { Rest::End }
        } else if rest.bytes().all(|byte| byte == b'*') {
            Rest::Anything
        } else {
            let form = Regex::new(&form(rest)?).map_err(|_| GlobError::Complex)?;
            Rest::Form { form, bytes: rest.len() }
        };
        Ok(Glob { prefix: Box::from(prefix), rest })
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&*self.prefix) else { return false };
        match &self.rest {
            Rest::End => rest.is_empty(),
            Rest::Anything => true,
            Rest::Form { form, .. } => form.is_match(rest),
        }
    }

    /// The time of one match, as a multiple of that of a comparison of texts.
    pub fn cost(&self) -> usize {
        match &self.rest {
            Rest::End | Rest::Anything => 1,
            Rest::Form { bytes, .. } => 1 + bytes,
        }
    }
}

/// Translates a pattern to a regular expression.
fn form(pattern: &str) -> Result<String, GlobError> {
    let mut form = String::from(r"(?s)\A(?:");
    let mut depth = 0_u32;
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '*' => {
                let stars = rest.as_str().len() - rest.as_str().trim_start_matches('*').len();
                rest = rest.as_str()[stars..].chars();
                form.push_str(".*");
            }
            '?' => form.push('.'),
            '[' => rest = class(rest.as_str(), &mut form)?.chars(),
            '{' => {
                depth += 1;
                form.push_str("(?:");
            }
            ',' if depth > 0 => form.push('|'),
            '}' if depth > 0 => {
                depth -= 1;
                form.push(')');
            }
            '\\' => rest.next().into_iter().for_each(|next| literal(next, &mut form)),
            other => literal(other, &mut form),
        }
    }
    form.push_str(r")\z");
    if depth == 0 { Ok(form) } else { Err(GlobError::Braces) }
}

/// Translates what follows a `[`, and returns the rest after its `]`. Like Centrifugo, it takes
/// either one range or a list of characters.
fn class<'p>(pattern: &'p str, form: &mut String) -> Result<&'p str, GlobError> {
    let (not, pattern) = match pattern.strip_prefix('!') {
        Some(pattern) => ("^", pattern),
        None => ("", pattern),
    };
    form.push('[');
    form.push_str(not);
    let mut chars = pattern.chars();
    let (low, between, high) = (chars.next(), chars.next(), chars.next());
    if let (Some(low), Some('-'), Some(high)) = (low, between, high) {
        let rest = chars.as_str().strip_prefix(']').ok_or(GlobError::Class)?;
        if low > high {
            return Err(GlobError::Range(low, high));
        }
        literal(low, form);
        form.push('-');
        literal(high, form);
        form.push(']');
        return Ok(rest);
    }
    let mut chars = pattern.chars();
    let mut listed = 0;
    while let Some(next) = chars.next() {
        match next {
            ']' if listed > 0 => {
                form.push(']');
                return Ok(chars.as_str());
            }
            ']' => break,
            '\\' => literal(chars.next().ok_or(GlobError::Class)?, form),
            other => literal(other, form),
        }
        listed += 1;
    }
    Err(GlobError::Class)
}

fn literal(character: char, form: &mut String) {
    form.push_str(&regex_lite::escape(character.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, matching, others) in [
            ("", &["", "any"][..], &[][..]),
            ("*", &["", "a:b"], &[]),
            ("news", &["news"], &["news:1", "new", ""]),
            ("news:*", &["news:", "news:1:2", "news:\n"], &["news", "old:1"]),
            ("*:1", &[":1", "news:1:1"], &["news:2"]),
            ("n?ws**", &["news", "nüws:1"], &["nws", "neews"]),
            ("a*b*c", &["abc", "aXbYbZc"], &["aXbYbZ", "ab"]),
            ("[abc]", &["a", "c"], &["d", "ab", "", "[abc]"]),
            ("x[a-c]y", &["xay", "xcy"], &["x-y", "xdy", "xy"]),
            ("[!a-c]", &["d", "-", "ü"], &["a", "b", ""]),
            ("[!ab]x", &["cx"], &["ax", "x"]),
            ("[^a]", &["^", "a"], &["b"]),
            (r"[\]\\]", &["]", "\\"], &["a"]),
            ("{a,b}", &["a", "b"], &["c", "ab", "a,b", "{a,b}"]),
            ("{news,chat}:*", &["news:1", "chat:"], &["other:1", "news"]),
            ("{a?,b*}{1,2}", &["ax1", "b2", "bxx1"], &["a1", "b3"]),
            ("{a,{b,c}d}", &["a", "bd", "cd"], &["b", "ad"]),
            ("{,a}b", &["b", "ab"], &["a"]),
            ("a,b}]", &["a,b}]"], &["a", "b}]"]),
            (r"\*\?\[\{\\", &[r"*?[{\"], &["x"]),
            (r"{a\,b,c}", &["a,b", "c"], &["a", "b"]),
            ("a.b+c(d)|^$", &["a.b+c(d)|^$"], &["axb+c(d)|^$", "a"]),
            (r"n\ews\", &["news"], &[r"n\ews"]),
        ] {
            let glob = Glob::new(pattern).expect(pattern);
            for name in matching {
                assert!(glob.matches(name), "{pattern} {name}");
            }
            for name in others {
                assert!(!glob.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (pattern, error) in [
            ("[", GlobError::Class),
            ("[]", GlobError::Class),
            ("[!]", GlobError::Class),
            ("[a", GlobError::Class),
            ("[a-cd]", GlobError::Class),
            ("[a-]", GlobError::Class),
            (r"[\", GlobError::Class),
            ("x[z-a]", GlobError::Range('z', 'a')),
            ("{a,b", GlobError::Braces),
            ("{a,{b}", GlobError::Braces),
        ] {
            assert_eq!(Glob::new(pattern).err(), Some(error), "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_cost_no_more_than_the_product_of_the_lengths() {
        let bytes = crate::limits::CHANNEL_BYTES_MAX;
        let name = format!("{}!", "a".repeat(bytes));
        for pattern in ["*a", "{*,?}b", "[ab]*[ab]"] {
            let glob = Glob::new(&pattern.repeat(bytes / pattern.len())).expect("a pattern");
            // A matcher that goes back would not end.
            assert!(!glob.matches(&name), "{pattern}");
            assert!(glob.cost() > bytes / 2);
        }
        let deep = format!("{}{}", "{".repeat(bytes / 2), "}".repeat(bytes / 2));
        assert_eq!(Glob::new(&deep).err(), Some(GlobError::Complex));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(pattern in r"[\[\]{}*?!,\\a-c^-]{0,24}", name in "[a-c-]{0,8}") {
            if let Ok(glob) = Glob::new(&pattern) {
                glob.matches(&name);
            }
        }

        #[test]
        fn an_escaped_name_matches_itself_and_nothing_else(name in ".{0,20}", other in ".{0,20}") {
            let pattern: String = name.chars().flat_map(|next| ['\\', next]).collect();
            let glob = Glob::new(&format!("{pattern}?")).expect("a pattern");
            let longer = format!("{name}x");
            prop_assert!(glob.matches(&longer) && !glob.matches(&name));
            prop_assert_eq!(glob.matches(&other), other.strip_prefix(name.as_str())
                .is_some_and(|rest| rest.chars().count() == 1));
        }
    }
}
