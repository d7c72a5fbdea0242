//! The routes of the methods.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::any;

use super::methods::{self, Method};
use super::reply::CallResult;
use super::{batch, reply, request};
use crate::api::http;
use crate::api::service::Service;
use crate::api::state::Api;
use crate::protocol::PublishParams;

/// Header with an idempotency key, an alternative to the field in the body.
const IDEMPOTENCY_KEY: &str = "x-idempotency-key";

/// Adds the routes of all methods.
pub(in crate::api) fn routes(router: Router<Arc<Api>>) -> Router<Arc<Api>> {
    router.route("/api", any(legacy_commands)).route("/api/{method}", any(call_method))
}

/// `POST /api/<method>`
async fn call_method(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Response<Body> {
    if let Err(refusal) = api.entrance.admit(&request) {
        return *refusal;
    }
    let method = match Method::from_name(&name) {
        Ok(method) => Some(method),
        Err(_) if name == "batch" => None,
        Err(_) => {
            let line = format!("unknown method {name:?}");
            return http::text(StatusCode::NOT_FOUND, &line);
        }
    };
    let (headers, body) = match api.entrance.read(request).await {
        Ok(parts) => parts,
        Err(refusal) => return *refusal,
    };
    match method {
        None => match batch::batch(&api, &body).await {
            Ok(replies) => http::json_bytes(StatusCode::OK, replies),
            Err(error) => reply::respond(Err(error), &headers),
        },
        Some(method) => reply::respond(call(&api.service, method, &headers, &body).await, &headers),
    }
}

/// Calls a method. The idempotency key may be in a header.
async fn call(service: &Service, method: Method, headers: &HeaderMap, body: &[u8]) -> CallResult {
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
    let Some(key) = key.filter(|_| matches!(method, Method::Publish | Method::Broadcast)) else {
        return methods::call(service, method, body).await;
    };
    let mut params: PublishParams = request::read(body)?;
    if params.idempotency_key.is_empty() {
        key.clone_into(&mut params.idempotency_key);
    }
    match method {
        Method::Broadcast => methods::broadcast(service, &params).await,
        _ => methods::publish(service, &params).await,
    }
}

/// `POST /api`, Centrifugo's legacy form.
async fn legacy_commands(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    if let Err(refusal) = api.entrance.admit(&request) {
        return *refusal;
    }
    let (headers, body) = match api.entrance.read(request).await {
        Ok(parts) => parts,
        Err(refusal) => return *refusal,
    };
    match batch::legacy_commands(&api.service, &body).await {
        Ok(replies) => http::json_bytes(StatusCode::OK, replies),
        Err(error) => reply::respond(Err(error), &headers),
    }
}
