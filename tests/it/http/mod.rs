mod apple_v1;
mod cards;
mod keys;
mod pages;
mod templates;
