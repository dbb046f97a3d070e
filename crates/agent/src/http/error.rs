//! Errors as `{"error", "detail"}` with the status that fits.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ringmesh_node::io::{CommandError, CommandErrorKind};
use serde_json::json;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: &'static str,
    detail: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, error: &'static str, detail: String) -> Self {
        Self { status, error, detail }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid request", detail.into())
    }

    /// A query that cannot be read: `serde` says which key and why, `allowed` what there is to write.
    pub(crate) fn query(rejection: &QueryRejection, allowed: &str) -> Self {
        let text = rejection.body_text();
        let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        Self::invalid(format!("{why}: write {allowed}"))
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", detail.into())
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let (status, what) = match error.kind {
            CommandErrorKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid request"),
            CommandErrorKind::NotFound => (StatusCode::NOT_FOUND, "not found"),
            CommandErrorKind::Conflict => (StatusCode::CONFLICT, "conflict"),
            CommandErrorKind::Disk => (StatusCode::INSUFFICIENT_STORAGE, "not kept"),
        };
        Self::new(status, what, error.detail)
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        Self::new(status, "the body cannot be read", rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "detail": self.detail }))).into_response()
    }
}
