//! What `/proc` tells of processes: time on a processor, memory, children.

use std::{fs, process};

/// Nanoseconds on a processor of every thread of these processes.
pub(crate) fn cpu_nanos(pids: &[u32]) -> u64 {
    let threads = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = |thread: fs::DirEntry| -> Option<u64> {
        fs::read_to_string(thread.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    pids.iter().flat_map(threads).filter_map(nanos).sum()
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// A process and those that it started.
pub(crate) fn family(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let child = |pid: &u32| field(*pid, "PPid:") == Some(parent);
    std::iter::once(parent).chain(all.filter(child)).collect()
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    field(pid, "PPid:")
}

fn field(pid: u32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// This process.
pub(crate) fn own() -> Vec<u32> {
    vec![process::id()]
}

/// The processors of this machine, and how busy it has been.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("{cores} cores of {}; load average at the start {load}", model.trim_start_matches([':', '\t', ' ']))
}
