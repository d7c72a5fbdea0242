//! Namespaces for entries, of the bus and of ingested streams.

use corecast::channel::{DataType, Namespace, Namespaces};
use corecast::settings::Settings;

/// One namespace of each type of payload: JSON without a name, `text` and `raw`.
pub(crate) fn of_each_type() -> Namespaces {
    let base = Settings::default().channel.namespaces;
    let base = base.plain();
    let named = |name: &str, data| Namespace { name: name.to_owned(), data, ..base.clone() };
    let all = vec![
        named("", DataType::Json),
        named("text", DataType::Text),
        named("raw", DataType::Binary),
    ];
    Namespaces::new(all, 255)
}
