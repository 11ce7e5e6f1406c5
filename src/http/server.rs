//! The HTTP server: limits, timeouts and an orderly end.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App as Application, HttpServer, web};

use super::fixed::Contents;
use super::{middleware, routes};
use crate::app::App;

/// The application as handlers get it.
pub type Shared = web::Data<App>;

/// How long requests under way may take when the node stops.
const LAST_ORDERS: u64 = 30;

/// Starts to serve on a bound socket. `stop` ends it: no new connections, idle ones closed, requests under way given
/// up to 30 seconds.
///
/// # Errors
/// When the socket can't be used.
pub fn serve(
    app: &Shared,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<Server> {
    let (app, contents) = (app.clone(), Contents::default());
    let build = move || {
        let application = Application::new().app_data(app.clone()).app_data(contents.clone());
        application.wrap(from_fn(middleware::observe)).configure(routes::all)
    };
    let server = HttpServer::new(build)
        // A client that sends its headers too slowly holds a connection for so long at most.
        .client_request_timeout(Duration::from_secs(10))
        .client_disconnect_timeout(Duration::from_secs(2))
        // A pass is sent in two pieces; Nagle would hold back the second until the first is acknowledged (40 ms).
        .tcp_nodelay(true)
        .keep_alive(Duration::from_secs(75))
        .shutdown_timeout(LAST_ORDERS)
        .shutdown_signal(stop)
        .listen(listener)?;
    Ok(server.run())
}
