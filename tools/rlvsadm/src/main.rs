// SPDX-License-Identifier: GPL-2.0

//! rlvsadm: ipvsadm's command line for rlvs, and FullNAT.

mod address;
mod cli;
mod conns;
mod error;
mod flags;
mod help;
mod json;
mod kernel;
mod list;
mod model;
mod netlink;
mod options;
mod restore;
mod run;
mod save;
mod sort;
#[cfg(test)]
mod testdata;

use std::{
    io::{self, BufWriter, Write},
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
    let request = parser.parse(std::env::args_os().skip(1))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match request {
        Request::Help(topic) => help::print(&topic, &mut out),
        Request::Version => help::print_version(&mut out),
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
