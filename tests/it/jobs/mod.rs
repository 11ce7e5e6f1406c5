mod apns;
mod delivery;
mod expiry;
mod never_missed;
mod nodes;
mod refresh;
mod supervision;
mod unchanged;
