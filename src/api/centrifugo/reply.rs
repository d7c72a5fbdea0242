//! Replies: a result or an error, some of which have an HTTP status of their own.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::error::ApiError;
use crate::api::http;
use crate::channel::Unfit;
use crate::reason::ClientError;

/// Header with which a client asks for errors as HTTP statuses.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// The outcome of a method: a result as JSON, or an error.
pub(super) type CallResult = Result<Box<RawValue>, CallError>;

/// The error of a failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// The body is invalid for the method. This is status 400, or error 107 in a batch.
    Malformed(String),
    /// An error of the service. `Busy` is status 503, or error 111 in a batch.
    Api(ApiError),
}

impl From<ApiError> for CallError {
    fn from(error: ApiError) -> CallError {
        CallError::Api(error)
    }
}

impl From<Unfit> for CallError {
    fn from(unfit: Unfit) -> CallError {
        CallError::Api(unfit.into())
    }
}

/// An error in the form of Centrifugo's API.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    code: u16,
    message: String,
}

impl CallError {
    /// Returns code and message.
    pub(super) fn body(&self) -> ErrorBody {
        let error = match self {
            CallError::Malformed(detail) => &ApiError::bad_request(detail),
            CallError::Api(error) => error,
        };
        ErrorBody { code: error.error().details().code, message: error.message() }
    }
}

/// Returns the HTTP status of an error. Source: Centrifugo's transport error mode.
fn transport_status(error: ClientError) -> StatusCode {
    match error {
        ClientError::UnknownChannel | ClientError::MethodNotFound => StatusCode::NOT_FOUND,
        ClientError::BadRequest | ClientError::NotAvailable | ClientError::PublicationTooLong => {
            StatusCode::BAD_REQUEST
        }
        ClientError::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `{"result":{..}}` or `{"error":{..}}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    Result(Box<RawValue>),
    Error(ErrorBody),
}

impl From<CallResult> for Reply {
    fn from(outcome: CallResult) -> Reply {
        match outcome {
            Ok(result) => Reply::Result(result),
            Err(error) => Reply::Error(error.body()),
        }
    }
}

/// Serializes the result of a method.
///
/// # Errors
/// Internal, if the result can't be serialized. That would be a bug.
pub(super) fn raw(result: &impl Serialize) -> CallResult {
    let written = serde_json::value::to_raw_value(result);
    written.map_err(|error| CallError::Api(ApiError::internal(error.to_string())))
}

/// Converts the outcome of a method to an HTTP response.
pub(super) fn respond(outcome: CallResult, headers: &HeaderMap) -> Response<Body> {
    let by_status = headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport");
    match outcome {
        Err(CallError::Malformed(detail)) => http::text(StatusCode::BAD_REQUEST, &detail),
        Err(CallError::Api(ApiError::Busy)) => http::busy(),
        Err(CallError::Api(error)) if by_status => {
            let status = transport_status(error.error());
            http::json(status, &CallError::Api(error).body())
        }
        outcome => http::json(StatusCode::OK, &Reply::from(outcome)),
    }
}
