//! Limits of the HTTP API.

use std::time::Duration;

/// Maximum number of connections of the API listener, and therefore of concurrent requests. With a
/// key, each can have a body of up to `api.body_bytes_max`. Beyond it, the longest idle connection
/// is closed, so that idle connections can't shut others out.
pub const API_CONNECTIONS_MAX: usize = 512;

/// Maximum number of header lines of a request to the API listener.
pub const API_HEADERS_MAX: usize = 64;

/// Maximum bytes of a request head to the API listener. hyper's buffer can't be smaller than 8 KiB.
pub const API_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Maximum time of one request to the API, including the arrival of its body.
pub const API_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum bytes of an API key. Keys are compared in buffers of this size.
pub const API_KEY_BYTES_MAX: usize = 256;

/// Minimum time between two requests of one connection that need no key, such as those of
/// `/metrics`. Otherwise one peer that sends them ahead would take half of the thread.
pub const API_OPEN_PAUSE: Duration = Duration::from_millis(5);

/// Pause before the response to a request without a valid key, for each of these requests in the
/// last second. So a single mistake is answered at once, and a guesser waits.
pub const API_WRONG_KEY_PAUSE: Duration = Duration::from_millis(10);

/// Longest such pause. A guesser gets at most [`API_CONNECTIONS_MAX`] responses in this time.
pub const API_WRONG_KEY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Maximum number of requests to shards for which control waits at the same time, about 200 B each.
pub const API_PENDING_MAX: usize = 65_536;

/// Maximum number of publications of one broadcast, or commands of one parallel batch, that are in
/// progress at the same time.
pub const API_WINDOW_MAX: usize = 256;

/// Maximum number of commands of one batch, and of channels of one broadcast.
pub const API_BATCH_MAX: usize = 10_000;

/// Typical bytes in the JSON of a publication besides its payload: offset and tags. Responses with
/// histories reserve as much for each publication.
pub const API_PUBLICATION_OVERHEAD_BYTES: usize = 64;

/// Default number of channels in one page of the list of channels.
pub const API_CHANNELS_PAGE: usize = 1_000;

/// Maximum number of channels in one page of the list of channels.
pub const API_CHANNELS_PAGE_MAX: usize = 10_000;

/// Maximum number of publications in one response to the API's `history`. A reader continues after
/// the last one.
pub const API_HISTORY_MAX: usize = 100_000;

/// Maximum bytes of the publications in one response to the API's `history`, unless a single one is
/// larger. The response has the number of omitted ones.
pub const API_HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Time for a request to the API listener and its response. If a client has not read the response
/// after this time and `api.keep_alive`, its connection is closed. It is enough for every response,
/// but not for a reader of one byte per second.
pub const API_EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);
