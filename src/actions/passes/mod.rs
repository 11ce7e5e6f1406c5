//! The actions of holders of a pass: registering a device, polling for changes, fetching, logging.

pub mod device_logs;
pub mod ensure_pass;
pub mod fetch_pass;
pub mod group_commit;
pub mod holder;
pub mod list_changed;
pub mod record_fetches;
pub mod register_device;
pub mod renders;
