//! Errors of the application's requests, independent of the wording.

use crate::channel::Unfit;
use crate::reason::ClientError;

/// The error of a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The request can't be carried out, or the server failed (100).
    Refused {
        /// Code and text.
        error: ClientError,
        /// A detail for the reader of the message; may be empty.
        detail: String,
    },
    /// Too many requests are in progress.
    Busy,
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
    /// A mistake of the application.
    pub(super) fn bad_request(detail: impl Into<String>) -> ApiError {
        ApiError::Refused { error: ClientError::BadRequest, detail: detail.into() }
    }

    /// A feature that is disabled or not supported.
    pub(super) fn not_available(detail: impl Into<String>) -> ApiError {
        ApiError::Refused { error: ClientError::NotAvailable, detail: detail.into() }
    }

    /// A failure of the server.
    pub(super) fn internal(detail: impl Into<String>) -> ApiError {
        ApiError::Refused { error: ClientError::Internal, detail: detail.into() }
    }

    /// Returns the entry in the table of reasons.
    pub(super) fn error(&self) -> ClientError {
        match self {
            ApiError::Refused { error, .. } => *error,
            ApiError::Busy => ClientError::TooManyRequests,
        }
    }

    /// Returns the text of the error: the standard text, then the detail after a colon.
    pub(super) fn message(&self) -> String {
        let details = self.error().details();
        match self {
            ApiError::Refused { detail, .. } if !detail.is_empty() => {
                format!("{}: {detail}", details.text)
            }
            _ => details.text.to_owned(),
        }
    }
}
