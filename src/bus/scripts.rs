//! The scripts that Redis runs, and what they are called by.

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// Appends a batch.
    Append,
    /// Takes a stream over.
    Fence,
    /// Says where channels stand.
    Tops,
}

impl Script {
    /// Every script.
    pub const ALL: [Script; 3] = [Script::Append, Script::Fence, Script::Tops];

    /// Its text.
    pub const fn text(self) -> &'static str {
        match self {
            Script::Append => include_str!("scripts/append.lua"),
            Script::Fence => include_str!("scripts/fence.lua"),
            Script::Tops => include_str!("scripts/tops.lua"),
        }
    }
}
