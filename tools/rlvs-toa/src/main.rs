// SPDX-License-Identifier: GPL-2.0

//! rlvs-toa: shows a real server's applications their true clients.

mod attach;
mod cli;
mod client;
mod config;
mod diag;
mod error;
mod missing;
#[cfg(test)]
mod packaged;
mod status;
mod watch;

use std::{io, process::ExitCode};

use cli::Request;
use error::Failure;

/// Of `status` and `detach`: there was nothing.
const NOTHING: u8 = 3;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let request = match cli::parse(std::env::args_os()) {
        Ok(request) => request,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nowhere to tell that there is nowhere to tell it.
            let _ = error.print();
            return if wrong {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    missing::keep_log();
    match run(request) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("rlvs-toa: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(request: Request) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    match request {
        Request::Attach(config) => attach::attach(config).map(|()| 0),
        Request::Detach => {
            if attach::detach()? {
                return Ok(0);
            }
            eprintln!("rlvs-toa: nothing is attached");
            Ok(NOTHING)
        }
        Request::Status { json } => {
            let attached = status::print(json, &mut out)?;
            Ok(if attached { 0 } else { NOTHING })
        }
        Request::Watch { json, every } => watch::run(json, every, &mut out).map(|()| 0),
    }
}
