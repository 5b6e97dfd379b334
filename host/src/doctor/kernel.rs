//! What the kernel offers.

use std::collections::BTreeSet;
use std::fs::OpenOptions;

use crate::config::DAEMONS_MAX;
use crate::confine::Layer;
use crate::platform::Surroundings;
use crate::worker::components_within;

use super::{Check, Probes, Verdict};

/// The device, and what is behind it. `KVM_GET_API_VERSION` is not asked: it has been 12 since 2007.
pub(super) fn kvm(surroundings: &Surroundings) -> Check {
    const NAME: &str = "kvm";
    let device = surroundings.path("/dev/kvm");
    if let Err(error) = OpenOptions::new().read(true).write(true).open(device) {
        let way_out = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "add yourself to the group kvm and log in again"
            }
            _ => {
                "load kvm_intel or kvm_amd, or enable virtualisation in the firmware or hypervisor"
            }
        };
        return Check::new(NAME, Verdict::Missing, format!("/dev/kvm: {error}"))
            .means("no microVMs; WOS and native daemons are not concerned")
            .way_out(way_out);
    }
    let flags = surroundings.read("/proc/cpuinfo").unwrap_or_default();
    let has_flag = |wanted: &str| {
        let line = flags.lines().find(|line| line.starts_with("flags"));
        line.is_some_and(|line| line.split_whitespace().any(|flag| flag == wanted))
    };
    let module = |name: &str| surroundings.exists(&format!("/sys/module/{name}"));
    let hardware = "microVMs run at hardware speed";
    let software =
        "a guest runs at hardware speed only in 64-bit ring 3; stock Linux does not boot in it";
    let way_out = "use a machine with VMX or SVM for Linux guests";
    if module("kvm_pvm") {
        Check::new(NAME, Verdict::Limited, "/dev/kvm opens; backend PVM (kvm_pvm), in software")
            .means(software)
            .way_out(way_out)
    } else if module("kvm_intel") && has_flag("vmx") {
        Check::new(NAME, Verdict::Ok, "/dev/kvm opens; backend VMX (kvm_intel)").means(hardware)
    } else if module("kvm_amd") && has_flag("svm") {
        Check::new(NAME, Verdict::Ok, "/dev/kvm opens; backend SVM (kvm_amd)").means(hardware)
    } else if !flags.is_empty() && !has_flag("vmx") && !has_flag("svm") {
        let finding = "/dev/kvm opens; the processor shows neither vmx nor svm, so the backend is one \
                       in software, such as PVM";
        Check::new(NAME, Verdict::Limited, finding).means(software).way_out(way_out)
    } else {
        let finding = "/dev/kvm opens; the backend could not be determined (no module kvm_intel, \
                       kvm_amd or kvm_pvm in /sys/module)";
        Check::new(NAME, Verdict::Unknown, finding).means("microVMs can be created")
    }
}

/// Version and controllers.
pub(super) fn cgroups(surroundings: &Surroundings) -> Check {
    const NAME: &str = "cgroups";
    const WANTED: [&str; 3] = ["cpu", "memory", "pids"];
    let complete = |list: &[&str]| WANTED.iter().all(|wanted| list.contains(wanted));
    let means = "limits of native daemons by cgroup are not in this version; WOS enforces its own";
    if let Some(text) = surroundings.read("/sys/fs/cgroup/cgroup.controllers") {
        let list: Vec<&str> = text.split_whitespace().collect();
        let finding = format!("v2: {}", list.join(" "));
        if complete(&list) {
            return Check::new(NAME, Verdict::Ok, finding).means(means);
        }
        return Check::new(NAME, Verdict::Limited, finding)
            .means(means)
            .way_out("delegate cpu, memory and pids to this group (cgroup.subtree_control)");
    }
    let mounts = surroundings.read("/proc/self/mounts").unwrap_or_default();
    const CONTROLLERS: [&str; 12] = [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
    ];
    let mut controllers = BTreeSet::new();
    let mut has_v2 = false;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match (fields.get(2), fields.get(3)) {
            (Some(&"cgroup"), Some(options)) => {
                let options = options.split(',').filter(|option| CONTROLLERS.contains(option));
                controllers.extend(options);
            }
            (Some(&"cgroup2"), _) => has_v2 = true,
            _ => {}
        }
    }
    if controllers.is_empty() {
        let finding = if has_v2 { "v2 without controllers" } else { "no cgroup file system" };
        return Check::new(NAME, Verdict::Missing, finding)
            .means(means)
            .way_out("mount -t cgroup2 none /sys/fs/cgroup");
    }
    let list: Vec<&str> = controllers.into_iter().collect();
    let beside = if has_v2 { "; beside it a v2 tree without controllers" } else { "" };
    Check::new(NAME, Verdict::Limited, format!("v1: {}{beside}", list.join(" ")))
        .means(means)
        .way_out("boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all")
}

/// Whether it is there, and which ABI at least. The system call that gives the exact ABI would need
/// `unsafe` code; the kernel's version gives a lower bound.
pub(super) fn landlock(surroundings: &Surroundings) -> Check {
    const NAME: &str = "landlock";
    const ABIS: [((u32, u32), u32); 7] = [
        ((6, 15), 7),
        ((6, 12), 6),
        ((6, 10), 5),
        ((6, 7), 4),
        ((6, 2), 3),
        ((5, 19), 2),
        ((5, 13), 1),
    ];
    let means = "sandboxes of native daemons are not in this version; this is what they will use";
    let Some(modules) = surroundings.read("/sys/kernel/security/lsm") else {
        let finding = "could not be determined: /sys/kernel/security/lsm can't be read";
        return Check::new(NAME, Verdict::Unknown, finding)
            .means(means)
            .way_out("mount -t securityfs none /sys/kernel/security");
    };
    if !modules.trim().split(',').any(|module| module == "landlock") {
        return Check::new(NAME, Verdict::Missing, format!("security modules: {}", modules.trim()))
            .means(means)
            .way_out("boot with lsm=landlock,… in front of the others");
    }
    let release = surroundings.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let version = numbers.next().zip(numbers.next());
    let version =
        version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let abi = version.and_then(|version: (u32, u32)| {
        ABIS.into_iter().find(|(since, _)| version >= *since).map(|(_, abi)| abi)
    });
    let finding = match abi {
        Some(abi) => {
            format!("active; at least ABI {abi}, by the kernel's version {}", release.trim())
        }
        None => "active; its ABI could not be determined".to_owned(),
    };
    Check::new(NAME, Verdict::Ok, finding).means(means)
}

/// Mappings per process, hence components per worker.
pub(super) fn max_map_count(surroundings: &Surroundings) -> Check {
    const NAME: &str = "max_map_count";
    /// The kernel's default.
    const DEFAULT: u64 = 65_530;
    let count = surroundings.read("/proc/sys/vm/max_map_count");
    let Some(count) = count.and_then(|text| text.trim().parse::<u64>().ok()) else {
        return Check::new(NAME, Verdict::Unknown, "could not be read")
            .means("how many components one worker can hold is not known");
    };
    let means = format!("at most {} components in one worker", components_within(count));
    let finding = format!("vm.max_map_count = {count}");
    if count >= DEFAULT {
        return Check::new(NAME, Verdict::Ok, finding).means(means);
    }
    Check::new(NAME, Verdict::Limited, finding)
        .means(means)
        .way_out(format!("sysctl vm.max_map_count={DEFAULT}"))
}

/// How accesses of components to their memory are kept in bounds here: what a fleet of the largest size gets,
/// or one component.
pub(super) fn engine(probes: &Probes<'_>) -> Check {
    const NAME: &str = "engine";
    let of = |components: usize| (probes.engine)(u32::try_from(components).unwrap_or(u32::MAX));
    let of_a_fleet = match of(DAEMONS_MAX) {
        Ok(None) => {
            return Check::new(
                NAME,
                Verdict::Ok,
                "guarded: guard pages keep memory accesses in bounds",
            )
            .means("components run at full speed, in fleets of any size");
        }
        Ok(Some(reason)) => reason,
        Err(error) => {
            return Check::new(NAME, Verdict::Missing, error)
                .means("components can't run here")
                .way_out("run native programs, or another machine");
        }
    };
    let (finding, means) = match of(1) {
        Ok(None) => (
            "guarded for small fleets, checked for large ones",
            format!(
                "a fleet of {DAEMONS_MAX} components has each memory access compared: {of_a_fleet}"
            ),
        ),
        Ok(Some(reason)) | Err(reason) => (
            "checked: a comparison keeps each memory access in bounds",
            format!("components run, more slowly: {reason}"),
        ),
    };
    Check::new(NAME, Verdict::Limited, finding)
        .means(means)
        .way_out("raise `ulimit -v`, if it is set")
}

/// What keeps a component from the rest of this machine, beside the engine.
pub(super) fn confinement(probes: &Probes<'_>) -> Check {
    const NAME: &str = "confinement";
    let layers = match (probes.layers)() {
        Ok(layers) => layers,
        Err(error) => {
            return Check::new(NAME, Verdict::Missing, error)
                .means("components are neither compiled nor run")
                .way_out("see the check `engine`");
        }
    };
    let missing: Vec<String> = layers
        .iter()
        .filter_map(|(name, layer)| match layer {
            Layer::Missing(why) => Some(format!("{name} ({why})")),
            Layer::Full | Layer::Partly => None,
        })
        .collect();
    let there: Vec<String> = layers
        .iter()
        .filter_map(|(name, layer)| match layer {
            Layer::Full => Some(name.clone()),
            Layer::Partly => Some(format!("{name} in part")),
            Layer::Missing(_) => None,
        })
        .collect();
    let there = there.join(", ");
    let means = "the processes that compile and run components have no more than they need";
    if !missing.is_empty() {
        let finding = format!("without {}; {there}", missing.join(", "));
        return Check::new(NAME, Verdict::Limited, finding)
            .means("a component that escapes the engine finds more than it should")
            .way_out("use a newer kernel");
    }
    let is_full = layers.iter().all(|(_, layer)| *layer == Layer::Full);
    if is_full {
        return Check::new(NAME, Verdict::Ok, there).means(means);
    }
    Check::new(NAME, Verdict::Limited, there)
        .means("what an older kernel has of it is in force")
        .way_out("use a newer kernel")
}

/// Descriptors per process.
pub(super) fn open_files(surroundings: &Surroundings) -> Check {
    const NAME: &str = "open_files";
    /// Enough for a fleet of the largest size: a few descriptors for each of its daemons.
    const WANTED: u64 = 8_192;
    let limits = surroundings.read("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut fields = line.unwrap_or_default().split_whitespace();
    let (Some(soft), Some(hard)) = (fields.next(), fields.next()) else {
        return Check::new(NAME, Verdict::Unknown, "could not be read")
            .means("how many daemons one manager can hold is not known");
    };
    let finding = format!("soft limit {soft}, hard limit {hard}");
    let enough = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|soft| soft >= WANTED);
    if enough {
        return Check::new(NAME, Verdict::Ok, finding).means("enough for a fleet of any size");
    }
    Check::new(NAME, Verdict::Limited, finding)
        .means("the manager and `keep` hold a few descriptors for each daemon")
        .way_out(format!("ulimit -n {WANTED} (as far as the hard limit allows)"))
}
