//! What the system says about this process. Only on Linux; elsewhere there is nothing to say.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::family::float;

/// A look at this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
}

impl Process {
    pub(super) fn look() -> Self {
        Self {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
            resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|files| float(files.count() as u64)),
            max_fds: getrlimit(Resource::Nofile).current.map(float),
        }
    }
}

/// User and system time of `/proc/self/stat` (proc_pid_stat(5), fields 14 and 15). The second field is the program's name
/// in parentheses, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { return None };
    Some(float(user + system) / float(rustix::param::clock_ticks_per_second()))
}

/// `VmRSS` of `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(float(kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let hz = float(rustix::param::clock_ticks_per_second());
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 5 6 20 0 1 0 99 1 2";
        assert_eq!(cpu_seconds(stat), Some(42.0 / hz));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    20 kB\n"), Some(20_480.0));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let process = Process::look();
        assert!(process.resident_bytes > Some(1e6) && process.open_fds > Some(2.0), "{process:?}");
        assert!(process.cpu_seconds.is_some());
    }
}
