//! Merges file, environment and flags over the defaults, one setting at a time, so that every error
//! can name the setting and its origin.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::check;
use super::environment::{check_names, load_environment, whole_number};
use super::error::{Error, Origin};
use super::keys::{equivalent, known_keys, nearest};
use super::later::later;
use super::secrets;
use crate::channel::{Namespace, Namespaces};
use crate::settings::{Api, Auth, Channel, Client, Events, Log, Redis, Server, Settings};
use crate::units;

/// All settings with their defaults and explanations. `corecast config default` prints this text.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// The defaults of `--dev`.
pub const DEV_TOML: &str = include_str!("dev.toml");

/// What `--expose` changes in them: the server listens on all addresses of IPv4.
const EXPOSE_TOML: &str = "[server]\nlisten = \"0.0.0.0:8000\"\napi_listen = \"0.0.0.0:9000\"\n";

/// Flags of the command line that affect settings.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: the file to read.
    pub config: Option<PathBuf>,
    /// `--dev`: the defaults of [`DEV_TOML`].
    pub dev: bool,
    /// `--expose`: the server listens for other hosts; only with `--dev`.
    pub expose: bool,
    /// `--echo`: clients may connect to `/echo`; only with `--dev`.
    pub echo: bool,
    /// `--listen`, which may be given more than once.
    pub listen: Vec<String>,
    /// `--api-listen`
    pub api_listen: Option<String>,
    /// `--shards`
    pub shards: Option<u32>,
    /// `--driver`
    pub driver: Option<String>,
    /// `--redis`
    pub redis: Option<String>,
}

/// The loaded settings, typed and as a table.
pub struct Loaded {
    /// The checked settings.
    pub settings: Settings,
    /// The same settings as TOML, with secrets. Only `show` uses it.
    pub(super) table: Table,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Loads the settings from the file that the flags name, the environment, and the flags.
///
/// # Errors
/// See [`Error`]. No setting is guessed or ignored.
pub fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Error> {
    let mut layers = Layers::defaults()?;
    if flags.dev {
        layers.add(&Origin::Dev, parse(&Origin::Dev, DEV_TOML)?)?;
        if flags.expose {
            layers.add(&Origin::Expose, parse(&Origin::Expose, EXPOSE_TOML)?)?;
        }
        layers.base = layers.merged.clone();
    }
    if let Some(path) = &flags.config {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let origin = Origin::File(path.clone());
        layers.add(&origin, parse(&origin, &text)?)?;
    }
    // Later layers win: flags over the environment, and both over the file.
    let variables = load_environment(&layers.base, environment)?;
    layers.add(&Origin::Environment, variables)?;
    layers.add(&Origin::CommandLine, load_flags(flags))?;

    layers.merged = layers.named();
    let mut settings = layers.settings(&Origin::Defaults)?;
    settings.dev = flags.dev;
    if flags.dev {
        settings.channel.namespaces.accept_any();
    }
    settings.expose = flags.expose;
    settings.host_name = host_name();
    settings.echo = flags.echo;
    let problems = check::problems(&settings);
    if problems.is_empty() {
        Ok(Loaded { settings, table: layers.merged })
    } else {
        Err(Error::Invalid(problems))
    }
}

/// Checks the names of the variables for a command that calls a server, and reads no settings. A
/// misspelt variable must not send it to another server. Values are not read.
///
/// # Errors
/// A variable that nothing reads.
pub fn check_variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Error> {
    check_names(&Layers::defaults()?.base, environment)
}

/// Checks a configuration that is not in a file.
///
/// # Errors
/// See [`Error`].
pub(super) fn check_text(text: &str) -> Result<Settings, Error> {
    let origin = Origin::Result;
    let mut layers = Layers::defaults()?;
    layers.add(&origin, parse(&origin, text)?)?;
    let settings = layers.settings(&origin)?;
    let problems = check::problems(&settings);
    if problems.is_empty() { Ok(settings) } else { Err(Error::Invalid(problems)) }
}

/// Returns the name of this host, or "" if it is unknown.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Returns the defaults without a check: an API without keys is closed, not invalid.
#[expect(clippy::expect_used, reason = "default.toml is part of the program; a test parses it")]
pub(super) fn defaults() -> Settings {
    let layers = Layers::defaults().expect("default.toml is valid TOML");
    layers.settings(&Origin::Defaults).expect("default.toml has every setting")
}

fn parse(origin: &Origin, text: &str) -> Result<Table, Error> {
    text.parse::<Table>().map_err(|error| Error::Syntax {
        origin: origin.clone(),
        // Not the library's text, which prints the line: it may hold a secret.
        message: format!("{}: {}", place(text, error.span()), error.message()),
    })
}

/// The place of an error in a text.
pub(super) fn place(text: &str, span: Option<Range<usize>>) -> String {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    format!("line {}, column {}", before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// The settings merged so far.
struct Layers {
    /// The defaults of namespaces, including those of `--dev`.
    base: Table,
    /// The result so far.
    merged: Table,
}

impl Layers {
    fn defaults() -> Result<Layers, Error> {
        let base = parse(&Origin::Defaults, DEFAULT_TOML)?;
        Ok(Layers { merged: base.clone(), base })
    }

    /// Merges `layer` over the current result, one setting at a time.
    fn add(&mut self, origin: &Origin, layer: Table) -> Result<(), Error> {
        for (section, settings) in layer {
            let Value::Table(settings) = settings else {
                return Err(unknown(origin, &section, &known_keys(&self.base)));
            };
            for (key, value) in settings {
                self.add_setting(origin, &section, key, value)?;
            }
        }
        Ok(())
    }

    fn add_setting(
        &mut self,
        origin: &Origin,
        section: &str,
        key: String,
        value: Value,
    ) -> Result<(), Error> {
        let dotted = format!("{section}.{key}");
        let known = known_keys(&self.base);
        if !known.contains(&dotted) {
            return Err(unknown(origin, &dotted, &known));
        }
        let default = self.base.get(section).and_then(|settings| settings.get(&key));
        let value =
            counted(value, default).map_err(|message| value_error(origin, &dotted, message));
        let mut value = value?;
        if dotted == "channel.namespaces" {
            self.add_namespaces_check(origin, &mut value)?;
        }
        if let Some(Value::Table(settings)) = self.merged.get_mut(section) {
            settings.insert(key, value);
        }
        // The table is converted after each setting, so that an error names the setting that caused
        // it.
        self.settings(origin).map_err(|error| with_key(error, &dotted))?;
        Ok(())
    }

    /// Finds unknown keys and wrong values in the list of namespaces while their origin is known.
    /// Replaces texts such as "10k" by numbers.
    fn add_namespaces_check(&self, origin: &Origin, list: &mut Value) -> Result<(), Error> {
        let no_list = || {
            let message = "is not a list: write one [[channel.namespaces]] section for each \
                           namespace";
            value_error(origin, "channel.namespaces", message.to_owned())
        };
        let defaults = self.namespace_defaults();
        let mut known: Vec<String> = defaults.keys().map(|key| namespace_key(key)).collect();
        known.push(namespace_key("name"));
        for namespace in list.as_array_mut().ok_or_else(no_list)? {
            let mut options = defaults.clone();
            for (key, value) in namespace.as_table_mut().ok_or_else(no_list)? {
                let dotted = namespace_key(key);
                if !known.contains(&dotted) {
                    return Err(unknown(origin, &dotted, &known));
                }
                *value = counted(value.clone(), defaults.get(key))
                    .map_err(|message| value_error(origin, &dotted, message))?;
                options.insert(key.clone(), value.clone());
                section::<Namespace>(origin, options.clone())
                    .map_err(|error| with_key(error, &dotted))?;
            }
        }
        Ok(())
    }

    /// Converts the current result to typed settings. Errors name `origin`.
    fn settings(&self, origin: &Origin) -> Result<Settings, Error> {
        let mut merged = self.named();
        let mut take = |name: &str| match merged.remove(name) {
            Some(Value::Table(settings)) => settings,
            _ => Table::new(),
        };
        // These two are read first, because channels take some of their defaults from them.
        let client: Client = section(origin, take("client"))?;
        let events: Events = section(origin, take("events"))?;
        Ok(Settings {
            server: section::<Server>(origin, take("server"))?,
            channel: self.channel(origin, take("channel"), client.channel_bytes_max)?,
            client,
            auth: section::<Auth>(origin, take("auth"))?,
            api: section::<Api>(origin, take("api"))?,
            redis: section::<Redis>(origin, take("redis"))?,
            events,
            log: section::<Log>(origin, take("log"))?,
            dev: false,
            expose: false,
            host_name: String::new(),
            echo: false,
        })
    }

    /// Returns the current result with default names of streams. They begin with the prefix, so
    /// that deployments with different prefixes share nothing.
    fn named(&self) -> Table {
        let mut merged = self.merged.clone();
        let prefix = merged.get("redis").and_then(|redis| redis.get("prefix")?.as_str());
        let name = |last: &str| Value::String(format!("{}:{last}", prefix.unwrap_or_default()));
        let names = [
            ("redis", "ingest", Value::Array(vec![name("ingest")])),
            ("events", "stream", name("events")),
        ];
        for (section, key, value) in names {
            if let Some(Value::Table(settings)) = merged.get_mut(section) {
                settings.entry(key).or_insert(value);
            }
        }
        merged
    }

    fn channel(
        &self,
        origin: &Origin,
        mut settings: Table,
        channel_bytes_max: usize,
    ) -> Result<Channel, Error> {
        #[derive(serde::Deserialize)]
        struct Limits {
            #[serde(deserialize_with = "units::size")]
            history_bytes_max: usize,
            channels_max: usize,
            created_per_second_max: u32,
        }
        let limits: Limits = section(origin, settings.clone())?;
        CHANNEL_LIMITS.iter().for_each(|limit| drop(settings.remove(*limit)));
        let list = settings.remove("namespaces");
        let mut options = self.inherited();
        options.extend(settings);
        let mut namespaces = vec![section::<Namespace>(origin, options)?];
        let defaults = self.namespace_defaults();
        for namespace in list.iter().filter_map(Value::as_array).flatten() {
            let mut options = defaults.clone();
            options.extend(namespace.as_table().cloned().unwrap_or_default());
            namespaces.push(section(origin, options)?);
        }
        let namespaces = Namespaces::new(namespaces, channel_bytes_max);
        let Limits { history_bytes_max, channels_max, created_per_second_max } = limits;
        Ok(Channel { history_bytes_max, channels_max, created_per_second_max, namespaces })
    }

    /// The options of a namespace whose defaults are the values of other settings.
    fn inherited(&self) -> Table {
        let of = |section: &str, key: &str| self.merged.get(section)?.get(key);
        let on = |event: &&str| of("events", event).and_then(Value::as_bool).unwrap_or_default();
        let events = ["subscribe", "unsubscribe"].into_iter().filter(on);
        let events = events.map(|event| Value::String(event.to_owned())).collect();
        let mut options = Table::from_iter([("events".to_owned(), Value::Array(events))]);
        let policy = of("client", "slow_policy").cloned();
        options.extend(policy.map(|policy| ("slow_policy".to_owned(), policy)));
        options
    }

    /// The options of a namespace that sets none.
    fn namespace_defaults(&self) -> Table {
        let mut options = self.inherited();
        let base = self.base.get("channel").and_then(Value::as_table).cloned();
        options.extend(base.unwrap_or_default());
        CHANNEL_LIMITS.iter().for_each(|limit| drop(options.remove(*limit)));
        options.remove("namespaces");
        options
    }
}

/// Settings of `[channel]` that apply to the node and are no options of a namespace.
pub(super) const CHANNEL_LIMITS: [&str; 3] =
    ["history_bytes_max", "channels_max", "created_per_second_max"];

fn namespace_key(key: &str) -> String {
    format!("channel.namespaces.{key}")
}

/// Reads one section. The error has no key yet.
fn section<T: DeserializeOwned>(origin: &Origin, settings: Table) -> Result<T, Error> {
    settings.try_into().map_err(|error: toml::de::Error| Error::Value {
        origin: origin.clone(),
        key: String::new(),
        message: error.message().to_owned(),
    })
}

fn value_error(origin: &Origin, key: &str, message: String) -> Error {
    Error::Value { origin: origin.clone(), key: key.to_owned(), message }
}

fn with_key(error: Error, dotted: &str) -> Error {
    match error {
        Error::Value { origin, message, .. } => {
            let message = secrets::wrong_form(dotted).unwrap_or(message);
            Error::Value { origin, key: dotted.to_owned(), message }
        }
        other => other,
    }
}

fn unknown(origin: &Origin, key: &str, known: &[String]) -> Error {
    let (origin, key) = (origin.clone(), key.to_owned());
    match (equivalent(&key), later(&key)) {
        (None, Some(later)) => Error::Later { origin, key, later },
        (Some(same), _) => Error::UnknownKey { origin, nearest: Some(same), key },
        (None, None) => Error::UnknownKey { origin, nearest: nearest(&key, known), key },
    }
}

/// Returns the value of a setting whose default is a number, if it is a text such as "10k" or "1M",
/// as a number. All other values stay, and their types are checked later.
fn counted(value: Value, default: Option<&Value>) -> Result<Value, String> {
    match (value, default) {
        (Value::String(text), Some(Value::Integer(_))) => whole_number(&text),
        (value, _) => Ok(value),
    }
}

/// Returns the settings among the flags.
fn load_flags(flags: &Flags) -> Table {
    let mut server = Table::new();
    if !flags.listen.is_empty() {
        let listen = flags.listen.iter().cloned().map(Value::String).collect();
        server.insert("listen".to_owned(), Value::Array(listen));
    }
    let texts = [("api_listen", &flags.api_listen), ("driver", &flags.driver)];
    for (key, text) in texts {
        if let Some(text) = text {
            server.insert(key.to_owned(), Value::String(text.clone()));
        }
    }
    if let Some(shards) = flags.shards {
        server.insert("shards".to_owned(), Value::Integer(shards.into()));
    }
    let redis = flags.redis.iter().map(|url| ("url".to_owned(), Value::String(url.clone())));
    let sections = [("server", server), ("redis", redis.collect())];
    let sections = sections.map(|(name, settings)| (name.to_owned(), Value::Table(settings)));
    Table::from_iter(sections)
}
