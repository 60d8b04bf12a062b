// SPDX-License-Identifier: GPL-2.0

//! Every command and every option, once: for reading command lines, for the manual page and for
//! what shells complete.

use std::ffi::OsStr;

use clap::{
    builder::{ArgAction, Command, PossibleValue, StringValueParser, TypedValueParser},
    Arg,
};

use Value::{Nothing, One, Seconds, Word};

/// How long a persistent service that names no time keeps a client, in seconds.
const DEFAULT_PERSISTENCE: &str = "360";

/// An option that is no command.
pub struct Setting {
    pub name: &'static str,
    letter: Option<char>,
    /// ipvsadm's word for what the option tells; two options that tell the same exclude each other.
    pub kind: &'static str,
    value: Value,
    heading: &'static str,
    help: &'static str,
}

/// What stands behind an option.
enum Value {
    Nothing,
    One(&'static str),
    /// One of a few words; shells offer them, and whoever needs the word says what else is wrong.
    Word(&'static str, &'static [&'static str]),
    /// Nothing or a number.
    Seconds,
}

/// A command.
pub struct Form {
    pub name: &'static str,
    /// ipvsadm's name for the command, in what it says of mistakes.
    pub told: &'static str,
    letter: Option<char>,
    value: Value,
    pub needs: &'static [&'static str],
    takes: &'static [&'static str],
    help: &'static str,
}

impl Form {
    /// Whether an option goes with the command.
    pub fn takes(&self, setting: &Setting) -> bool {
        let has = |kind| self.needs.contains(&kind) || self.takes.contains(&kind);
        match setting.name {
            // Says what is so anyway.
            SORT => true,
            // Belongs to a firewall mark.
            IPV6 => has(SERVICE),
            _ => has(setting.kind),
        }
    }
}

/// The kind of the options that name a service.
pub const SERVICE: &str = "service-address";
/// The kind of the options that say how a real server is reached.
pub const FORWARD: &str = "forwarding-method";

/// What configures a service.
const OF_SERVICES: &[&str] = &[
    "scheduler",
    "persistent",
    "netmask",
    "pe",
    "ops",
    "sched-flags",
];
/// What configures a real server.
const OF_SERVERS: &[&str] = &[
    FORWARD,
    "weight",
    "u-threshold",
    "l-threshold",
    "tun-type",
    "tun-port",
    "tun-nocsum",
    "tun-csum",
    "tun-remcsum",
];
/// What a listing of services takes.
const OF_LISTINGS: &[&str] = &[
    SERVICE,
    "numeric",
    "connection",
    "timeout",
    "daemon",
    "stats",
    "rate",
    "thresholds",
    "persistent-conn",
    "tun-info",
    "nosort",
    "exact",
    "json",
];
const OF_DAEMONS: &[&str] = &[
    "mcast-interface",
    "syncid",
    "sync-maxlen",
    "mcast-group",
    "mcast-port",
    "mcast-ttl",
];

/// Makes a command.
const fn form(
    name: &'static str,
    letter: char,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
    help: &'static str,
) -> Form {
    Form {
        name,
        told: name,
        letter: Some(letter),
        value: Value::Nothing,
        needs,
        takes,
        help,
    }
}

/// Makes a command without a letter that has values.
const fn long_form(
    name: &'static str,
    value: Value,
    takes: &'static [&'static str],
    help: &'static str,
) -> Form {
    Form {
        name,
        told: name,
        letter: None,
        value,
        needs: &[],
        takes,
        help,
    }
}

/// The topics of help, after the overview.
pub const TOPICS: &[&str] = &[
    "services",
    "destinations",
    "fullnat",
    "listings",
    "sync",
    "save",
    "json",
];

/// The commands, the one that counts first where there are two.
#[rustfmt::skip]
pub const FORMS: &[Form] = &[
    form("add-service", 'A', &[SERVICE], OF_SERVICES, "Add a virtual service"),
    form("edit-service", 'E', &[SERVICE], OF_SERVICES,
        "Edit a virtual service; what is not named gets its default"),
    form("delete-service", 'D', &[SERVICE], &[], "Delete a virtual service with its real servers"),
    form("add-server", 'a', &[SERVICE, "real-server"], OF_SERVERS, "Add a real server to a service"),
    form("edit-server", 'e', &[SERVICE, "real-server"], OF_SERVERS,
        "Edit a real server; what is not named gets its default"),
    form("delete-server", 'd', &[SERVICE, "real-server"], &[], "Take a real server from a service"),
    form("add-laddr", 'P', &[SERVICE, "local-address"], &[],
        "Add local addresses to a service, for FullNAT: all of them, or none"),
    form("del-laddr", 'Q', &[SERVICE, "local-address"], &[], "Take local addresses from a service"),
    form("get-laddr", 'G', &[], &[SERVICE, "numeric", "nosort", "exact", "json"],
        "List the local addresses of a service or of all"),
    form("list", 'L', &[], OF_LISTINGS, "List services, or what the options name instead (also -l)"),
    form("zero", 'Z', &[], &[SERVICE], "Set the counters of a service or of all to zero"),
    Form {
        told: "flush",
        ..form("clear", 'C', &[], &[], "Delete all services")
    },
    form("save", 'S', &[], &["numeric"], "Print all services as command lines"),
    form("restore", 'R', &[], &[], "Carry out the command lines that stand on the input"),
    // Any number of values, so that it can be told that three are needed.
    long_form("set", Value::One("TCP TCPFIN UDP"), &[],
        "Set the timeouts of connections, in seconds; 0 leaves one as it is"),
    long_form("start-daemon", Value::Word("STATE", &["master", "backup"]), OF_DAEMONS,
        "Start the daemon that sends connections to other directors (master), or receives them (backup)"),
    long_form("stop-daemon", Value::Word("STATE", &["master", "backup"]), &["syncid"],
        "Stop one of these daemons"),
    Form {
        letter: Some('h'),
        ..long_form("help", Value::Word("TOPIC", TOPICS), &[], "Explain a topic, or everything in short")
    },
    form("version", 'v', &[], &[], "Print the version"),
];

const TARGETS: &str = "Virtual service";
const SCHEDULING: &str = "Settings of a service";
const SERVERS: &str = "Real server and its settings";
const LOCALS: &str = "Local addresses";
const LISTINGS: &str = "Listings";
const DAEMONS: &str = "Synchronisation";

/// Makes an option whose kind is its name.
const fn setting(
    heading: &'static str,
    name: &'static str,
    value: Value,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        letter: None,
        kind: name,
        value,
        heading,
        help,
    }
}

impl Setting {
    const fn letter(self, letter: char) -> Self {
        Setting {
            letter: Some(letter),
            ..self
        }
    }

    const fn kind(self, kind: &'static str) -> Self {
        Setting { kind, ..self }
    }
}

/// The options. Mistakes are looked for in this order, which is ipvsadm's and then ours.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting(LISTINGS, "numeric", Nothing, "Show addresses and ports as numbers").letter('n'),
    setting(LISTINGS, "connection", Nothing, "List connections").letter('c'),
    setting(TARGETS, "tcp-service", One("ADDRESS:PORT"), "TCP at this address")
        .letter('t').kind(SERVICE),
    setting(TARGETS, "udp-service", One("ADDRESS:PORT"), "UDP at this address")
        .letter('u').kind(SERVICE),
    setting(TARGETS, "sctp-service", One("ADDRESS:PORT"), "SCTP at this address").kind(SERVICE),
    setting(TARGETS, "fwmark-service", One("MARK"), "Packets that a firewall gave this mark")
        .letter('f').kind(SERVICE),
    setting(SCHEDULING, "scheduler", Word("NAME", SCHEDULERS),
        "How a real server is chosen: rr, wrr, lc, wlc (the default), lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, none")
        .letter('s'),
    setting(SCHEDULING, "persistent", Seconds,
        "Keep a client at its real server for that long after its last connection (default: 360)")
        .letter('p'),
    setting(SCHEDULING, "netmask", One("MASK"),
        "Take the clients of one network for one: 255.255.255.0, or a prefix length for IPv6")
        .letter('M'),
    setting(SERVERS, "real-server", One("ADDRESS[:PORT]"),
        "The real server; without a port, the service's; always the service's with -g and -i")
        .letter('r'),
    setting(SERVERS, "gatewaying", Nothing, "Reach it by direct routing (the default)")
        .letter('g').kind(FORWARD),
    setting(SERVERS, "ipip", Nothing, "Reach it through a tunnel").letter('i').kind(FORWARD),
    setting(SERVERS, "masquerading", Nothing,
        "Reach it by NAT, or by FullNAT if the service has local addresses").letter('m').kind(FORWARD),
    setting(SERVERS, "fullnat", Nothing, "Reach it by FullNAT").kind(FORWARD),
    setting(SERVERS, "weight", One("NUMBER"),
        "Its share of the connections; 0: no new ones (default: 1)").letter('w'),
    setting(SERVERS, "u-threshold", One("NUMBER"),
        "No new connections from that many on (default: 0, no limit)").letter('x'),
    setting(SERVERS, "l-threshold", One("NUMBER"), "New ones again below that many").letter('y'),
    setting(DAEMONS, "mcast-interface", One("NAME"), "Network device (default: eth0)"),
    setting(LISTINGS, "timeout", Nothing, "List the timeouts of connections"),
    setting(LISTINGS, "daemon", Nothing, "List the synchronisation daemons"),
    setting(LISTINGS, "stats", Nothing, "Show counters: connections, packets, bytes"),
    setting(LISTINGS, "rate", Nothing, "Show the same for each second"),
    setting(LISTINGS, "thresholds", Nothing, "Show the thresholds of the real servers"),
    setting(LISTINGS, "persistent-conn", Nothing,
        "Show connections of persistent services; with -c what persistence engines know"),
    setting(LISTINGS, "nosort", Nothing, "Keep the kernel's order"),
    setting(DAEMONS, "syncid", One("NUMBER"), "Directors with the same number belong together"),
    setting(LISTINGS, "exact", Nothing, "Show large numbers in full").letter('X'),
    setting(SCHEDULING, "ops", Nothing, "Schedule each UDP packet by itself").letter('o'),
    setting(SCHEDULING, "pe", Word("NAME", &["sip"]), "Persistence engine, such as sip"),
    setting(SCHEDULING, "sched-flags", Word("FLAGS", FLAGS),
        "Flags of the scheduler, with commas between: flag-1, flag-2, flag-3, sh-fallback, sh-port, mh-fallback, mh-port")
        .letter('b'),
    setting(DAEMONS, "mcast-group", One("ADDRESS"), "Multicast group (default: 224.0.0.81)"),
    setting(DAEMONS, "mcast-port", One("PORT"), "UDP port (default: 8848)"),
    setting(DAEMONS, "mcast-ttl", One("NUMBER"), "How many routers a message passes (default: 1)"),
    setting(DAEMONS, "sync-maxlen", One("NUMBER"), "Longest message (default: by the device's MTU)"),
    setting(LISTINGS, "tun-info", Nothing, "Show how tunnels are set up"),
    setting(SERVERS, "tun-type", Word("TYPE", &["ipip", "gue", "gre"]),
        "Encapsulation of a tunnel: ipip (the default), gue or gre"),
    setting(SERVERS, "tun-port", One("PORT"), "UDP port of a gue tunnel"),
    setting(SERVERS, "tun-nocsum", Nothing, "No checksums in a gue or gre tunnel (the default)"),
    setting(SERVERS, "tun-csum", Nothing, "Checksums in a gue or gre tunnel"),
    setting(SERVERS, "tun-remcsum", Nothing, "Remote checksum offload in a gue tunnel"),
    setting(LOCALS, "local-address", One("ADDRESSES"),
        "ADDRESS, FIRST-LAST or ADDRESS/PREFIX; at most 4096 at once").letter('z'),
    setting(LISTINGS, "json", Nothing, "List as JSON"),
    setting(TARGETS, IPV6, Nothing, "The packets of the mark are IPv6").letter('6'),
    setting(LISTINGS, SORT, Nothing, "Sort (the default)"),
];

pub const IPV6: &str = "ipv6";
const SORT: &str = "sort";

const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
    "none",
];
const FLAGS: &[&str] = &[
    "flag-1",
    "flag-2",
    "flag-3",
    "sh-fallback",
    "sh-port",
    "mh-fallback",
    "mh-port",
];

/// The command that a word stands for, if the word is that and nothing else.
pub fn form_of(word: &str) -> Option<&'static Form> {
    let mut letters = word.strip_prefix('-')?.chars();
    match (letters.next()?, letters.as_str()) {
        ('-', name) => FORMS.iter().find(|form| form.name == name),
        (letter, "") => FORMS.iter().find(|form| form.letter == Some(letter)),
        _ => None,
    }
}

/// The option of a name.
pub fn setting_of(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

const ABOUT: &str = "\
rlvsadm is the operator's command for rlvs, IPVS and FullNAT for today's kernel. It takes the command \
lines of ipvsadm 1.31 and answers them alike, so it can be called by that name; it works with the \
kernel's own module ip_vs, too, but for what that has not: FullNAT and local addresses.

A line has one command, which says what is done, and options. Without a command it lists all \
services with their real servers. Hosts and ports may be named; IPv6 addresses stand in brackets \
where a port follows: [2001:db8::1]:80. A command that fails says why, has changed nothing (but see \
-R), and its exit status is not 0.";

const USAGE: &str = "\
rlvsadm -A|-E SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M MASK] [--pe NAME] [-o]
rlvsadm -D SERVICE
rlvsadm -a|-e SERVICE -r ADDRESS[:PORT] [-g|-i|-m|--fullnat] [-w WEIGHT] [-x UPPER] [-y LOWER]
rlvsadm -d SERVICE -r ADDRESS[:PORT]
rlvsadm -P|-Q SERVICE -z ADDRESSES
rlvsadm -G [SERVICE] [-n] [--json]
rlvsadm -L|-l [SERVICE] [-n] [OPTIONS]
rlvsadm -Z [SERVICE]
rlvsadm --set TCP TCPFIN UDP
rlvsadm --start-daemon master|backup [OPTIONS]
rlvsadm --stop-daemon master|backup
rlvsadm -S [-n]
rlvsadm -R
rlvsadm -C
rlvsadm -h [TOPIC]
rlvsadm -v";

/// The definition as clap takes it.
pub fn command() -> Command {
    let headings = [TARGETS, SCHEDULING, SERVERS, LOCALS, LISTINGS, DAEMONS].into_iter();
    let settings = headings.flat_map(|heading| {
        SETTINGS
            .iter()
            .filter(move |setting| setting.heading == heading)
    });
    reader()
        .version(env!("CARGO_PKG_VERSION"))
        .about("set up and show the virtual services of rlvs, like ipvsadm for ip_vs")
        .long_about(ABOUT)
        .override_usage(USAGE)
        .args(FORMS.iter().map(form_arg))
        .args(settings.map(setting_arg))
}

/// Of the definition, one command and the options that go with it.
pub fn part(form: &'static Form) -> Command {
    let settings = SETTINGS.iter().filter(|setting| form.takes(setting));
    reader().arg(form_arg(form)).args(settings.map(setting_arg))
}

fn reader() -> Command {
    Command::new("rlvsadm")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .no_binary_name(true)
}

fn form_arg(form: &Form) -> Arg {
    let arg = arg(form.name, form.letter, &form.value, form.help).help_heading("Commands");
    match form.name {
        "set" => arg.num_args(0..),
        "help" => arg.num_args(0..=1).default_missing_value(""),
        "list" => arg.visible_short_alias('l'),
        _ => arg,
    }
}

fn setting_arg(setting: &Setting) -> Arg {
    let arg = arg(setting.name, setting.letter, &setting.value, setting.help)
        .help_heading(setting.heading);
    match setting.name {
        // Twice is no mistake of ipvsadm's users either.
        IPV6 | SORT => arg.overrides_with(setting.name),
        _ => arg,
    }
}

fn arg(name: &'static str, letter: Option<char>, value: &Value, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help);
    let arg = match letter {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match *value {
        // Not by `ArgAction::SetTrue`, which enters each absent option as false, and makes reading
        // a line several times as slow.
        Value::Nothing => arg
            .action(ArgAction::Set)
            .num_args(0)
            .default_missing_value(""),
        // What follows is the value whatever it looks like, as in ipvsadm: a weight of -1 is told to
        // be too small, and not to be an unknown option.
        Value::One(value) => arg.value_name(value).allow_hyphen_values(name != "set"),
        Value::Word(value, words) => arg
            .value_name(value)
            .value_parser(Offered(words))
            // They stand in the help, in fewer lines.
            .hide_possible_values(true)
            .allow_hyphen_values(name != "help"),
        Value::Seconds => arg
            .value_name("SECONDS")
            .num_args(0..=1)
            .default_missing_value(DEFAULT_PERSISTENCE),
    }
}

/// Words that shells offer; any other is taken, too.
#[derive(Clone)]
struct Offered(&'static [&'static str]);

impl TypedValueParser for Offered {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}
