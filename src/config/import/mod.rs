//! Turns a configuration of Centrifugo, version 5 or 6, into one of Corecast. Every setting that
//! has no equivalent becomes a note that says what to do about it.

mod consumers;
mod parse;
mod redis;
#[cfg(test)]
mod tests;
mod values;

use serde_json::Value as Json;
use toml::{Table, Value};

use super::centrifugo::{self, Action, Kind, Part, action};
use super::keys::{known_keys, nearest};
use super::later::later;
use super::load::{DEFAULT_TOML, check_text};
use super::problem::Problem;
use super::{Error, check_serve};
use crate::origins::admits_strangers;
use crate::settings::Settings;
use consumers::{Advice, Consumers};
pub use parse::Format;
use parse::parse;
use values::{convert, is_off};

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// The configuration, as TOML.
    pub text: String,
    /// Settings that have no equivalent, or need attention.
    pub notes: Vec<Note>,
    /// Why a server would not start with the result, if it would not.
    pub problems: Vec<String>,
}

/// Advice for one or more settings of Centrifugo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The settings, in Centrifugo's words.
    pub keys: Vec<String>,
    /// What to do about them.
    pub text: String,
}

/// Imports the text of a configuration.
///
/// # Errors
/// The text is not of this format, or not a table of settings. The error is the message to print.
pub fn import(text: &str, format: Format) -> Result<Imported, String> {
    let Json::Object(settings) = parse(text, format)? else {
        return Err("is not a table of settings".to_owned());
    };
    let mut import = Import::new();
    for (key, value) in &settings {
        import.add(&key.to_ascii_lowercase(), value);
    }
    import.finish()
}

/// The import so far.
struct Import {
    /// The sections of the result.
    result: Table,
    namespaces: Vec<Value>,
    notes: Vec<Note>,
    redis: redis::Redis,
    consumers: Consumers,
    listen: Listen,
    /// The options that a namespace of Corecast has.
    options: Vec<String>,
}

/// The parts of the addresses to listen on.
#[derive(Default)]
struct Listen {
    address: Option<String>,
    port: Option<String>,
    internal_address: Option<String>,
    internal_port: Option<String>,
}

impl Import {
    fn new() -> Import {
        let defaults: Table = DEFAULT_TOML.parse().unwrap_or_default();
        let known = known_keys(&defaults);
        let options = known.iter().filter_map(|key| key.strip_prefix("channel."));
        let options = options.filter(|key| !super::load::CHANNEL_LIMITS.contains(key));
        Import {
            result: Table::new(),
            namespaces: Vec::new(),
            notes: Vec::new(),
            redis: redis::Redis::default(),
            consumers: Consumers::default(),
            listen: Listen::default(),
            options: options.filter(|key| *key != "namespaces").map(str::to_owned).collect(),
        }
    }

    /// Adds the setting `key`, or all settings of a section.
    fn add(&mut self, key: &str, value: &Json) {
        if matches!(key, "namespaces" | "channel.namespaces") {
            for namespace in value.as_array().into_iter().flatten() {
                self.add_namespace(namespace);
            }
            return;
        }
        if let Some(option) = key.strip_prefix("channel.without_namespace.") {
            return self.add_plain(key, option, value);
        }
        match value {
            Json::Object(section) if is_switched_off(section) => {}
            Json::Object(section) => {
                for (name, value) in section {
                    self.add(&format!("{key}.{}", name.to_ascii_lowercase()), value);
                }
            }
            // Version 5 has the options of channels without a namespace at the top.
            _ if self.options.iter().any(|option| option == key) => self.add_plain(key, key, value),
            value => self.add_setting(key, value),
        }
    }

    fn add_setting(&mut self, key: &str, value: &Json) {
        if let Some(name) = redis::setting(key) {
            if !is_off(value) && !self.redis.take(name, value) {
                let text = "has no equivalent in redis.url, so connections to Redis do without it";
                self.tell(key, text);
            }
            return;
        }
        match action(key) {
            Some(Action::Copy(to, kind)) => self.copy(key, to, kind, value),
            Some(Action::Listen(part)) => {
                let text = values::text(value);
                *self.listen.part(part) = (!text.is_empty()).then_some(text);
            }
            Some(Action::Origins) => self.add_origins(key, value),
            Some(Action::Engine) => self.add_engine(key, value),
            Some(Action::Consumers) => {
                for consumer in value.as_array().into_iter().flatten() {
                    let found = self.consumers.add(consumer);
                    self.tell_all(found);
                }
            }
            Some(Action::Shutdown) => self.add_shutdown(key, value),
            Some(Action::Leave) => {}
            Some(Action::Tell(text)) if !is_off(value) => self.tell(key, text),
            Some(Action::Tell(_)) => {}
            None if is_off(value) => {}
            None => self.tell_unknown(key),
        }
    }

    /// Copies a value to the setting `to`.
    fn copy(&mut self, key: &str, to: &str, kind: Kind, value: &Json) {
        match convert(kind, value) {
            Ok(Some(value)) => self.set(to, value),
            Ok(None) => {}
            Err(error) => self.tell(key, &format!("{error}; set {to} yourself")),
        }
    }

    fn set(&mut self, to: &str, value: Value) {
        let (section, key) = to.split_once('.').unwrap_or(("", to));
        let section = self.result.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(settings) = section {
            settings.insert(key.to_owned(), value);
        }
    }

    fn add_origins(&mut self, key: &str, value: &Json) {
        let origins: Vec<String> = values::texts(value);
        let (wide, origins): (Vec<String>, Vec<String>) =
            origins.into_iter().partition(|origin| admits_strangers(origin));
        if !wide.is_empty() {
            let text = format!(
                "allows pages of anyone with {wide:?}, which Corecast refuses without --dev: list \
                 your own origins in client.allowed_origins"
            );
            self.tell(key, &text);
        }
        let origins: Vec<Value> = origins.into_iter().map(Value::String).collect();
        if !origins.is_empty() {
            self.set("client.allowed_origins", Value::Array(origins));
        }
    }

    fn add_engine(&mut self, key: &str, value: &Json) {
        match values::text(value).as_str() {
            "redis" => self.redis.on = true,
            "memory" | "" => {}
            other => self.tell(
                key,
                &format!("{other:?} is not supported: nodes are connected by Redis (redis.url)"),
            ),
        }
    }

    /// Divides the time of a shutdown, because Corecast has one setting for each of its two parts.
    fn add_shutdown(&mut self, key: &str, value: &Json) {
        if value.is_null() {
            return;
        }
        let Some(all) = values::milliseconds(value) else {
            let text = "is not a duration; set server.drain_delay and server.drain yourself";
            return self.tell(key, text);
        };
        // A short shutdown still needs most of its time to close connections.
        let default = Settings::default().server.drain_delay.as_millis();
        let delay = u64::try_from(default).unwrap_or(u64::MAX).min(all / 4);
        self.set("server.drain_delay", Value::String(values::duration(delay)));
        self.set("server.drain", Value::String(values::duration(all - delay)));
        let text = "is the time of the whole shutdown, which server.drain_delay (clients are still \
                    accepted) and server.drain (their connections are closed) divide here";
        self.tell(key, text);
    }

    /// Adds an option of the channels without a namespace.
    fn add_plain(&mut self, key: &str, option: &str, value: &Json) {
        if let Some((name, value)) = self.option(key, option, value) {
            self.set(&format!("channel.{name}"), value);
        }
    }

    fn add_namespace(&mut self, namespace: &Json) {
        let mut table = Table::new();
        let name = values::text(&namespace["name"]);
        table.insert("name".to_owned(), Value::String(name.clone()));
        for (option, value) in namespace.as_object().into_iter().flatten() {
            let option = option.to_ascii_lowercase();
            if option == "name" {
                continue;
            }
            let key = format!("namespaces[{name:?}].{option}");
            if let Some((name, value)) = self.option(&key, &option, value) {
                table.insert(name, value);
            }
        }
        self.namespaces.push(Value::Table(table));
    }

    /// Converts an option of a namespace. Returns its name and value, or tells why there is none.
    fn option(&mut self, key: &str, option: &str, value: &Json) -> Option<(String, Value)> {
        let (to, kind) = match option {
            "publication_data_format" => ("data", Kind::DataFormat),
            "history_ttl" => (option, Kind::Duration),
            "history_size" => (option, Kind::Count),
            "channel_regex" => (option, Kind::Text),
            known if self.options.iter().any(|option| option == known) => (option, Kind::Flag),
            _ => {
                if !is_off(value) {
                    self.tell_unknown(key);
                }
                return None;
            }
        };
        match convert(kind, value) {
            Ok(Some(Value::String(regex))) if option == "channel_regex" => {
                let whole = values::regex_of_whole_name(&regex);
                if whole != regex {
                    self.tell(
                        key,
                        "matches any part of a name; here it must match the whole name, \
                                    so \".*\" was added around it",
                    );
                }
                Some((to.to_owned(), Value::String(whole)))
            }
            Ok(value) => value.map(|value| (to.to_owned(), value)),
            Err(error) => {
                self.tell(key, &format!("{error}; set {to} yourself"));
                None
            }
        }
    }

    /// Tells of a setting that has no place in the result, and may be misspelt.
    fn tell_unknown(&mut self, key: &str) {
        let name = key.rsplit("].").next().unwrap_or(key);
        let name = name.strip_prefix("channel.without_namespace.").unwrap_or(name);
        let text = match (action(name), later(name)) {
            (Some(Action::Leave), _) => return,
            (Some(Action::Tell(text)), _) => text.to_owned(),
            (_, Some(later)) => {
                format!("{} not part of this version: {}", later.subject, later.instead)
            }
            (_, None) => {
                let names = centrifugo::names().map(str::to_owned);
                let known: Vec<String> = names.chain(self.options.iter().cloned()).collect();
                let nearest = nearest(name, &known).map(|name| format!(" (did you mean {name}?)"));
                format!(
                    "is not a setting that Corecast knows of Centrifugo, so the result does \
                     without it: check its spelling{}, and whether you rely on it",
                    nearest.unwrap_or_default()
                )
            }
        };
        self.tell(key, &text);
    }

    /// Adds a note. Settings with the same advice share one.
    fn tell(&mut self, key: &str, text: &str) {
        match self.notes.iter_mut().find(|note| note.text == text) {
            Some(note) if note.keys.iter().any(|one| one == key) => {}
            Some(note) => note.keys.push(key.to_owned()),
            None => self.notes.push(Note { keys: vec![key.to_owned()], text: text.to_owned() }),
        }
    }

    fn tell_all(&mut self, found: Vec<Advice>) {
        for Advice { key, text } in found {
            self.tell(&key, &text);
        }
    }

    fn finish(mut self) -> Result<Imported, String> {
        self.finish_listen();
        if self.redis.on {
            let (url, note) = self.redis.url();
            self.set("redis.url", Value::String(url));
            if let Some(prefix) = self.redis.own_prefix() {
                self.set("redis.prefix", Value::String(prefix));
            }
            if let Some(text) = note {
                self.tell("redis", text);
            }
        }
        let streams: Vec<Value> =
            self.consumers.streams().iter().cloned().map(Value::String).collect();
        if !streams.is_empty() {
            self.set("redis.ingest", Value::Array(streams));
        }
        let found = self.consumers.differences(&self.redis);
        self.tell_all(found);
        if !self.namespaces.is_empty() {
            let namespaces = Value::Array(std::mem::take(&mut self.namespaces));
            self.set("channel.namespaces", namespaces);
        }
        let text = toml::to_string(&self.result).map_err(|error| error.to_string())?;
        let problems = match check_text(&text) {
            Ok(settings) => serve_problems(&settings),
            Err(error) => lines(&error),
        };
        Ok(Imported { text, notes: self.notes, problems })
    }

    fn finish_listen(&mut self) {
        let Listen { address, port, internal_address, internal_port } =
            std::mem::take(&mut self.listen);
        let host = address.unwrap_or_else(|| "0.0.0.0".to_owned());
        let bracketed = |host: &str| match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let port = port.unwrap_or_else(|| "8000".to_owned());
        let listen = Value::String(format!("{}:{port}", bracketed(&host)));
        self.set("server.listen", Value::Array(vec![listen]));
        match internal_port.filter(|internal| *internal != port) {
            Some(port) => {
                let host = internal_address.unwrap_or(host);
                let listen = format!("{}:{port}", bracketed(&host));
                self.set("server.api_listen", Value::String(listen));
            }
            None => self.tell(
                "api",
                "Corecast serves its API and metrics on an address of their own: your application \
                 must use server.api_listen, 127.0.0.1:9000 unless you set it",
            ),
        }
    }
}

impl Listen {
    fn part(&mut self, part: Part) -> &mut Option<String> {
        match part {
            Part::Address => &mut self.address,
            Part::Port => &mut self.port,
            Part::InternalAddress => &mut self.internal_address,
            Part::InternalPort => &mut self.internal_port,
        }
    }
}

/// Whether a section has `enabled = false`, so that its other settings have no effect.
fn is_switched_off(section: &serde_json::Map<String, Json>) -> bool {
    section.get("enabled") == Some(&Json::Bool(false))
}

fn serve_problems(settings: &Settings) -> Vec<String> {
    check_serve(settings).err().map(|error| lines(&error)).unwrap_or_default()
}

fn lines(error: &Error) -> Vec<String> {
    match error {
        Error::Invalid(problems) => problems.iter().map(Problem::to_string).collect(),
        other => vec![other.to_string()],
    }
}
