mod apple_v1;
mod cards;
mod pages;
mod templates;
