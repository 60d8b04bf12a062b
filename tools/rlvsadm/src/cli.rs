// SPDX-License-Identifier: GPL-2.0

//! The command line: ipvsadm's, and what rlvs adds.

use std::{ffi::OsString, net::IpAddr};

use clap::{
    builder::{ArgAction, Command},
    error::{ContextKind, ContextValue, ErrorKind},
    Arg,
};

use crate::{
    address::Style,
    error::{Failure, REFUSED, USAGE},
    kernel::Change,
    model::{Destination, Service, ServiceId, Timeouts},
    options::Options,
};

/// How long a persistent service that names no time keeps a client, in seconds.
const DEFAULT_PERSISTENCE: &str = "360";
/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Something of the kernel's tables.
    Tables(Action),
    Restore,
    /// A page of help, by topic.
    Help(String),
    Version,
}

/// What is to be done with the kernel's tables.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    ChangeService(Change, Service),
    ChangeDestination(Change, ServiceId, Destination),
    ChangeLocalAddresses(Change, ServiceId, Vec<IpAddr>),
    Clear,
    Zero(Option<ServiceId>),
    SetTimeouts(Timeouts),
    List(List),
    ListConnections(ConnectionList),
    ListTimeouts { json: bool },
    ListLocalAddresses(List),
    Save(Style),
}

/// Which services are listed, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct List {
    /// One service, or all.
    pub service: Option<ServiceId>,
    pub view: View,
    pub style: Style,
    pub exact: bool,
    pub sorted: bool,
    pub json: bool,
}

/// The columns of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Plain,
    Tunnels,
    Stats,
    Rates,
    Thresholds,
    Persistence,
}

/// How connections are listed.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectionList {
    pub style: Style,
    /// With the data of persistence engines.
    pub engines: bool,
    pub json: bool,
}

/// Options that say which service is meant, one of them each time.
pub const SERVICES: &[&str] = &[
    "tcp-service",
    "udp-service",
    "sctp-service",
    "fwmark-service",
];
/// Options that configure a service.
const SERVICE_SETTINGS: &[&str] = &[
    "scheduler",
    "persistent",
    "netmask",
    "pe",
    "ops",
    "sched-flags",
];
/// Options that say how a destination is reached, one of them at most.
const METHODS: &[&str] = &["gatewaying", "ipip", "masquerading", "fullnat"];
/// Options about the checksums of a tunnel, one of them at most.
const CHECKSUMS: &[&str] = &["tun-nocsum", "tun-csum", "tun-remcsum"];
/// Options that configure a destination otherwise.
const DESTINATION_SETTINGS: &[&str] = &[
    "weight",
    "u-threshold",
    "l-threshold",
    "tun-type",
    "tun-port",
];
/// Options that choose the columns of a listing.
pub const VIEWS: &[&str] = &["stats", "rate", "thresholds", "persistent-conn", "tun-info"];
/// Options that every listing takes.
const LISTING: &[&str] = &["numeric", "exact", "sort", "nosort", "json"];

/// Whether a command is about a service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    OneService,
    OneServiceOrAll,
    All,
}

/// A command and its options.
struct Form {
    command: &'static str,
    letter: Option<char>,
    about: About,
    needs: &'static [&'static str],
    takes: &'static [&'static [&'static str]],
}

/// Makes a command with a letter.
const fn form(
    command: &'static str,
    letter: char,
    about: About,
    needs: &'static [&'static str],
    takes: &'static [&'static [&'static str]],
) -> Form {
    Form {
        command,
        letter: Some(letter),
        about,
        needs,
        takes,
    }
}

const SERVER: &[&str] = &["real-server"];
const LOCAL: &[&str] = &["local-address"];
const SERVER_OPTIONS: &[&[&str]] = &[METHODS, DESTINATION_SETTINGS, CHECKSUMS];
const LIST_OPTIONS: &[&[&str]] = &[VIEWS, LISTING, &["connection", "timeout"]];

const FORMS: &[Form] = &[
    form(
        "add-service",
        'A',
        About::OneService,
        &[],
        &[SERVICE_SETTINGS],
    ),
    form(
        "edit-service",
        'E',
        About::OneService,
        &[],
        &[SERVICE_SETTINGS],
    ),
    form("delete-service", 'D', About::OneService, &[], &[]),
    form("add-server", 'a', About::OneService, SERVER, SERVER_OPTIONS),
    form(
        "edit-server",
        'e',
        About::OneService,
        SERVER,
        SERVER_OPTIONS,
    ),
    form("delete-server", 'd', About::OneService, SERVER, &[]),
    form("add-laddr", 'P', About::OneService, LOCAL, &[]),
    form("del-laddr", 'Q', About::OneService, LOCAL, &[]),
    form("get-laddr", 'G', About::OneServiceOrAll, &[], &[LISTING]),
    form("list", 'L', About::OneServiceOrAll, &[], LIST_OPTIONS),
    form("zero", 'Z', About::OneServiceOrAll, &[], &[]),
    form("clear", 'C', About::All, &[], &[]),
    form("save", 'S', About::All, &[], &[&["numeric"]]),
    form("restore", 'R', About::All, &[], &[]),
    Form {
        command: "set",
        letter: None,
        about: About::All,
        needs: &[],
        takes: &[],
    },
    form("help", 'h', About::All, &[], &[]),
    form("version", 'v', About::All, &[], &[]),
];

/// Options that stand alone, with their letter.
const SWITCHES: &[(&str, Option<char>)] = &[
    ("ipv6", Some('6')),
    ("ops", Some('o')),
    ("gatewaying", Some('g')),
    ("ipip", Some('i')),
    ("masquerading", Some('m')),
    ("fullnat", None),
    ("tun-nocsum", None),
    ("tun-csum", None),
    ("tun-remcsum", None),
    ("connection", Some('c')),
    ("timeout", None),
    ("stats", None),
    ("rate", None),
    ("thresholds", None),
    ("persistent-conn", None),
    ("tun-info", None),
    ("sort", None),
    ("nosort", None),
    ("exact", Some('X')),
    ("numeric", Some('n')),
    ("json", None),
];

/// Options with a value, with their letter and what the value is.
const VALUES: &[(&str, Option<char>, &str)] = &[
    ("tcp-service", Some('t'), "ADDRESS:PORT"),
    ("udp-service", Some('u'), "ADDRESS:PORT"),
    ("sctp-service", None, "ADDRESS:PORT"),
    ("fwmark-service", Some('f'), "MARK"),
    ("scheduler", Some('s'), "NAME"),
    ("netmask", Some('M'), "MASK"),
    ("pe", None, "NAME"),
    ("sched-flags", Some('b'), "FLAGS"),
    ("real-server", Some('r'), "ADDRESS[:PORT]"),
    ("weight", Some('w'), "NUMBER"),
    ("u-threshold", Some('x'), "NUMBER"),
    ("l-threshold", Some('y'), "NUMBER"),
    ("tun-type", None, "TYPE"),
    ("tun-port", None, "PORT"),
    ("local-address", Some('z'), "ADDRESS[-ADDRESS|/PREFIX]"),
];

/// Reads command lines; made once, because making it costs more than reading a line.
pub struct Parser(Command);

impl Parser {
    pub fn new() -> Self {
        let commands = FORMS.iter().map(|form| {
            let arg = Arg::new(form.command).long(form.command);
            let arg = match form.letter {
                Some(letter) => arg.short(letter),
                None => arg,
            };
            match form.command {
                // Any number, so that it can be told that three are needed.
                "set" => arg.num_args(0..),
                "help" => arg.num_args(0..=1).default_missing_value(""),
                "list" => switch(arg.short_alias('l')),
                _ => switch(arg),
            }
        });
        let switches = SWITCHES.iter().map(|&(name, letter)| {
            let arg = switch(Arg::new(name).long(name));
            match letter {
                Some(letter) => arg.short(letter),
                None => arg,
            }
        });
        let values = VALUES.iter().map(|&(name, letter, value)| {
            let arg = Arg::new(name).long(name).value_name(value);
            let arg = match letter {
                Some(letter) => arg.short(letter),
                None => arg,
            };
            // So that a weight of -1 is told to be too small, and not to be an unknown option.
            arg.allow_negative_numbers(value == "NUMBER")
        });
        let persistent = Arg::new("persistent")
            .long("persistent")
            .short('p')
            .value_name("SECONDS")
            .num_args(0..=1)
            .default_missing_value(DEFAULT_PERSISTENCE);
        Parser(
            Command::new("rlvsadm")
                .disable_help_flag(true)
                .disable_version_flag(true)
                .no_binary_name(true)
                .args(commands)
                .args(switches)
                .args(values)
                .arg(persistent),
        )
    }

    /// Reads the words of one command line, without the program's name.
    pub fn parse<I, W>(&mut self, words: I) -> Result<Request, Failure>
    where
        I: IntoIterator<Item = W>,
        W: Into<OsString> + Clone,
    {
        let matches = self
            .0
            .try_get_matches_from_mut(words)
            .map_err(refused_line)?;
        let options = Options(&matches);
        let Some(form) = FORMS.iter().find(|form| options.has(form.command)) else {
            return match options.given().next() {
                None => Ok(Request::Tables(Action::List(options.list()?))),
                Some(_) => Err(Failure {
                    status: REFUSED,
                    text: "no command among the options: try `rlvsadm --help'".to_owned(),
                }),
            };
        };
        check(form, &options)?;
        Ok(match form.command {
            "help" => Request::Help(options.value("help").unwrap_or_default().to_owned()),
            "version" => Request::Version,
            "restore" => Request::Restore,
            command => Request::Tables(options.action(command)?),
        })
    }
}

/// Makes an option that stands alone.
///
/// Not by `ArgAction::SetTrue`, which enters each absent option as false, and makes reading a line
/// several times as slow.
fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0)
        .default_missing_value("")
}

/// The failure for a line that has no form at all, with the exit status that ipvsadm has for it.
fn refused_line(error: clap::Error) -> Failure {
    let rendered = error.render().to_string();
    let line = rendered.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    let status = match error.kind() {
        ErrorKind::UnknownArgument if !argument.starts_with('-') => USAGE,
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue => REFUSED,
        _ => USAGE,
    };
    Failure {
        status,
        text: format!("{line}: try `rlvsadm --help'"),
    }
}

/// Checks that a command has the options it needs, none that it does not take, and no two of a kind.
fn check(form: &Form, options: &Options<'_>) -> Result<(), Failure> {
    let command = form.command;
    let takes = |name| match name {
        "ipv6" => form.about != About::All,
        _ if SERVICES.contains(&name) => form.about != About::All,
        _ => form.needs.contains(&name) || form.takes.iter().any(|names| names.contains(&name)),
    };
    if let Some(name) = options
        .given()
        .find(|&name| name != command && !takes(name))
    {
        return Err(Failure::usage(format!(
            "--{command} and --{name} do not go together: try `rlvsadm --help'"
        )));
    }
    for kind in [SERVICES, METHODS, CHECKSUMS] {
        let mut given = kind.iter().filter(|name| options.has(name));
        if let (Some(one), Some(other)) = (given.next(), given.next()) {
            return Err(Failure::usage(format!(
                "--{one} and --{other} do not go together"
            )));
        }
    }
    if form.about == About::OneService && options.one_of(SERVICES).is_none() {
        return Err(Failure::usage(format!(
            "--{command} needs a virtual service: \
             -t, -u or --sctp-service ADDRESS:PORT, or -f MARK"
        )));
    }
    match form.needs.iter().find(|name| !options.has(name)) {
        Some(&"real-server") => Err(Failure::usage(format!(
            "--{command} needs a real server: -r ADDRESS[:PORT]"
        ))),
        Some(_) => Err(Failure::usage(format!(
            "--{command} needs a local address: -z ADDRESS, FIRST-LAST or ADDRESS/PREFIX"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
