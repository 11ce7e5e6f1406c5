//! Authentication. A handler's signature states the scope it needs: `Key<CardsWrite>`.

use std::future::{Ready, ready};
use std::marker::PhantomData;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::problem::{FAULT, FORBIDDEN, Problem, UNAUTHENTICATED};
use super::server::Shared;
use crate::actions::keys::{Bearer, Scope, authenticate};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::ids::WorkspaceId;

/// A scope as a type.
pub trait NeedsScope {
    /// The scope.
    const SCOPE: Scope;
}

macro_rules! scopes {
    ($($name:ident),*) => { $(
        #[allow(missing_docs)]
        #[derive(Debug)]
        pub struct $name;
        impl NeedsScope for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )* };
}

scopes!(CardsRead, CardsWrite, TemplatesRead, TemplatesWrite, LinksRead, LinksWrite, Admin);

/// The caller's valid API key, which has the scope `S`.
#[derive(Debug)]
pub struct Key<S> {
    /// The key's workspace, the only one that the request may touch.
    pub workspace: WorkspaceId,
    /// The key as the actor of the request's changes.
    pub actor: Actor,
    scope: PhantomData<S>,
}

impl<S: NeedsScope> FromRequest for Key<S> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let bearer = request.extensions().get::<Bearer>().cloned();
        ready(match bearer {
            None => Err(Problem::new(&FAULT, "the route stands in a list that asks for no key")),
            Some(bearer) if !bearer.may(S::SCOPE) => {
                Err(Problem::new(&FORBIDDEN, format!("the key lacks the scope {}", S::SCOPE.name())))
            }
            Some(bearer) => Ok(Self { workspace: bearer.workspace, actor: bearer.actor, scope: PhantomData }),
        })
    }
}

/// The bootstrap key of the configuration, the only one that may add workspaces.
#[derive(Debug)]
pub struct Bootstrap {
    /// The key as the actor of the request's changes.
    pub actor: Actor,
}

impl FromRequest for Bootstrap {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let bearer = request.extensions().get::<Bearer>().filter(|bearer| bearer.bootstrap).cloned();
        let refused = || Problem::new(&FORBIDDEN, "only the bootstrap key (PASSLOOM_ADMIN_KEY) allows this");
        ready(bearer.map(|bearer| Self { actor: bearer.actor }).ok_or_else(refused))
    }
}

/// Middleware around every route for backends: identifies the caller before anything of the body is read, so that
/// callers without a key learn nothing else. The handler states the scope that the key must have ([`Key`]).
///
/// # Errors
/// Those of the handler.
pub async fn authenticated(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    match bearer(request.request()).await {
        Ok(bearer) => {
            request.extensions_mut().insert(bearer);
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        // An answer, not an error: outer middleware counts and names answers.
        Err(problem) => Ok(ServiceResponse::from_err(problem, request.into_parts().0)),
    }
}

async fn bearer(request: &HttpRequest) -> Result<Bearer, Problem> {
    let app = request.app_data::<Shared>().ok_or_else(|| Problem::new(&FAULT, "the service is not set up"))?;
    let unknown = || Problem::new(&UNAUTHENTICATED, "the request has no valid API key");
    let (scheme, key) = authorization(request).ok_or_else(unknown)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unknown());
    }
    authenticate(app, key).await?.ok_or_else(unknown)
}

/// Whether the key of a request that is being answered was revoked meanwhile. False while the database can't be read.
pub async fn was_revoked<S: NeedsScope>(app: &App, request: &HttpRequest) -> bool {
    let Some((_, key)) = authorization(request) else { return true };
    authenticate(app, key).await.is_ok_and(|bearer| !bearer.is_some_and(|bearer| bearer.may(S::SCOPE)))
}

/// Returns the scheme and the secret of an `Authorization` header.
pub fn authorization(request: &HttpRequest) -> Option<(&str, &str)> {
    let text = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = text.trim().split_once(' ')?;
    Some((scheme, secret.trim()))
}
