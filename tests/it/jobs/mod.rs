mod delivery;
mod never_missed;
