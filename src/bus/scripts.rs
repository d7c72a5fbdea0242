//! The Lua scripts that Redis runs.

/// A script of the bus or of ingest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// Appends a batch.
    Append,
    /// Fences a stream.
    Fence,
    /// Returns positions of channels.
    Tops,
    /// Reads durable histories.
    Older,
    /// Runs a command for the holder of a lease.
    Leased,
    /// Checks whether a batch would be appended.
    Probe,
    /// Returns the ends of streams.
    Tail,
}

impl Script {
    /// All scripts.
    pub const ALL: [Script; 7] = [
        Script::Append,
        Script::Fence,
        Script::Tops,
        Script::Older,
        Script::Leased,
        Script::Probe,
        Script::Tail,
    ];

    /// Returns the script's text.
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
        text_sabotaged(text).unwrap_or_else(|| text.to_owned())
    }
}

/// Returns the text with a fault in it, if a fault of scripts is switched on.
fn text_sabotaged(text: &str) -> Option<String> {
    if crate::sabotage!(SkippedFence) {
        // The fault: any server counts as the one that replied last time.
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
    if crate::sabotage!(ForgottenPublisher) {
        return Some(text.replace("again ~= ''", "false"));
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
    use crate::bus::append::{AppendHead, AppendKeys};
    use crate::bus::arguments::PlacesKeys;
    use crate::bus::call::{FenceHead, FenceKeys};
    use crate::bus::older::OlderHead;
    use crate::bus::probe::ProbeKeys;

    #[test]
    fn scripts_name_the_format() {
        for script in [Script::Append, Script::Tops, Script::Older] {
            let named = format!("~= '{}'", super::super::FORMAT);
            assert!(script.text().contains(&named), "{script:?}");
        }
    }

    /// Returns the statements that name a script's keys and arguments.
    fn names(script: Script) -> Vec<String> {
        match script {
            Script::Append => vec![AppendKeys::names(), AppendHead::names()],
            Script::Fence => vec![FenceKeys::names(), FenceHead::names()],
            Script::Tops => vec![PlacesKeys::names()],
            Script::Older => vec![PlacesKeys::names(), OlderHead::names()],
            Script::Probe => vec![ProbeKeys::names()],
            Script::Leased | Script::Tail => Vec::new(),
        }
    }

    #[test]
    fn scripts_and_callers_have_the_same_names_and_count_no_positions() {
        for script in Script::ALL {
            let text = script.text().split_whitespace().collect::<Vec<_>>().join(" ");
            let statements = names(script);
            for statement in &statements {
                assert!(text.contains(statement), "{script:?} is to have: {statement}");
            }
            let counted = text.contains("KEYS[1]") || text.contains("ARGV[1]");
            assert!(statements.is_empty() || !counted, "{script:?} counts positions");
        }
    }

    #[test]
    fn limits_of_scripts_are_those_of_the_program() {
        use crate::limits::{BUS_LOOK_ENTRIES, BUS_OLDER_PAGE_ENTRIES, STREAM_MARKS};
        let events = include_str!("../events/scripts/append.lua").to_owned();
        for (text, name, limit) in [
            (Script::Append.text(), "LOOK", BUS_LOOK_ENTRIES),
            (Script::Append.text(), "MARKS", STREAM_MARKS),
            (Script::Older.text(), "PAGE", BUS_OLDER_PAGE_ENTRIES),
            (events, "MARKS", STREAM_MARKS),
        ] {
            let line = format!("local {name} = {limit}");
            assert!(text.lines().any(|own| own.trim() == line), "a script is to have: {line}");
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
            (Fault::ForgottenPublisher, 1),
        ];
        for (fault, count) in faults {
            switch_on(Some(fault));
            let changed = all().iter().zip(&sound).filter(|(text, sound)| text != sound).count();
            switch_on(None);
            assert_eq!(changed, count, "{fault:?}");
        }
    }
}
