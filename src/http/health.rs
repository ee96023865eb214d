//! Liveness and readiness.

use axum::{extract::State, http::StatusCode};

use super::App;

/// The process runs. Says nothing about its surroundings, so that an outage of the database does not restart it.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Whether calls should be sent here: not while draining, nor while the database is away.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if !app.serving() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if app.service.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "database unavailable\n")
    }
}
