//! What the system reports about this process.

/// The resources that the process uses; `None` where the system doesn't report a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that are in use and not swapped out.
    pub resident_memory: Option<i64>,
    /// The number of open files, connections among them.
    pub open_files: Option<i64>,
}

/// Reads what the process uses, from Linux's `/proc`. It counts the open files one by one, so it must not run on
/// threads that serve.
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    // The directory being read is one of them.
    let open = std::fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1));
    Usage {
        resident_memory: kibibytes.and_then(|number| number.trim().parse::<i64>().ok()).map(|number| number * 1024),
        open_files: open.ok().and_then(|count| i64::try_from(count).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_memory_and_open_files() {
        let usage = usage();
        assert!(usage.resident_memory.is_some_and(|bytes| bytes > 1024 * 1024), "{usage:?}");
        assert!(usage.open_files.is_some_and(|files| files >= 3), "{usage:?}");
    }
}
