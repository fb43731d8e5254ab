//! What a request gets when it cannot be met.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is wrong: not JSON, an unknown field, a value out of range.
    BadRequest,
    /// No such uri, job or endpoint.
    NotFound,
    /// The queue is full; the same request may work later.
    Busy,
    /// Outside what this service may touch.
    Forbidden,
    /// Not possible on this host or in this build.
    Unavailable,
    /// A fault in netdiag itself.
    Internal,
}

/// One refusal: what was wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind of refusal.
    pub code: ErrorCode,
    /// A sentence: what was wrong and what would be right.
    pub message: String,
    /// The offending field, as a path (`extra[0].port`), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl ApiError {
    /// An error of `code` that names no field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// A `bad_request` that names the offending field.
    pub fn bad_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: ErrorCode::BadRequest, message: message.into(), field: Some(field.into()) }
    }

    /// A `bad_request` about the body as a whole.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// A `not_found`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }
}

/// An error as it stands in a reply: `{"error": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The refusal.
    pub error: ApiError,
}
