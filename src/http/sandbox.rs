//! The sandbox's stand-in for the connection on which Apple reaches a phone: `GET /sandbox/devices/{push token}/pushes`
//! streams an event for each push (server-sent events). It exists only where the simulated APNs runs.

use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream;

use super::problem::{NOT_FOUND, Problem};
use crate::app::App;
use crate::domain::ids::PushToken;

/// How often an idle stream sends a keep-alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Connects a simulated phone.
///
/// # Errors
/// When this is no sandbox, or APNs could not know the token.
pub async fn pushes(app: web::Data<App>, token: web::Path<String>) -> Result<HttpResponse, Problem> {
    let missing = || Problem::new(&NOT_FOUND, "there is nothing at this address");
    let apns = app.sandbox.as_ref().ok_or_else(missing)?;
    let token = PushToken::parse(&token).ok().filter(PushToken::is_hexadecimal).ok_or_else(missing)?;
    let device = apns.connect_device(&token);
    let stopping = app.stopping.subscribe();
    let lines = stream::unfold((device, stopping, true), |(mut device, mut stopping, first)| async move {
        if *stopping.borrow() {
            return None;
        }
        // The first line of the stream confirms the connection to the phone.
        let line = if first {
            ": connected\n\n".to_owned()
        } else {
            tokio::select! {
                topic = device.recv() => format!("event: push\ndata: {}\n\n", topic?),
                _ = stopping.changed() => return None,
                () = tokio::time::sleep(SIGN_OF_LIFE) => ": still here\n\n".to_owned(),
            }
        };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), (device, stopping, false)))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(lines))
}
