//! Who asks. What a handler needs stands in its signature: `Key<CardsWrite>`.

use std::marker::PhantomData;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use futures_util::future::LocalBoxFuture;

use super::problem::{FAULT, FORBIDDEN, Problem, UNAUTHENTICATED};
use super::server::Shared;
use crate::actions::api_keys::{Scope, authenticate};
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

scopes!(CardsRead, CardsWrite, TemplatesRead, TemplatesWrite);

/// A valid API key that allows `S`.
#[derive(Debug)]
pub struct Key<S> {
    /// The key's workspace: the only one that the request may touch.
    pub workspace: WorkspaceId,
    scope: PhantomData<S>,
}

impl<S: NeedsScope> FromRequest for Key<S> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<Shared>().cloned();
        let key =
            authorization(request).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key);
        Box::pin(async move {
            let app = app.ok_or_else(|| Problem::new(&FAULT, "the service is not set up"))?;
            let unknown = || Problem::new(&UNAUTHENTICATED, "the request has no valid API key");
            let bearer = authenticate(&app, &key.ok_or_else(unknown)?).await?.ok_or_else(unknown)?;
            if !bearer.may(S::SCOPE) {
                return Err(Problem::new(&FORBIDDEN, format!("the key lacks the scope {}", S::SCOPE.name())));
            }
            Ok(Self { workspace: bearer.workspace, scope: PhantomData })
        })
    }
}

/// The scheme and the secret of an `Authorization` header.
pub fn authorization(request: &HttpRequest) -> Option<(String, String)> {
    let text = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = text.trim().split_once(' ')?;
    Some((scheme.to_owned(), secret.trim().to_owned()))
}
