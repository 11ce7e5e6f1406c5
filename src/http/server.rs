//! The HTTP server: limits, timeouts and an orderly end.

use std::future::ready;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Protocol};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App as Application, web};

use super::connections::{self, Connections, Watched};
use super::fixed::FixedContents;
use super::middleware;
use super::routes::{self, Served};
use crate::app::App;
use crate::platform::files;

/// The application as handlers get it.
pub type Shared = web::Data<App>;

/// How long requests under way may take when the node stops.
const SHUTDOWN_GRACE: u64 = 30;

/// How many connections the inner address has at a time, when it is one of its own.
const INTERNAL_CONNECTIONS: usize = 64;
/// How long requests under way on the inner address may take when the node stops: it is the last that ends.
const INTERNAL_SHUTDOWN_GRACE: u64 = 1;

/// Starts to serve on a bound socket. `stop` ends it: no new connections, idle ones closed, requests under way given
/// up to 30 seconds (on the inner address one).
///
/// # Errors
/// When the socket can't be used.
pub fn serve(
    app: &Shared,
    listener: TcpListener,
    served: Served,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<Server> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (name, room, workers, shutdown_grace) = match served {
        Served::Internal => ("internal", INTERNAL_CONNECTIONS, 1, INTERNAL_SHUTDOWN_GRACE),
        Served::Public | Served::Everything => ("http", connections::room(files::limit()), cores, SHUTDOWN_GRACE),
    };
    let connections = Arc::new(Connections::new(room, app.trusted_proxies.clone(), app.unread));
    let (app, contents, all) =
        (app.clone(), web::Data::new(FixedContents::new(routes::BACKENDS)), web::Data::from(Arc::clone(&connections)));
    let build = move || {
        let application = Application::new().app_data(app.clone()).app_data(contents.clone()).app_data(all.clone());
        application.wrap(from_fn(middleware::observe)).configure(|config| served.add_to(config))
    };
    let address = listener.local_addr()?;
    // At this number nothing more is accepted until a connection ends; those that came meanwhile wait in the system's queue.
    let builder = Server::build().workers(workers).max_concurrent_connections(connections.most().div_ceil(workers));
    let builder = builder.shutdown_timeout(shutdown_grace).shutdown_signal(stop);
    let draining = builder.graceful_shutdown_signal();
    let server = builder.listen(name, listener, move || {
        let draining = draining.clone();
        let service = HttpService::build()
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            // A client that sends its headers too slowly holds a connection for so long at most.
            .client_request_timeout(connections::HEADERS)
            .client_disconnect_timeout(Duration::from_secs(2))
            .keep_alive(connections::KEEP_ALIVE)
            .local_addr(address)
            .on_connect_ext(|stream: &Watched<TcpStream>, data: &mut Extensions| {
                data.insert(stream.activity());
            });
        let application = build().into_factory().map_err(|error: actix_web::Error| error.error_response());
        // Nothing here asks actix for its own address.
        let service = service.finish(map_config(application, |()| AppConfig::default()));
        let connections = Arc::clone(&connections);
        fn_service(move |stream: TcpStream| {
            let watched = connections.watch(stream).map_err(DispatchError::Io);
            ready(watched.map(|(stream, peer)| (stream, Protocol::Http1, peer)))
        })
        .and_then(service)
    })?;
    Ok(server.run())
}
