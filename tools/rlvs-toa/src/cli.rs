// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::time::Duration;

use clap::{builder::Command, value_parser, Arg, ArgAction, ArgMatches};

use crate::config::{Config, Prefix, EXID, KINDS, PORTS};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    Attach(Config),
    Detach,
    Status {
        json: bool,
    },
    /// The connections; again and again if there is an interval.
    Watch {
        json: bool,
        every: Option<Duration>,
    },
}

const ABOUT: &str = "Shows a real server's applications their true clients";
const LONG_ABOUT: &str = "\
Behind a FullNAT load balancer a server sees the balancer's local address as
the peer of each connection. The balancer tells the client in a TCP option
(TOA). rlvs-toa has BPF programs read it, so that accept() and getpeername()
give the client's address to unmodified applications. They need Linux 5.10 or
newer and no kernel module.";
const ATTACH: &str = "\
Loads the programs, attaches them and ends; they stay until `rlvs-toa detach'
or the next boot. Attaching again changes what is configured and forgets
nothing. Connections that are established before the first time keep the
address they have.";

/// The command line's definition.
pub fn command() -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print JSON");
    Command::new("rlvs-toa")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(attach())
        .subcommand(Command::new("detach").about("Take the programs away, and all they know"))
        .subcommand(
            Command::new("status")
                .about("Show what is attached, and what it has counted")
                .long_about("Shows what is attached, and what it has counted. Exit status 3: nothing is attached.")
                .arg(json.clone()),
        )
        .subcommand(
            Command::new("watch")
                .about("Show live connections, and who really is behind each")
                .long_about(
                    "Shows live connections, and who really is behind each, in all network namespaces\n\
                     that processes are in or that have a name.",
                )
                .arg(json)
                .arg(
                    Arg::new("interval")
                        .long("interval")
                        .short('n')
                        .value_name("SECONDS")
                        .value_parser(value_parser!(u32).range(1..=86400))
                        .help("Show them again after each so many seconds"),
                ),
        )
}

fn attach() -> Command {
    Command::new("attach")
        .about("Attach the programs, or change what is attached")
        .long_about(ATTACH)
        .arg(
            many("from", "PREFIX")
                .required(true)
                .value_parser(|text: &str| text.parse::<Prefix>())
                .help("Whom to believe: the balancers' local addresses")
                .long_help(
                    "Whom to believe: the balancers' local addresses, as ADDRESS or ADDRESS/LENGTH.\n\
                     Whoever connects from elsewhere is shown as what he is, whatever he claims.\n\
                     `any' believes everybody, and is for networks that only balancers can reach.",
                ),
        )
        .arg(
            many("cgroup", "PATH")
                .help("The cgroup whose processes see clients (default: the root cgroup, so all)"),
        )
        .arg(
            many("kind", "N")
                .value_parser(value_parser!(u8).range(2..))
                .help("Kinds of the TCP option (default: 254, 253, 200, 252)"),
        )
        .arg(
            many("port", "PORT")
                .value_parser(value_parser!(u16).range(1..))
                .help("Local TCP ports (default: all)"),
        )
        .arg(
            Arg::new("exid")
                .long("exid")
                .value_name("N")
                .value_parser(exid)
                .help("The identifier in options of RFC 6994's form (default: 0x544f)"),
        )
        .arg(
            Arg::new("udp")
                .long("udp")
                .action(ArgAction::SetTrue)
                .help("UDP too: clients that come in IP option 31, as DPVS sends them"),
        )
        .arg(
            many("device", "NAME")
                .requires("udp")
                .help("Network devices on which DPVS's IP protocol 248 comes in, its other form for UDP"),
        )
}

/// An option that may be given more than once, or with several values.
fn many(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .num_args(1..)
        .value_delimiter(',')
        .action(ArgAction::Append)
}

fn exid(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "a number of 16 bits is needed, such as 0x544f".to_string())
}

fn values<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    matches
        .get_many(name)
        .map(|values| values.cloned().collect())
        .unwrap_or_default()
}

/// What the words ask for; an error is what to print, also for --help.
pub fn parse(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Request, clap::Error> {
    let mut definition = command();
    let matches = definition.try_get_matches_from_mut(words)?;
    Ok(match matches.subcommand() {
        Some(("attach", matches)) => {
            let mut kinds = values(matches, "kind");
            if kinds.is_empty() {
                kinds = KINDS.to_vec();
            }
            let ports: Vec<u16> = values(matches, "port");
            if ports.len() > PORTS {
                let text = format!(
                    "{} ports are too many: up to {PORTS}, or none for all",
                    ports.len()
                );
                return Err(definition.error(clap::error::ErrorKind::TooManyValues, text));
            }
            Request::Attach(Config {
                from: values(matches, "from"),
                cgroups: values(matches, "cgroup"),
                kinds,
                exid: matches.get_one("exid").copied().unwrap_or(EXID),
                ports,
                udp: matches.get_flag("udp"),
                devices: values(matches, "device"),
            })
        }
        Some(("watch", matches)) => Request::Watch {
            json: matches.get_flag("json"),
            every: matches
                .get_one::<u32>("interval")
                .map(|&seconds| Duration::from_secs(seconds.into())),
        },
        Some(("status", matches)) => Request::Status {
            json: matches.get_flag("json"),
        },
        _ => Request::Detach,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, String> {
        let words = line.split_whitespace().map(Into::into);
        parse(words).map_err(|error| error.to_string())
    }

    #[test]
    fn attach_in_full() {
        let line = "rlvs-toa attach --from 10.0.0.0/24 2001:db8::5 --from 192.0.2.1 --cgroup /a --kind 77,78 \
                    --port 80 443 --exid 0x1234 --udp --device eth0";
        let Ok(Request::Attach(config)) = read(line) else {
            panic!("{:?}", read(line));
        };
        let from: Vec<_> = config.from.iter().map(ToString::to_string).collect();
        assert_eq!(from, ["10.0.0.0/24", "2001:db8::5", "192.0.2.1"]);
        assert_eq!((config.kinds, config.exid), (vec![77, 78], 0x1234));
        assert_eq!((config.ports, config.udp), (vec![80, 443], true));
        assert_eq!(
            (config.cgroups, config.devices),
            (vec!["/a".into()], vec!["eth0".into()])
        );
    }

    #[test]
    fn defaults() {
        let Ok(Request::Attach(config)) = read("rlvs-toa attach --from any") else {
            panic!();
        };
        assert_eq!(config.kinds, KINDS);
        assert_eq!(config.exid, EXID);
        assert!(config.ports.is_empty() && config.cgroups.is_empty() && !config.udp);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, told) in [
            ("rlvs-toa attach", "--from <PREFIX>"),
            ("rlvs-toa attach --from 0.0.0.0/0", "everybody is `any'"),
            ("rlvs-toa attach --from any --kind 1", "1 is not in 2..=255"),
            (
                "rlvs-toa attach --from any --port 0",
                "0 is not in 1..=65535",
            ),
            ("rlvs-toa attach --from any --device eth0", "--udp"),
            ("rlvs-toa attach --from any --exid 70000", "16 bits"),
            ("rlvs-toa watch -n 0", "0 is not in"),
            ("rlvs-toa", "subcommand"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
        let ports = (1..=33).map(|port| format!(" {port}")).collect::<String>();
        let error = read(&format!("rlvs-toa attach --from any --port{ports}")).unwrap_err();
        assert!(error.contains("33 ports are too many"), "{error}");
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }
}
