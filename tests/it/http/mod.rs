mod apple_v1;
mod cards;
mod issuers;
mod keys;
mod pages;
mod templates;
