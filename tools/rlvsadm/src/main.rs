// SPDX-License-Identifier: GPL-2.0

//! rlvsadm: ipvsadm's command line for rlvs, and FullNAT.

mod address;
mod cli;
mod conns;
mod definition;
mod error;
mod flags;
mod help;
mod json;
mod kernel;
mod list;
mod model;
mod netlink;
mod options;
#[cfg(test)]
mod packaged;
mod restore;
mod run;
mod save;
mod sort;
#[cfg(test)]
mod testdata;

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use cli::{Parser, Request};
use error::Failure;
use kernel::Kernel;

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("{}", failure.text);
            }
            ExitCode::from(failure.status)
        }
    }
}

fn command() -> Result<(), Failure> {
    let mut parser = Parser::new();
    let mut words = std::env::args_os();
    let program = words.next().map(PathBuf::from).unwrap_or_default();
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    let request = parser.parse(words)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match request {
        Request::Help(topic) => help::print(&topic, &mut out),
        Request::Version => help::print_version(&program, &mut out),
        Request::Restore => Kernel::connect().and_then(|mut kernel| {
            restore::run(&mut kernel, &mut parser, io::stdin().lock(), &mut out)
        }),
        Request::Tables(action) => {
            Kernel::connect().and_then(|mut kernel| run::execute(&mut kernel, action, &mut out))
        }
    };
    // What was listed before a failure is of use, and stands before what is said of the failure.
    let flushed = out.flush();
    done?;
    Ok(flushed?)
}
