mod delivery;
mod expiry;
mod never_missed;
