//! Centrifugo's wording of the HTTP API: names of methods and fields, bodies of errors, and
//! batches. `service` does the work.

mod batch;
mod methods;
mod reply;
mod request;
mod routes;

pub(super) use routes::routes;
