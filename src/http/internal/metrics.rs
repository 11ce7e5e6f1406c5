//! Metrics for Prometheus.

use actix_web::{HttpResponse, web};

use crate::app::App;

/// `GET /metrics`: counters and gauges in the text format of OpenMetrics.
pub async fn metrics(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(app.metrics.render())
}
