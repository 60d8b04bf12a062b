// SPDX-License-Identifier: GPL-2.0

//! Where programs come in: the two generic netlink families.
//!
//! `ipvs` speaks what mainline speaks, `rlvs` what mainline has no word for. `parse` reads what they
//! have in common, and every refusal becomes an extended ack: a sentence, and the attribute that is
//! to blame.

mod dump;
mod ipvs;
mod parse;
mod rlvs;

use crate::{
    config::{
        Refusal,
        Subject, //
    },
    kapi::{
        genl,
        netns::PerNet,
        nla::Attr, //
    },
    netns::NetState, //
};
use kernel::{
    prelude::*,
    str::CStr,
    sync::atomic::{
        Acquire,
        Atomic,
        Full, //
    }, //
};

/// Requests are answered: all that the module registers is there.
static OPEN: Atomic<bool> = Atomic::new(false);

/// Both families, known for as long as this lives.
pub(crate) struct Registration {
    _rlvs: genl::Registration,
    _ipvs: genl::Registration,
}

/// Makes both families known. `EBUSY` if somebody else has one of that name: then ip_vs is loaded.
///
/// It must come before everything else that ip_vs has too, and requests may come before a namespace
/// has its state.
pub(crate) fn register() -> Result<Registration> {
    let ipvs = ipvs::FAMILY.register().map_err(|error| {
        if error != EEXIST {
            return error;
        }
        pr_err!("ip_vs is loaded: unload it first, the two exclude each other\n");
        EBUSY
    })?;
    Ok(Registration {
        _rlvs: rlvs::FAMILY.register()?,
        _ipvs: ipvs,
    })
}

impl Registration {
    /// Has requests answered from now on. Until then the module may still fail to load, and would take
    /// the namespaces' state away from under whoever uses it.
    pub(crate) fn open(&self) {
        OPEN.xchg(true, Full);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        OPEN.xchg(false, Full);
    }
}

/// Why a request is refused.
struct Refused<'a> {
    errno: Error,
    message: &'static CStr,
    attr: Option<Attr<'a>>,
}

impl<'a> Refused<'a> {
    const fn new(errno: Error, message: &'static CStr) -> Self {
        Self {
            errno,
            message,
            attr: None,
        }
    }

    /// The same, with the attribute that is to blame.
    fn at(self, attr: Attr<'a>) -> Self {
        Self {
            attr: Some(attr),
            ..self
        }
    }

    /// What the configuration refuses: `service` named the service, `member` what is in it.
    fn by_config(refusal: Refusal, service: Option<Attr<'a>>, member: Option<Attr<'a>>) -> Self {
        Self {
            errno: refusal.errno,
            message: refusal.message,
            attr: match refusal.subject {
                Some(Subject::Service) => service,
                Some(Subject::Member) => member,
                None => None,
            },
        }
    }
}

impl<E: Into<Error>> From<E> for Refused<'_> {
    fn from(error: E) -> Self {
        Self::by_config(Refusal::from(error), None, None)
    }
}

/// The state of the namespace that asks.
fn state(info: &genl::Info) -> Result<&NetState, Refused<'_>> {
    let state = if OPEN.load(Acquire) {
        NetState::of(info.net())
    } else {
        None
    };
    state.ok_or(Refused::new(
        ENODEV,
        c"rlvs is being loaded or unloaded in this network namespace",
    ))
}

/// Answers a request, in words too if it is refused.
fn answer<'a>(info: &'a genl::Info, f: impl FnOnce() -> Result<(), Refused<'a>>) -> Result {
    f().map_err(|refused| {
        info.explain(refused.message, refused.attr);
        refused.errno
    })
}
