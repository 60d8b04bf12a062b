// SPDX-License-Identifier: GPL-2.0

//! The manual page and the completions, made from the definition of the command line.
//!
//! They are kept in `packaging/`, so that installing them takes no tool. `RLVS_WRITE=1 cargo test -p
//! rlvsadm packaged` writes them anew; without that variable the test says whether they are current.

use std::{env, fs, path::Path};

use clap::Command;
use clap_complete::{generate, shells};
use clap_mangen::{
    roff::{roman, Roff},
    Man,
};

use crate::{definition, help};

/// Pages of help that tell more than the options do, and what they are called in the manual page.
const PAGES: &[(&str, &str)] = &[
    ("fullnat", "FULLNAT"),
    ("save", "SAVING, RESTORING, EXIT STATUS"),
    ("json", "JSON"),
];

/// What stands behind them.
const SECTIONS: &[(&str, &str)] = &[("EXAMPLES", EXAMPLES), ("SEE ALSO", SEE_ALSO)];

const EXAMPLES: &str = "\
FullNAT of a web site: three real servers anywhere, who see local
addresses of this machine as their clients.

  rlvsadm -A -t 203.0.113.80:80 -s wrr
  rlvsadm -P -t 203.0.113.80:80 -z 10.0.0.101-10.0.0.104
  rlvsadm -a -t 203.0.113.80:80 -r 10.0.0.11:80 --fullnat -w 3
  rlvsadm -a -t 203.0.113.80:80 -r 10.0.0.12:80 --fullnat -w 2
  rlvsadm -a -t 203.0.113.80:80 -r 10.0.0.13:80 --fullnat
  rlvsadm -L -n --stats

Saved, and restored after the next start:

  rlvsadm -S -n >/etc/rlvs.rules
  rlvsadm -R </etc/rlvs.rules
";

const SEE_ALSO: &str = "\
ipvsadm(8), keepalived(8), modprobe(8)
docs/rlvsadm.md, docs/fullnat.md and docs/json.md of rlvs
";

fn definition() -> Command {
    let values = ["TCP", "TCPFIN", "UDP"];
    definition::command().mut_arg("set", |arg| arg.value_names(values).num_args(3))
}

fn manual_page() -> Vec<u8> {
    let man = Man::new(definition())
        .title("RLVSADM")
        .section("8")
        .manual("System Administration");
    let mut page = b".\\\" SPDX-License-Identifier: GPL-2.0\n".to_vec();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let pages = PAGES.iter().map(|(topic, title)| {
        let page = help::TOPICS.iter().find(|(name, _)| name == topic);
        (*title, page.expect("a topic of help").1)
    });
    for (title, text) in pages.chain(SECTIONS.iter().copied()) {
        let mut roff = Roff::new();
        roff.control("SH", [title]);
        // As wide as a screen, line for line.
        roff.control("nf", []).control("in", ["0"]);
        for line in text.lines() {
            roff.text([roman(line)]);
        }
        roff.control("in", []).control("fi", []);
        roff.to_writer(&mut page).unwrap();
    }
    page
}

fn completions(shell: impl clap_complete::Generator) -> Vec<u8> {
    let mut script = b"# SPDX-License-Identifier: GPL-2.0\n".to_vec();
    let mut generated = Vec::new();
    generate(shell, &mut definition(), "rlvsadm", &mut generated);
    // zsh looks at the first line.
    match generated.strip_prefix(b"#compdef rlvsadm\n") {
        Some(rest) => {
            script.splice(0..0, b"#compdef rlvsadm\n".iter().copied());
            script.extend(rest);
        }
        None => script.extend(generated),
    }
    script
}

#[test]
fn packaged_files_are_current() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = [
        ("packaging/man/rlvsadm.8", manual_page()),
        (
            "packaging/completions/rlvsadm.bash",
            completions(shells::Bash),
        ),
        ("packaging/completions/_rlvsadm", completions(shells::Zsh)),
        (
            "packaging/completions/rlvsadm.fish",
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
            "{path} is not what the command line is now: RLVS_WRITE=1 cargo test -p rlvsadm packaged"
        );
    }
}
