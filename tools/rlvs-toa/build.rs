// SPDX-License-Identifier: GPL-2.0

//! Compiles the BPF programs, which the command carries in itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const SOURCE: &str = "bpf/rlvs_toa.bpf.c";
/// The parts of libbpf's headers that programs include.
const HEADERS: &[&str] = &["bpf_endian.h", "bpf_helpers.h", "bpf_helper_defs.h"];

/// CLANG, or the one that LLVM names as it does for the kernel (-22, or a directory with a slash), or what is there.
fn clang() -> String {
    if let Ok(clang) = env::var("CLANG") {
        return clang;
    }
    let llvm = env::var("LLVM").unwrap_or_else(|_| "-22".into());
    let named = match llvm.as_str() {
        version if version.starts_with('-') => format!("clang{version}"),
        directory if directory.ends_with('/') => format!("{directory}clang"),
        _ => "clang".into(),
    };
    let there = Command::new(&named).arg("--version").output().is_ok();
    if there {
        named
    } else {
        "clang".into()
    }
}

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-env-changed=LLVM");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let libbpf =
        PathBuf::from(env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys tells its headers"));
    // As <bpf/...>, wherever the crate has put them.
    let include = out.join("include");
    fs::create_dir_all(include.join("bpf")).expect("a directory for headers");
    for header in HEADERS {
        let from = [libbpf.join(header), libbpf.join("bpf").join(header)];
        let from = from.iter().find(|path| path.exists());
        let from = from.unwrap_or_else(|| panic!("no {header} in {}", libbpf.display()));
        fs::copy(from, include.join("bpf").join(header)).expect("a header");
    }
    let clang = clang();
    let mut command = Command::new(&clang);
    // The oldest instruction set, for all kernels; BTF (-g) is what socket storage asks for.
    command.args([
        "-target", "bpf", "-mcpu=v2", "-O2", "-g", "-Wall", "-Wextra", "-Werror",
    ]);
    command.arg("-I").arg(&include).arg("-isystem").arg(&libbpf);
    // Where Debian has <asm/types.h>.
    let machine = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the architecture");
    let multiarch = Path::new("/usr/include").join(format!("{machine}-linux-gnu"));
    command.arg("-isystem").arg(multiarch);
    command
        .args(["-c", SOURCE, "-o"])
        .arg(out.join("rlvs_toa.bpf.o"));
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(_) => panic!("{clang} could not compile {SOURCE}"),
        Err(error) => panic!("{clang}: {error}. CLANG=... names another clang with the target bpf"),
    }
}
