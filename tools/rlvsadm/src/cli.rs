// SPDX-License-Identifier: GPL-2.0

//! The command line: ipvsadm's, and what rlvs adds.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    net::IpAddr,
};

use clap::{
    builder::Command,
    error::{ContextKind, ContextValue, ErrorKind},
    ArgMatches,
};

use crate::{
    address::Style,
    definition::{self, Form, Setting, FORMS, SERVICE, SETTINGS},
    error::{Failure, REFUSED, USAGE},
    kernel::Change,
    model::{Daemon, Destination, Service, ServiceId, Timeouts},
    options::Options,
};

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
    /// With the port that was given for the destination, if it is not used.
    ChangeDestination(Change, ServiceId, Destination, Option<u16>),
    ChangeLocalAddresses(Change, ServiceId, Vec<IpAddr>),
    Clear,
    Zero(Option<ServiceId>),
    SetTimeouts(Timeouts),
    StartDaemon(Daemon),
    StopDaemon(Daemon),
    List(List),
    ListConnections(ConnectionList),
    ListTimeouts {
        json: bool,
    },
    ListDaemons {
        json: bool,
    },
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

/// Reads command lines.
///
/// What clap takes to read a line grows with the options that it knows, and files of hundreds of
/// thousands of lines are restored. So a line whose first word is a command is read with that
/// command's options alone; only if that fails, all of them are asked what is wrong.
#[derive(Default)]
pub struct Parser {
    whole: Option<Command>,
    parts: HashMap<&'static str, Command>,
}

impl Parser {
    pub fn new() -> Self {
        Self::default()
    }

    fn matches(&mut self, words: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
        let form = words
            .first()
            .and_then(|word| word.to_str())
            .and_then(definition::form_of);
        if let Some(form) = form {
            let part = self
                .parts
                .entry(form.name)
                .or_insert_with(|| definition::part(form));
            if let Ok(matches) = part.try_get_matches_from_mut(&words) {
                return Ok(matches);
            }
        }
        self.whole
            .get_or_insert_with(definition::command)
            .try_get_matches_from_mut(words)
    }

    /// Reads the words of one command line, without the program's name.
    pub fn parse<I, W>(&mut self, words: I) -> Result<Request, Failure>
    where
        I: IntoIterator<Item = W>,
        W: Into<OsString> + Clone,
    {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let starts_with_option = words
            .first()
            .is_none_or(|word| word.as_encoded_bytes().starts_with(b"-"));
        let last = words.last().cloned().unwrap_or_default();
        let matches = match self.matches(words) {
            Ok(matches) => matches,
            Err(_) if !starts_with_option => return Err(no_command()),
            Err(error) => return Err(refused_line(error, &last)),
        };
        let options = Options(&matches);
        let Some(form) = FORMS.iter().find(|form| options.has(form.name)) else {
            return match options.given().next() {
                None => Ok(Request::Tables(Action::List(options.list()?))),
                Some(_) => Err(no_command()),
            };
        };
        check(form, &options)?;
        Ok(match form.name {
            "help" => Request::Help(options.value("help").unwrap_or_default().to_owned()),
            "version" => Request::Version,
            "restore" => Request::Restore,
            command => Request::Tables(options.action(command)?),
        })
    }
}

/// The failure for options without a command.
fn no_command() -> Failure {
    Failure {
        status: REFUSED,
        text: "no command among the options: try `rlvsadm --help'".to_owned(),
    }
}

/// The failure for a line that has no form at all, with the exit status that ipvsadm has for it.
fn refused_line(error: clap::Error, last: &OsStr) -> Failure {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        Some(ContextValue::Strings(arguments)) => arguments.first().map_or("", String::as_str),
        _ => "",
    };
    // Behind the option's name clap tells its value.
    let argument = argument.split(' ').next().unwrap_or_default();
    let option = argument.trim_start_matches('-');
    let (status, told) = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            (REFUSED, format!("{argument}: unknown option"))
        }
        ErrorKind::UnknownArgument => (USAGE, format!("unexpected argument {argument}")),
        // Only at the end of a line is there nothing to be the value.
        ErrorKind::InvalidValue => (
            REFUSED,
            format!("{}: missing argument", last.to_string_lossy()),
        ),
        ErrorKind::ArgumentConflict => {
            let kind = definition::setting_of(option).map_or(option, |setting| setting.kind);
            (USAGE, format!("multiple '{kind}' options specified"))
        }
        _ => {
            let rendered = error.render().to_string();
            let line = rendered.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line);
            (USAGE, line.to_owned())
        }
    };
    Failure {
        status,
        text: format!("{told}: try `rlvsadm --help'"),
    }
}

/// Checks that a command has the options it needs, none that it does not take, and no two of a kind.
fn check(form: &Form, options: &Options<'_>) -> Result<(), Failure> {
    let told = form.told;
    if let Some(other) = FORMS
        .iter()
        .find(|other| other.name != form.name && options.has(other.name))
    {
        return Err(Failure::usage(format!(
            "multiple commands specified: --{} and --{}",
            form.name, other.name
        )));
    }
    let given: Vec<&Setting> = SETTINGS
        .iter()
        .filter(|setting| options.has(setting.name))
        .collect();
    for (index, setting) in given.iter().enumerate() {
        let twin = given[..index]
            .iter()
            .find(|other| other.kind == setting.kind);
        if let Some(twin) = twin {
            return Err(Failure::usage(format!(
                "multiple '{}' options specified: --{} and --{}",
                setting.kind, twin.name, setting.name
            )));
        }
    }
    let has = |kind: &str| given.iter().any(|setting| setting.kind == kind);
    if let Some(kind) = form.needs.iter().find(|kind| !has(kind)) {
        return Err(Failure::usage(format!(
            "You need to supply the '{kind}' option for the '{told}' command: {}",
            how_to_supply(kind)
        )));
    }
    match given.iter().find(|setting| !form.takes(setting)) {
        Some(setting) => Err(Failure::usage(format!(
            "Illegal '{}' option with the '{told}' command: try `rlvsadm --help'",
            setting.kind
        ))),
        None => Ok(()),
    }
}

/// How an option is written that a command needs.
fn how_to_supply(kind: &str) -> &'static str {
    match kind {
        SERVICE => "-t, -u or --sctp-service ADDRESS:PORT, or -f MARK",
        "real-server" => "-r ADDRESS[:PORT]",
        _ => "-z ADDRESS, FIRST-LAST or ADDRESS/PREFIX",
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
