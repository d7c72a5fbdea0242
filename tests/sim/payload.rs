//! Payloads inside JSON: JSON itself, text as a string, or bytes as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corecast::channel::DataType;

/// Returns the published bytes.
pub fn read(data_type: DataType, json: &str) -> Vec<u8> {
    let text = || serde_json::from_str::<String>(json).expect("a string");
    match data_type {
        DataType::Json => json.as_bytes().to_vec(),
        DataType::Text => text().into_bytes(),
        DataType::Binary => STANDARD.decode(text()).expect("base64"),
    }
}

/// Returns JSON for these bytes.
pub fn write(data_type: DataType, data: &[u8]) -> String {
    let text = std::str::from_utf8(data);
    match data_type {
        DataType::Json => text.expect("JSON is text").to_owned(),
        DataType::Text => serde_json::to_string(text.expect("text")).expect("a string"),
        DataType::Binary => format!("\"{}\"", STANDARD.encode(data)),
    }
}
