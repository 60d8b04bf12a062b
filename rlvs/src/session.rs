// SPDX-License-Identifier: GPL-2.0

//! What the connections of an FTP session share: the control connection and those for data.

use kernel::{
    alloc::AllocError,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    }, //
};
use rlvs_core::wire::shift::Shift;

/// How much of FTP there is in a namespace.
pub(crate) struct Ftp {
    controls: Atomic<i32>,
    awaited: Atomic<i32>,
}

impl Ftp {
    /// None. Process context.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let none = Self {
            controls: Atomic::new(0),
            awaited: Atomic::new(0),
        };
        Ok(Arc::new(none, GFP_KERNEL)?)
    }

    /// How many control connections there are.
    pub(crate) fn controls(&self) -> i32 {
        self.controls.load(Relaxed)
    }

    /// Are there data connections whose client has yet to come?
    #[inline]
    pub(crate) fn is_awaiting(&self) -> bool {
        self.awaited.load(Relaxed) != 0
    }
}

/// An FTP session.
#[pin_data]
pub(crate) struct Session {
    ftp: Arc<Ftp>,
    /// How many data connections there are, awaited ones among them.
    data: Atomic<i32>,
    /// What the server has said. Taken with softirqs off.
    #[pin]
    stream: SpinLock<Stream>,
}

/// What the server has said on the control connection.
#[derive(Default)]
struct Stream {
    shift: Shift,
    /// The sequence numbers where a line has begun: the last two, for what is sent again.
    lines: [Option<u32>; 2],
}

impl Session {
    /// A new session in a namespace. Any context.
    pub(crate) fn new(ftp: &Arc<Ftp>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                ftp: ftp.clone(),
                data: Atomic::new(0),
                stream <- new_spinlock!(Stream::default()),
            }),
            GFP_ATOMIC,
        )
    }

    /// Does a line of the server start at that sequence number?
    pub(crate) fn is_line(&self, seq: u32) -> bool {
        self.stream.lock().lines.contains(&Some(seq))
    }

    /// A line of the server starts there.
    pub(crate) fn line(&self, seq: u32) {
        let mut stream = self.stream.lock();
        let [last, _] = stream.lines;
        if last != Some(seq) {
            stream.lines = [Some(seq), last];
        }
    }

    /// The server's segment that starts there was made longer by `by` bytes; returns how its numbers
    /// differ now.
    pub(crate) fn resized(&self, seq: u32, by: i32) -> Shift {
        let mut stream = self.stream.lock();
        stream.shift.resized(seq, by);
        stream.shift
    }

    /// How the server's numbers differ from those that the client knows.
    pub(crate) fn shift(&self) -> Shift {
        self.stream.lock().shift
    }
}

/// What a connection is in a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The control connection.
    Control,
    /// A data connection whose client's port is not known yet.
    Awaited,
    /// A data connection.
    Data,
}

/// That a connection belongs to a session; counted until it is dropped.
pub(crate) struct Member {
    session: Arc<Session>,
    part: Part,
}

impl Member {
    /// Another connection of a session. Any context.
    // On its own: few connections are of a session, and all have room for the pointer only.
    pub(crate) fn new(session: Arc<Session>, part: Part) -> Result<KBox<Self>, AllocError> {
        let member = Self { session, part };
        member.count(1);
        KBox::new(member, GFP_ATOMIC)
    }

    /// The session.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What the connection is in it.
    pub(crate) fn part(&self) -> Part {
        self.part
    }

    /// Do other connections need this one?
    pub(crate) fn is_needed(&self) -> bool {
        self.part == Part::Control && self.session.data.load(Relaxed) > 0
    }

    fn count(&self, by: i32) {
        let ftp = &self.session.ftp;
        match self.part {
            Part::Control => ftp.controls.add(by, Relaxed),
            Part::Awaited => {
                ftp.awaited.add(by, Relaxed);
                self.session.data.add(by, Relaxed);
            }
            Part::Data => self.session.data.add(by, Relaxed),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.count(-1);
    }
}
