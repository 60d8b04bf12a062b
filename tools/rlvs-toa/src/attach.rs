// SPDX-License-Identifier: GPL-2.0

//! Loads the programs, attaches and pins them, and takes them away.
//!
//! What is pinned in [`DIR`] is all there is: no process stays. A link holds a program to a cgroup, the maps hold what
//! the programs know, and `state` is the configuration as JSON.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use libbpf_rs::{
    MapCore, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject, TcHook, TcHookBuilder,
    TC_INGRESS,
};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::statfs::{statfs, BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC},
};

use crate::{
    config::Config,
    error::{Doing, Failure},
    missing,
};

const PROGRAMS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rlvs_toa.bpf.o"));

const BPFFS: &str = "/sys/fs/bpf";
/// Where programs and maps are pinned.
pub const DIR: &str = "/sys/fs/bpf/rlvs-toa";
/// Where they are until all of them are.
const NEW: &str = "/sys/fs/bpf/rlvs-toa-new";

/// Maps that outlive a change of the configuration.
const KEPT: &[&str] = &["clients", "counters", "udp_flows", "udp_peers"];
const PREFIX_OF_UDP: &str = "udp_";

/// The program for devices; all others are for cgroups.
const UNWRAP: &str = "rlvs_unwrap";
/// Names our filter among those of a device.
const TC_HANDLE: u32 = 1;
const TC_PRIORITY: u32 = 248;

/// The programs that UDP needs, by their names.
fn is_udp(program: &OsStr) -> bool {
    !["rlvs_sockops", "rlvs_getpeername4", "rlvs_getpeername6"]
        .iter()
        .any(|name| program == *name)
}

/// Attaches what is configured, in the place of what may be attached now.
pub fn attach(mut config: Config) -> Result<(), Failure> {
    need_bpffs()?;
    if config.cgroups.is_empty() {
        config.cgroups = vec![root_cgroup()?];
    }
    let cgroups = open_cgroups(&config.cgroups)?;
    let devices = interfaces(&config.devices)?;
    let before = read(DIR).ok();
    remove(Path::new(NEW))?;
    let result = prepare(&config, before.is_some())
        .and_then(|object| pin(&object, &config, &cgroups, &devices));
    let before = before.map(|config| config.devices).unwrap_or_default();
    if let Err(failure) = result {
        // The first failure is the one to tell.
        let _ = detach_devices(&config.devices, &before);
        remove(Path::new(NEW))?;
        return Err(failure);
    }
    detach_devices(&before, &config.devices)?;
    remove(Path::new(DIR))?;
    fs::rename(NEW, DIR).doing(DIR)
}

/// Takes everything away; false if there was nothing.
pub fn detach() -> Result<bool, Failure> {
    let config = read(DIR);
    let there = Path::new(DIR).exists() || Path::new(NEW).exists();
    if let Ok(config) = config {
        detach_devices(&config.devices, &[])?;
    }
    remove(Path::new(NEW))?;
    remove(Path::new(DIR))?;
    Ok(there)
}

/// What is attached, if anything is.
pub fn attached() -> Result<Option<Config>, Failure> {
    need_bpffs()?;
    if !Path::new(DIR).exists() {
        return Ok(None);
    }
    read(DIR).map(Some)
}

/// Opens one of the pinned maps.
pub fn map(name: &str) -> Result<MapHandle, Failure> {
    let path = Path::new(DIR).join(name);
    MapHandle::from_pinned_path(&path).doing(path.display())
}

/// How many links are pinned.
pub fn links() -> usize {
    let Ok(entries) = fs::read_dir(DIR) else {
        return 0;
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    names
        .filter(|name| name.to_string_lossy().starts_with("link-"))
        .count()
}

fn read(dir: &str) -> Result<Config, Failure> {
    let path = Path::new(dir).join("state");
    let map = MapHandle::from_pinned_path(&path).doing(path.display())?;
    let text = map
        .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
        .doing(path.display())?;
    let text = text.unwrap_or_default();
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    serde_json::from_slice(text).doing(path.display())
}

fn need_bpffs() -> Result<(), Failure> {
    let kind = statfs(BPFFS).map(|fs| fs.filesystem_type());
    if kind == Ok(BPF_FS_MAGIC) {
        return Ok(());
    }
    if !missing::has_filesystem("bpf") {
        return Err(Failure(missing::lacks(missing::BPF)));
    }
    Err(Failure(format!(
        "there is no BPF file system at {BPFFS}: mount -t bpf bpf {BPFFS}"
    )))
}

/// The root of the version 2 hierarchy, wherever it is mounted.
fn root_cgroup() -> Result<String, Failure> {
    let mounts = fs::read_to_string("/proc/self/mounts").doing("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let path = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| path.to_string())
    });
    found.ok_or_else(|| {
        Failure(if missing::has_filesystem("cgroup2") {
            // Where nobody's other hierarchies are.
            "no cgroup hierarchy of version 2 is mounted: mkdir /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2"
                .into()
        } else {
            missing::lacks("cgroups of version 2 (CONFIG_CGROUPS)")
        })
    })
}

fn open_cgroups(paths: &[String]) -> Result<Vec<File>, Failure> {
    let open = |path: &String| {
        let kind = statfs(path.as_str()).doing(path)?.filesystem_type();
        if kind != CGROUP2_SUPER_MAGIC {
            return Err(Failure(format!("{path}: not a cgroup of version 2")));
        }
        File::open(path).doing(path)
    };
    paths.iter().map(open).collect()
}

fn interfaces(names: &[String]) -> Result<Vec<i32>, Failure> {
    let index = |name: &String| {
        let index = if_nametoindex(name.as_str());
        index
            .map(|index| index as i32)
            .map_err(|_| Failure(format!("there is no network device {name}")))
    };
    names.iter().map(index).collect()
}

fn open_object(config: &Config, again: bool) -> Result<OpenObject, Failure> {
    let mut object = ObjectBuilder::default()
        .name("rlvs_toa")
        .and_then(|builder| builder.open_memory(PROGRAMS))
        .doing("the programs")?;
    for mut program in object.progs_mut() {
        let name = program.name().to_os_string();
        program.set_autoload(
            config.udp && (name != UNWRAP || !config.devices.is_empty()) || !is_udp(&name),
        );
    }
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == ".rodata.config" {
            map.set_initial_value(&config.for_programs())
                .doing("the configuration")?;
        }
        if name.starts_with(PREFIX_OF_UDP) && !config.udp {
            map.set_autocreate(false).doing(&name)?;
            continue;
        }
        let pinned = Path::new(DIR).join(&name);
        if again && KEPT.contains(&name.as_str()) && pinned.exists() {
            map.reuse_pinned_map(&pinned).doing(format_args!(
                "{}: of another version; detach first",
                pinned.display()
            ))?;
        }
    }
    Ok(object)
}

/// Loads the programs and fills their maps.
fn prepare(config: &Config, again: bool) -> Result<Object, Failure> {
    let open = open_object(config, again)?;
    let object = open
        .load()
        .map_err(|error| missing::explain("load the programs", &error))?;
    let balancers = find_map(&object, "balancers")?;
    for prefix in &config.from {
        balancers
            .update(&prefix.key(), &[1], MapFlags::ANY)
            .doing(prefix)?;
    }
    let state = find_map(&object, "state")?;
    let mut text = serde_json::to_vec(config).doing("the configuration")?;
    let room = state.value_size() as usize;
    if text.len() >= room {
        return Err(Failure("the configuration is too long".into()));
    }
    text.resize(room, 0);
    state
        .update(&0u32.to_ne_bytes(), &text, MapFlags::ANY)
        .doing("state")?;
    Ok(object)
}

fn find_map<'a>(object: &'a Object, name: &str) -> Result<libbpf_rs::Map<'a>, Failure> {
    let mut maps = object.maps();
    maps.find(|map| map.name() == name)
        .ok_or_else(|| Failure(format!("the programs have no map {name}")))
}

/// Pins the maps in [`NEW`], attaches the programs and pins their links.
fn pin(object: &Object, config: &Config, cgroups: &[File], devices: &[i32]) -> Result<(), Failure> {
    fs::create_dir(NEW).doing(NEW)?;
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        // Read-only data and what is read into belong to the programs alone.
        if name.contains('.')
            || name == "scratches"
            || name.starts_with(PREFIX_OF_UDP) && !config.udp
        {
            continue;
        }
        let path = Path::new(NEW).join(&name);
        let mut handle = MapHandle::try_from(&map).doing(&name)?;
        handle.pin(&path).doing(path.display())?;
    }
    for program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if !program.autoload() {
            continue;
        }
        if name == UNWRAP {
            for (&device, name) in devices.iter().zip(&config.devices) {
                unwrap_hook(program.as_fd(), device).attach().doing(name)?;
            }
            continue;
        }
        for (number, cgroup) in cgroups.iter().enumerate() {
            let attached = program.attach_cgroup(cgroup.as_raw_fd());
            let mut link =
                attached.map_err(|error| missing::explain(&format!("attach {name}"), &error))?;
            let path = Path::new(NEW).join(format!("link-{number}-{name}"));
            link.pin(&path).doing(path.display())?;
        }
    }
    Ok(())
}

/// Our filter on a device, which gets a place for filters if it has none.
fn unwrap_hook(program: BorrowedFd<'_>, device: i32) -> TcHook {
    let mut hook = TcHookBuilder::new(program)
        .ifindex(device)
        .replace(true)
        .handle(TC_HANDLE)
        .priority(TC_PRIORITY)
        .hook(TC_INGRESS);
    // That it is there already is no error, and any other shows when the filter is attached.
    let _ = hook.create();
    hook
}

/// Takes our filter from devices that need it no more and still exist.
fn detach_devices(names: &[String], needed: &[String]) -> Result<(), Failure> {
    for name in names.iter().filter(|name| !needed.contains(name)) {
        let Ok(device) = if_nametoindex(name.as_str()) else {
            continue;
        };
        let stdin = io::stdin();
        let mut hook = TcHookBuilder::new(stdin.as_fd())
            .ifindex(device as i32)
            .handle(TC_HANDLE)
            .priority(TC_PRIORITY)
            .hook(TC_INGRESS);
        match hook.detach() {
            Ok(()) => {}
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing(name),
        }
    }
    Ok(())
}

/// Removes a directory of pins: the links first, so that no program runs without what it knows.
fn remove(dir: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(()),
        Err(error) => return Err(error).doing(dir.display()),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let is_map = |path: &PathBuf| {
        !path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .starts_with("link-")
    };
    paths.sort_by_key(is_map);
    for path in paths {
        fs::remove_file(&path).doing(path.display())?;
    }
    fs::remove_dir(dir).doing(dir.display())
}
