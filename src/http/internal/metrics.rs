//! Metrics for Prometheus.

use actix_web::{HttpResponse, web};

use crate::actions::readings::refresh_readings;
use crate::app::App;

/// `GET /metrics`: counters and gauges in the text format of OpenMetrics.
pub async fn metrics(app: web::Data<App>) -> HttpResponse {
    refresh_readings(&app).await;
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(app.metrics.render())
}
