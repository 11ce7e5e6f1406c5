//! What holders of a pass do: register a device, ask what changed, fetch, report.

pub mod device_logs;
pub mod fetch_pass;
pub mod group_commit;
pub mod holder;
pub mod list_changed;
pub mod record_fetches;
pub mod register_device;
pub mod renders;
