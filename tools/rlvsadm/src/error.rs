// SPDX-License-Identifier: GPL-2.0

//! Failures, as the operator sees them: a line on stderr and an exit status.

use std::io;

use crate::netlink;

/// Exit status of input that makes no sense, and of a module that cannot be reached.
pub const USAGE: u8 = 2;
/// Exit status of a command that the kernel refused, and of unknown options.
pub const REFUSED: u8 = 255;
/// Exit status of a listing that failed.
pub const LISTING: u8 = 1;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: u8,
    pub text: String,
}

impl Failure {
    pub fn usage(text: impl Into<String>) -> Self {
        Failure {
            status: USAGE,
            text: text.into(),
        }
    }

    pub fn listing(text: impl Into<String>) -> Self {
        Failure {
            status: LISTING,
            text: text.into(),
        }
    }

    /// The failure that an error of the kernel means for a command on `object`.
    pub fn from_kernel(object: Object, error: netlink::Error) -> Self {
        let (errno, message) = match error {
            netlink::Error::Refused { errno, message } => (errno, message),
            netlink::Error::Broken(text) => return Failure::usage(text),
        };
        let own = describe(object, errno);
        let text = match message {
            // These texts guess at what is wrong, and the kernel knows.
            Some(message) if errno == libc::EINVAL => format!("Invalid operation: {message}"),
            Some(message) if errno == libc::EOPNOTSUPP => {
                format!("Operation not supported: {message}")
            }
            Some(message) if !message.eq_ignore_ascii_case(&own) => format!("{own}: {message}"),
            _ => own,
        };
        let status = match errno {
            libc::EPERM => USAGE,
            _ => REFUSED,
        };
        Failure { status, text }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Whoever read our output has seen enough.
            io::ErrorKind::BrokenPipe => Failure::listing(""),
            _ => Failure::listing(error.to_string()),
        }
    }
}

/// What a command is about, which decides what an error number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Service,
    Destination,
    LocalAddress,
    Daemon,
}

/// The words that ipvsadm has for an error number: scripts look for them.
fn describe(object: Object, errno: i32) -> String {
    let text = match (errno, object) {
        (libc::EEXIST, Object::Service) => "Service already exists",
        (libc::EEXIST, Object::Destination) => "Destination already exists",
        (libc::EEXIST, Object::LocalAddress) => "Local address already exists",
        (libc::ENOENT, Object::Service) => "Scheduler or persistence engine not found",
        (libc::ENOENT, Object::Destination) => "No such destination",
        (libc::ENOENT, Object::LocalAddress) => "No such local address",
        (libc::ESRCH, Object::Service) => "No such service",
        (libc::EEXIST, Object::Daemon) => "Daemon has already run",
        (libc::ESRCH, Object::Daemon) => "No daemon is running",
        (libc::ESRCH, _) => "Service not defined",
        (libc::EPERM, _) => "Permission denied (you must be root)",
        (libc::EINVAL, _) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        (libc::ENOPROTOOPT, _) => "Protocol not available",
        (libc::ENOMEM, _) => "Memory allocation problem",
        (libc::EOPNOTSUPP, _) => "Operation not supported with IPv6",
        (libc::EAFNOSUPPORT, _) => "Operation not supported with specified address family",
        (libc::EMSGSIZE, _) => "Module is wrong version",
        _ => return system_text(errno),
    };
    text.to_owned()
}

/// The system's words for an error number.
fn system_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rsplit_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32, message: Option<&str>) -> netlink::Error {
        netlink::Error::Refused {
            errno,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn numbers_mean_what_the_command_was_about() {
        let text = |object, errno| Failure::from_kernel(object, refused(errno, None)).text;
        assert_eq!(
            text(Object::Service, libc::EEXIST),
            "Service already exists"
        );
        assert_eq!(
            text(Object::Destination, libc::ESRCH),
            "Service not defined"
        );
        assert_eq!(
            text(Object::LocalAddress, libc::ENOENT),
            "No such local address"
        );
        assert_eq!(text(Object::Service, 34), "Numerical result out of range");
    }

    #[test]
    fn the_kernels_own_words_are_passed_on() {
        let failure = Failure::from_kernel(
            Object::Service,
            refused(libc::ESRCH, Some("port 81 is free")),
        );
        assert_eq!(failure.text, "No such service: port 81 is free");
        assert_eq!(failure.status, REFUSED);
        let told = |errno, words| {
            Failure::from_kernel(Object::Destination, refused(errno, Some(words))).text
        };
        assert_eq!(
            told(libc::EINVAL, "weight is missing"),
            "Invalid operation: weight is missing"
        );
        assert_eq!(
            told(libc::EOPNOTSUPP, "no tunnels"),
            "Operation not supported: no tunnels"
        );
        assert_eq!(
            told(libc::ENOENT, "no such destination"),
            "No such destination"
        );
    }

    #[test]
    fn lack_of_privilege_has_the_status_of_ipvsadm() {
        assert_eq!(
            Failure::from_kernel(Object::Service, refused(libc::EPERM, None)).status,
            USAGE
        );
    }
}
