//! The scripts that Redis runs, and what they are called by.

use super::append::{AppendHead, AppendKeys};
use super::arguments::PlacesKeys;
use super::call::{FenceHead, FenceKeys};
use super::older::OlderHead;
use super::probe::ProbeKeys;

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
    /// Says whether a batch would be appended.
    Probe,
    /// Says where streams end.
    Tail,
}

impl Script {
    /// Every script.
    pub const ALL: [Script; 7] = [
        Script::Append,
        Script::Fence,
        Script::Tops,
        Script::Older,
        Script::Leased,
        Script::Probe,
        Script::Tail,
    ];

    /// Its text, which begins with the names of its keys and arguments.
    pub fn text(self) -> String {
        let text = match self {
            Script::Append => include_str!("scripts/append.lua"),
            Script::Fence => include_str!("scripts/fence.lua"),
            Script::Tops => include_str!("scripts/tops.lua"),
            Script::Older => include_str!("scripts/older.lua"),
            Script::Leased => include_str!("scripts/leased.lua"),
            Script::Probe => include_str!("scripts/probe.lua"),
            Script::Tail => include_str!("scripts/tail.lua"),
        };
        let text = self.names() + text;
        text_sabotaged(&text).unwrap_or(text)
    }

    /// The lines that make its keys and arguments local variables.
    fn names(self) -> String {
        match self {
            Script::Append => AppendKeys::line() + &AppendHead::line(),
            Script::Fence => FenceKeys::line() + &FenceHead::line(),
            Script::Tops => PlacesKeys::line(),
            Script::Older => PlacesKeys::line() + &OlderHead::line(),
            Script::Probe => ProbeKeys::line(),
            Script::Leased | Script::Tail => String::new(),
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
        return Some(text.replace("if counts[2] ~= '0'", "if false and counts[2] ~= '0'"));
    }
    if crate::sabotage!(FalseForetelling) {
        return Some(text.replace("or '0') .. ':0'", "or '0') .. '1:0'"));
    }
    if crate::sabotage!(ExpiringPlaces) {
        let write = "redis.call('HSET', places_key, unpack(written))";
        let expire = format!("{write} redis.call('PEXPIRE', places_key, silent_millis)");
        return Some(text.replace(write, &expire));
    }
    if crate::sabotage!(IgnoredSetback) {
        let text = text.replace("or e == seen_e and n < seen_n", "");
        return Some(text.replace("n < tonumber(seen)", "false"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_the_format() {
        for script in [Script::Append, Script::Tops, Script::Older] {
            let named = format!("~= '{}'", super::super::FORMAT);
            assert!(script.text().contains(&named), "{script:?}");
        }
    }

    #[test]
    fn scripts_use_every_name_and_count_no_positions() {
        for script in Script::ALL {
            let text = script.text();
            let names = script.names();
            let names: Vec<&str> = names
                .lines()
                .filter_map(|line| line.strip_prefix("local ")?.split_once(" = "))
                .flat_map(|(names, _)| names.split(", ").skip(1))
                .collect();
            for name in &names {
                let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
                let words = text.split(|letter| !is_part(letter));
                assert!(words.filter(|word| word == name).count() > 1, "{script:?}: {name}");
            }
            let counted = text.contains("KEYS[1]") || text.contains("ARGV[1]");
            assert!(names.is_empty() || !counted, "{script:?} counts");
        }
    }

    #[test]
    fn a_probe_tries_all_that_an_append_writes_with() {
        let append = Script::Append.text();
        let calls = append.split("call('").skip(1).filter_map(|rest| rest.split_once('\''));
        let commands: std::collections::BTreeSet<_> = calls.map(|(command, _)| command).collect();
        assert!(commands.len() > 15, "{commands:?}");
        for command in commands.into_iter().filter(|command| *command != "TIME") {
            assert!(Script::Probe.text().contains(&format!("'{command}'")), "{command}");
        }
    }

    #[cfg(feature = "sabotage")]
    #[test]
    fn faults_of_scripts_are_in_them() {
        use crate::sabotage::{Fault, switch_on};
        let all = || Script::ALL.map(Script::text);
        let sound = all();
        let faults = [
            (Fault::SkippedFence, 5),
            (Fault::LostPlace, 3),
            (Fault::ReusedGeneration, 1),
            (Fault::FalseForetelling, 1),
            (Fault::IgnoredSetback, 2),
            (Fault::ExpiringPlaces, 1),
        ];
        for (fault, count) in faults {
            switch_on(Some(fault));
            let changed = all().iter().zip(&sound).filter(|(text, sound)| text != sound).count();
            switch_on(None);
            assert_eq!(changed, count, "{fault:?}");
        }
    }
}
