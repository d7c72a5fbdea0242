//! Settings whose values may be secret. No message shows them, in whole or in part.

/// The settings, each with the form of its value.
const SECRETS: [(&str, &str); 2] = [
    ("api.keys", "a list of texts, such as [\"KEY\"]"),
    ("redis.url", "a text, such as \"redis://host:6379\""),
];

/// Returns the message for a wrong value of a setting, without the value. `None` if the setting is
/// not secret, so that its value can be shown.
pub(super) fn wrong_form(dotted: &str) -> Option<String> {
    let (_, form) = SECRETS.iter().find(|(key, _)| *key == dotted)?;
    Some(format!("is not {form} (the value may be secret and is not shown)"))
}

/// Returns the value of a setting for a message.
pub(super) fn shown(dotted: &str, value: &str) -> String {
    match wrong_form(dotted) {
        Some(_) => "the value".to_owned(),
        None => format!("{value:?}"),
    }
}

/// Whether a Redis URL contains a password: that of Redis before the host, or that of Sentinels in
/// the parameters.
pub fn holds_password(url: &str) -> bool {
    url.contains('@') || url.contains("assword=")
}
