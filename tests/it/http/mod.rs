mod apple_v1;
mod cards;
mod idempotency;
mod issuers;
mod keys;
mod openapi;
mod pages;
mod templates;
