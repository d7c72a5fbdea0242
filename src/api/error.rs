//! Why a request to the API fails, and how that is said in HTTP.

use axum::http::StatusCode;
use serde::Serialize;

use crate::protocol::Unfit;
use crate::reason::ClientError;

/// Why a request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The application asked for something that can't be; or we failed (100).
    Refused {
        /// Code and text.
        error: ClientError,
        /// What exactly, for the person who reads it; may be empty.
        detail: String,
    },
    /// The body is not what the method takes. Alone it is a 400, in a batch a 107.
    Malformed(String),
    /// Too much is under way. Alone it is a 503, in a batch a 111.
    Busy,
}

/// An error as Centrifugo's API writes it.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    code: u16,
    message: String,
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> ApiError {
        ApiError::Refused { error, detail: String::new() }
    }
}

impl From<Unfit> for ApiError {
    fn from(Unfit { error, detail }: Unfit) -> ApiError {
        ApiError::Refused { error, detail }
    }
}

impl ApiError {
    /// The application's mistake, in words.
    pub(super) fn bad_request(detail: impl Into<String>) -> ApiError {
        ApiError::Refused { error: ClientError::BadRequest, detail: detail.into() }
    }

    /// Something that is switched off or not part of this server.
    pub(super) fn not_available(detail: impl Into<String>) -> ApiError {
        ApiError::Refused { error: ClientError::NotAvailable, detail: detail.into() }
    }

    /// Our mistake, in words.
    pub(super) fn internal(detail: impl Into<String>) -> ApiError {
        ApiError::Refused { error: ClientError::Internal, detail: detail.into() }
    }

    /// The error's row in the table of reasons.
    fn error(&self) -> ClientError {
        match self {
            ApiError::Refused { error, .. } => *error,
            ApiError::Malformed(_) => ClientError::BadRequest,
            ApiError::Busy => ClientError::TooManyRequests,
        }
    }

    /// Code and message. What is wrong in particular follows the standard text after a colon.
    pub(super) fn body(&self) -> ErrorBody {
        let row = self.error().row();
        let message = match self {
            ApiError::Refused { detail, .. } | ApiError::Malformed(detail)
                if !detail.is_empty() =>
            {
                format!("{}: {detail}", row.text)
            }
            _ => row.text.to_owned(),
        };
        ErrorBody { code: row.code, message }
    }

    /// The status where errors are told by HTTP's means. Source: Centrifugo's transport error mode.
    pub(super) fn transport_status(&self) -> StatusCode {
        match self.error() {
            ClientError::UnknownChannel | ClientError::MethodNotFound => StatusCode::NOT_FOUND,
            ClientError::BadRequest
            | ClientError::NotAvailable
            | ClientError::PublicationTooLong => StatusCode::BAD_REQUEST,
            ClientError::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
