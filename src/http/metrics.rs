//! The scrape of Prometheus.

use axum::{
    extract::State,
    http::{HeaderName, header},
};

use super::App;
use crate::telemetry;

/// Every metric at this moment.
pub(super) async fn scrape(State(app): State<App>) -> ([(HeaderName, &'static str); 2], String) {
    let headers = [(header::CONTENT_TYPE, telemetry::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, telemetry::text(&app.service.collect_metrics()))
}
