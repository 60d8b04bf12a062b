// SPDX-License-Identifier: GPL-2.0

//! Flags of schedulers: three bits, which some schedulers give names.

use rlvs_core::uapi::svc_flag;

const BITS: [u32; 3] = [svc_flag::SCHED1, svc_flag::SCHED2, svc_flag::SCHED3];
const NUMBERED: [&str; 3] = ["flag-1", "flag-2", "flag-3"];

/// The names that schedulers have for the first flags.
const NAMED: [(&str, [&str; 2]); 2] = [
    ("sh", ["sh-fallback", "sh-port"]),
    ("mh", ["mh-fallback", "mh-port"]),
];

/// Reads a list of flags, separated by commas, of a scheduler.
pub fn parse(text: &str, scheduler: &str) -> Result<u32, String> {
    text.split(',')
        .try_fold(0, |flags, name| Ok(flags | parse_one(name, scheduler)?))
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
                    "scheduler flag `{name}' is for scheduler {owner}, and this is {scheduler}"
                )),
            };
        }
    }
    Err(format!(
        "scheduler flag `{name}' is unknown: there are flag-1, flag-2, flag-3, \
         sh-fallback, sh-port, mh-fallback, mh-port"
    ))
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
    fn flags_of_another_scheduler_are_refused() {
        assert!(parse("sh-port", "rr")
            .unwrap_err()
            .contains("for scheduler sh"));
        assert!(parse("flag-1,", "rr").is_err());
    }
}
