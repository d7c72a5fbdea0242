//! Why a request of the application fails, whatever its wording.

use crate::channel::Unfit;
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
    /// Too much is under way.
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
    pub(super) fn error(&self) -> ClientError {
        match self {
            ApiError::Refused { error, .. } => *error,
            ApiError::Busy => ClientError::TooManyRequests,
        }
    }

    /// Text of the error. What is wrong in particular follows the standard text after a colon.
    pub(super) fn message(&self) -> String {
        let row = self.error().row();
        match self {
            ApiError::Refused { detail, .. } if !detail.is_empty() => {
                format!("{}: {detail}", row.text)
            }
            _ => row.text.to_owned(),
        }
    }
}
