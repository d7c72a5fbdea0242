//! The scripts that Redis runs, and what they are called by.

use std::borrow::Cow;

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// Appends a batch.
    Append,
    /// Takes a stream over.
    Fence,
    /// Says where channels stand.
    Tops,
    /// Reads histories.
    Older,
    /// Carries out a command for the holder of a lease.
    Leased,
}

impl Script {
    /// Every script.
    pub const ALL: [Script; 5] =
        [Script::Append, Script::Fence, Script::Tops, Script::Older, Script::Leased];

    /// Its text.
    pub fn text(self) -> Cow<'static, str> {
        let text = match self {
            Script::Append => include_str!("scripts/append.lua"),
            Script::Fence => include_str!("scripts/fence.lua"),
            Script::Tops => include_str!("scripts/tops.lua"),
            Script::Older => include_str!("scripts/older.lua"),
            Script::Leased => include_str!("scripts/leased.lua"),
        };
        match text_sabotaged(text) {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed(text),
        }
    }
}

/// The text with a fault in it, if one is switched on that is in scripts.
fn text_sabotaged(text: &str) -> Option<String> {
    if crate::sabotage!(SkippedFence) {
        // Whoever answers is taken for the one who did the last time.
        let text = text.replace("meta[1] ~= run", "not meta[1]");
        return Some(text.replace("meta[1] == run", "meta[1]"));
    }
    if crate::sabotage!(LostPlace) {
        return Some(text.replace("local lost = (", "local lost = false and ("));
    }
    if crate::sabotage!(ReusedGeneration) {
        return Some(text.replace("if s > 1 then", "if s > 1 and false then"));
    }
    if crate::sabotage!(FalseForetelling) {
        return Some(text.replace("or '0') .. ':0'", "or '0') .. '1:0'"));
    }
    if crate::sabotage!(IgnoredSetback) {
        let text = text.replace("or e == seen_e and n < seen_n", "");
        return Some(text.replace("n < tonumber(ARGV[10])", "false"));
    }
    None
}
