mod apns;
mod delivery;
mod expiry;
mod never_missed;
mod nodes;
mod refresh;
mod retention;
mod unchanged;
