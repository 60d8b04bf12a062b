// SPDX-License-Identifier: GPL-2.0

//! The manual page and the completions, made from the definition of the command line.
//!
//! They are kept in `packaging/`, so that installing them takes no tool. `RLVS_WRITE=1 cargo test -p
//! rlvs-toa packaged` writes them anew; without that variable the test says whether they are current.

use std::{env, fs, path::Path};

use clap_complete::{generate, shells};
use clap_mangen::{
    roff::{bold, roman, Roff},
    Man,
};

use crate::cli;

/// What stands behind the options.
const SECTIONS: &[(&str, &str)] = &[
    ("FILES", FILES),
    ("EXIT STATUS", EXIT_STATUS),
    ("EXAMPLES", EXAMPLES),
    ("SEE ALSO", SEE_ALSO),
];

const FILES: &str = "\
/sys/fs/bpf/rlvs-toa          the programs' links and maps: all there is
/sys/fs/bpf/rlvs-toa/clients  what each socket knows; looked up with the
                              socket's file descriptor it gives the address
                              (16 bytes, IPv4 as mapped IPv6), the port (2),
                              the option's kind (1) and what told it (1: 0 the
                              SYN, 1 the ACK, 2 data, 3 a datagram)
/etc/default/rlvs-toa         ARGS=, what rlvs-toa.service attaches with
";

const EXIT_STATUS: &str = "\
0  done
1  not done: standard error says why
2  the command line is wrong
3  status, detach: nothing is attached
";

const EXAMPLES: &str = "\
Balancers whose local addresses are 10.0.0.101 and 10.0.0.102:

  rlvs-toa attach --from 10.0.0.101 10.0.0.102
  rlvs-toa status
  rlvs-toa watch

For the processes of one service only, and two of its ports:

  rlvs-toa attach --from 10.0.0.0/24 --port 80 443 \\
      --cgroup /sys/fs/cgroup/system.slice/nginx.service

DNS behind DPVS, which tells UDP clients in packets of protocol 248:

  rlvs-toa attach --from 10.0.0.0/24 --udp --device eth0
";

const SEE_ALSO: &str = "\
rlvsadm(8), ss(8), bpftool-map(8)
docs/real-servers.md of rlvs
";

fn manual_page() -> Vec<u8> {
    let mut page = b".\\\" SPDX-License-Identifier: GPL-2.0\n".to_vec();
    let mut command = cli::command();
    command.build();
    let man = Man::new(command.clone())
        .title("RLVS-TOA")
        .section("8")
        .manual("System Administration");
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    roff.to_writer(&mut page).unwrap();
    for sub in command.get_subcommands() {
        let mut roff = Roff::new();
        roff.control("SS", [sub.get_name()]);
        roff.to_writer(&mut page).unwrap();
        let mut text = Vec::new();
        Man::new(sub.clone())
            .render_description_section(&mut text)
            .unwrap();
        Man::new(sub.clone())
            .render_options_section(&mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in text.lines().filter(|line| {
            !line.starts_with(".SH") && !line.starts_with(".ie") && !line.starts_with(".el")
        }) {
            page.extend(line.as_bytes());
            page.push(b'\n');
        }
    }
    for (title, text) in SECTIONS {
        let mut roff = Roff::new();
        roff.control("SH", [*title]);
        // As wide as a screen, line for line.
        roff.control("nf", []).control("in", ["0"]);
        for line in text.lines() {
            roff.text([if line.starts_with("  rlvs-toa") {
                bold(line)
            } else {
                roman(line)
            }]);
        }
        roff.control("in", []).control("fi", []);
        roff.to_writer(&mut page).unwrap();
    }
    page
}

fn completions(shell: impl clap_complete::Generator) -> Vec<u8> {
    let mut generated = Vec::new();
    generate(shell, &mut cli::command(), "rlvs-toa", &mut generated);
    let license = b"# SPDX-License-Identifier: GPL-2.0\n";
    // zsh looks at the first line.
    let first: &[u8] = b"#compdef rlvs-toa\n";
    match generated.strip_prefix(first) {
        Some(rest) => [first, license, rest].concat(),
        None => [license, generated.as_slice()].concat(),
    }
}

#[test]
fn packaged_files_are_current() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = [
        ("packaging/man/rlvs-toa.8", manual_page()),
        (
            "packaging/completions/rlvs-toa.bash",
            completions(shells::Bash),
        ),
        ("packaging/completions/_rlvs-toa", completions(shells::Zsh)),
        (
            "packaging/completions/rlvs-toa.fish",
            completions(shells::Fish),
        ),
    ];
    for (path, text) in files {
        let file = top.join(path);
        if env::var_os("RLVS_WRITE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
        }
        assert!(
            fs::read(&file).unwrap_or_default() == text,
            "{path} is not what the command line is now: RLVS_WRITE=1 cargo test -p rlvs-toa packaged"
        );
    }
}
