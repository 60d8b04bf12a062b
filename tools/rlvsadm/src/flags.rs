// SPDX-License-Identifier: GPL-2.0

//! Flags of schedulers: three bits, which some schedulers give names.

use rlvs_core::uapi::svc_flag;

/// All the flags that a scheduler can have.
pub const ALL: u32 = svc_flag::SCHED1 | svc_flag::SCHED2 | svc_flag::SCHED3;

const BITS: [u32; 3] = [svc_flag::SCHED1, svc_flag::SCHED2, svc_flag::SCHED3];
const NUMBERED: [&str; 3] = ["flag-1", "flag-2", "flag-3"];

/// The names that schedulers have for the first flags.
const NAMED: [(&str, [&str; 2]); 2] = [
    ("sh", ["sh-fallback", "sh-port"]),
    ("mh", ["mh-fallback", "mh-port"]),
];

const KNOWN: &str = "there are flag-1, flag-2, flag-3, sh-fallback, sh-port, mh-fallback, mh-port";

/// Reads a list of flags, separated by commas, of a scheduler.
pub fn parse(text: &str, scheduler: &str) -> Result<u32, String> {
    // As in ipvsadm, nothing between two commas is nothing.
    let mut names = text.split(',').filter(|name| !name.is_empty()).peekable();
    if names.peek().is_none() {
        return Err(format!("invalid scheduler flag `{text}': {KNOWN}"));
    }
    names.try_fold(0, |flags, name| Ok(flags | parse_one(name, scheduler)?))
}

fn parse_one(name: &str, scheduler: &str) -> Result<u32, String> {
    if let Some(index) = NUMBERED.iter().position(|&numbered| numbered == name) {
        return Ok(BITS[index]);
    }
    for (owner, names) in NAMED {
        if let Some(index) = names.iter().position(|&named| named == name) {
            return match owner == scheduler {
                true => Ok(BITS[index]),
                false => Err(format!(
                    "incompatible scheduler flag `{name}': \
                     it is for scheduler {owner}, and this is {scheduler}"
                )),
            };
        }
    }
    Err(format!("invalid scheduler flag `{name}': {KNOWN}"))
}

/// Names the flags that are set, separated by commas; nothing if none is.
pub fn names(flags: u32, scheduler: &str) -> Option<String> {
    let named = NAMED.iter().find(|(owner, _)| *owner == scheduler);
    let names: Vec<&str> = BITS
        .iter()
        .enumerate()
        .filter(|(_, &bit)| flags & bit != 0)
        .map(
            |(index, _)| match named.and_then(|(_, names)| names.get(index)) {
                Some(name) => name,
                None => NUMBERED[index],
            },
        )
        .collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// Names the flags as ipvsadm lists them: of a scheduler that has names for flags only those.
pub fn own_names(flags: u32, scheduler: &str) -> String {
    let known = match NAMED.iter().any(|(owner, _)| *owner == scheduler) {
        true => svc_flag::SCHED1 | svc_flag::SCHED2,
        false => ALL,
    };
    names(flags & known, scheduler).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_the_names_of_their_scheduler() {
        assert_eq!(
            names(parse("sh-port,sh-fallback", "sh").unwrap(), "sh").unwrap(),
            "sh-fallback,sh-port"
        );
        assert_eq!(
            names(parse("flag-2,flag-3", "mh").unwrap(), "mh").unwrap(),
            "mh-port,flag-3"
        );
        assert_eq!(
            names(parse("flag-1", "rr").unwrap(), "rr").unwrap(),
            "flag-1"
        );
        assert_eq!(names(svc_flag::PERSISTENT, "sh"), None);
    }

    #[test]
    fn listings_know_two_flags_of_sh_and_mh() {
        let both = svc_flag::SCHED1 | svc_flag::SCHED3;
        assert_eq!(own_names(both, "sh"), "sh-fallback");
        assert_eq!(own_names(both, "rr"), "flag-1,flag-3");
        assert_eq!(own_names(svc_flag::SCHED3, "mh"), "");
    }

    #[test]
    fn flags_of_another_scheduler_are_refused() {
        assert!(parse("sh-port", "rr")
            .unwrap_err()
            .contains("for scheduler sh"));
        assert!(parse("flag-4", "rr").is_err());
        assert!(parse(",", "rr").is_err());
        assert_eq!(parse("flag-1,", "rr"), Ok(svc_flag::SCHED1));
    }
}
