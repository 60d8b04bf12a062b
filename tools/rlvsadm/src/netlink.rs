// SPDX-License-Identifier: GPL-2.0

//! Generic netlink: one socket, one request at a time.

use neli::{
    consts::{
        genl::{CtrlAttr, CtrlCmd},
        nl::{GenlId, NlmF, NlmsgerrAttr},
        socket::NlFamily,
    },
    genl::{
        AttrTypeBuilder, GenlAttrHandle, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder,
        NoUserHeader,
    },
    nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder},
    socket::synchronous::NlSocketHandle,
    types::{Buffer, GenlBuffer},
    utils::Groups,
    FromBytes, Size, ToBytes,
};

/// A generic netlink message: command and attributes.
pub type Message = Genlmsghdr<u8, u16>;
/// An attribute, not yet looked into.
pub type Attr = Nlattr<u16, Buffer>;

/// Why a request failed.
#[derive(Debug)]
pub enum Error {
    /// The kernel said no: error number, and its own words where it has some.
    Refused { errno: i32, message: Option<String> },
    /// The conversation itself went wrong.
    Broken(String),
}

impl Error {
    /// Wraps whatever went wrong in the conversation.
    fn broken(error: impl std::fmt::Display) -> Self {
        Error::Broken(format!("netlink: {error}"))
    }
}

/// How often a listing is asked for that changes while it is told.
const DUMP_TRIES: u32 = 5;

/// What the kernel answered to one request.
struct Answers {
    messages: Vec<Message>,
    /// Whether nothing was changed while they were told.
    whole: bool,
}

/// A generic netlink family as it is registered now.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub id: u16,
    pub version: u8,
}

/// A generic netlink socket.
pub struct Socket {
    handle: NlSocketHandle,
    sequence: u32,
}

impl Socket {
    /// Opens the socket, with extended acks.
    pub fn open() -> Result<Self, Error> {
        let handle = NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty())
            .map_err(Error::broken)?;
        handle.enable_ext_ack(true).map_err(Error::broken)?;
        Ok(Socket {
            handle,
            sequence: 0,
        })
    }

    /// The registered family of each name.
    ///
    /// Asks for the whole list, because asking for one name makes the kernel load a module for it.
    pub fn families<const N: usize>(
        &mut self,
        names: [(&str, u8); N],
    ) -> Result<[Option<Family>; N], Error> {
        let control = Family {
            id: GenlId::Ctrl.into(),
            version: 1,
        };
        let replies = self.dump(control, CtrlCmd::Getfamily.into(), Vec::new())?;
        let mut found = [None; N];
        for reply in &replies {
            let attrs = Attrs(reply.attrs().get_attr_handle());
            let name = attrs.string(CtrlAttr::FamilyName.into())?;
            let id = attrs.number::<u16>(CtrlAttr::FamilyId.into())?;
            for (slot, (wanted, version)) in found.iter_mut().zip(names) {
                if name == wanted {
                    *slot = Some(Family { id, version });
                }
            }
        }
        Ok(found)
    }

    /// Sends a command and gives what the kernel answers before it acknowledges.
    pub fn request(
        &mut self,
        family: Family,
        command: u8,
        attrs: Vec<Attr>,
    ) -> Result<Vec<Message>, Error> {
        let answers = self.exchange(family, command, NlmF::REQUEST | NlmF::ACK, attrs)?;
        Ok(answers.messages)
    }

    /// Asks for a listing and gives all of it.
    ///
    /// One that was changed while the kernel told it is asked for again. If it never comes to rest,
    /// the last one has to do.
    pub fn dump(
        &mut self,
        family: Family,
        command: u8,
        attrs: Vec<Attr>,
    ) -> Result<Vec<Message>, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answers =
                self.exchange(family, command, NlmF::REQUEST | NlmF::DUMP, attrs.clone())?;
            if answers.whole || tries == DUMP_TRIES {
                return Ok(answers.messages);
            }
        }
    }

    fn exchange(
        &mut self,
        family: Family,
        command: u8,
        flags: NlmF,
        attrs: Vec<Attr>,
    ) -> Result<Answers, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = GenlmsghdrBuilder::<u8, u16, NoUserHeader>::default()
            .cmd(command)
            .version(family.version)
            .attrs(attrs.into_iter().collect::<GenlBuffer<_, _>>())
            .build()
            .map_err(Error::broken)?;
        let request = NlmsghdrBuilder::default()
            .nl_type(family.id)
            .nl_flags(flags)
            .nl_seq(self.sequence)
            .nl_payload(NlPayload::Payload(message))
            .build()
            .map_err(Error::broken)?;
        self.handle.send(&request).map_err(Error::broken)?;
        self.answers()
    }

    /// Collects the answers to the last request up to its acknowledgement.
    fn answers(&mut self) -> Result<Answers, Error> {
        let mut answers = Answers {
            messages: Vec::new(),
            whole: true,
        };
        loop {
            let (messages, _) = self.handle.recv::<u16, Message>().map_err(Error::broken)?;
            for message in messages {
                let message: Nlmsghdr<u16, Message> = message.map_err(Error::broken)?;
                if *message.nl_seq() != self.sequence {
                    continue;
                }
                if message.nl_flags().contains(NlmF::DUMP_INTR) {
                    answers.whole = false;
                }
                match message.nl_payload() {
                    NlPayload::Payload(answer) => answers.messages.push(answer.clone()),
                    NlPayload::Ack(_) | NlPayload::Empty => return Ok(answers),
                    NlPayload::DumpExtAck(end) if *end.error() == 0 => return Ok(answers),
                    NlPayload::DumpExtAck(end) => return Err(refused(*end.error(), end.ext_ack())),
                    NlPayload::Err(error) => return Err(refused(*error.error(), error.ext_ack())),
                }
            }
        }
    }
}

/// The error of a negative error number and an extended ack.
fn refused(error: i32, ext_ack: &GenlBuffer<NlmsgerrAttr, Buffer>) -> Error {
    let message = ext_ack
        .iter()
        .find(|attr| *attr.nla_type().nla_type() == NlmsgerrAttr::Msg)
        .map(|attr| text(attr.nla_payload().as_ref()));
    Error::Refused {
        errno: error.wrapping_neg(),
        message,
    }
}

/// The string before the first NUL.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes an attribute.
///
/// # Panics
///
/// If the payload is longer than an attribute can be, which no payload of ours is.
pub fn attr<P: Size + ToBytes>(kind: u16, payload: P) -> Attr {
    NlattrBuilder::default()
        .nla_type(
            AttrTypeBuilder::default()
                .nla_type(kind)
                .build()
                .expect("the type is set"),
        )
        .nla_payload(payload)
        .build()
        .expect("numbers and bytes have a binary form")
}

/// Makes an attribute of bytes.
pub fn bytes(kind: u16, payload: &[u8]) -> Attr {
    attr(kind, payload)
}

/// Makes an attribute that holds others.
pub fn nest(kind: u16, inner: &[Attr]) -> Attr {
    let empty = bytes(kind, &[]);
    inner
        .iter()
        .try_fold(empty, |nest, attr| nest.nest(attr))
        .expect("attributes have a binary form")
}

/// Attributes of a message or of a nest, by type.
pub struct Attrs<'a>(pub GenlAttrHandle<'a, u16>);

impl<'a> Attrs<'a> {
    /// The attributes at the top of a message.
    pub fn of(message: &'a Message) -> Self {
        Attrs(message.attrs().get_attr_handle())
    }

    /// The attributes inside attribute `kind`.
    pub fn nest(&self, kind: u16) -> Result<Attrs<'_>, Error> {
        self.0
            .get_nested_attributes(kind)
            .map(Attrs)
            .map_err(Error::broken)
    }

    pub fn has(&self, kind: u16) -> bool {
        self.0.get_attribute(kind).is_some()
    }

    /// The bytes of attribute `kind`.
    pub fn bytes(&self, kind: u16) -> Result<&[u8], Error> {
        match self.0.get_attribute(kind) {
            Some(attr) => Ok(attr.nla_payload().as_ref()),
            None => Err(Error::broken(format_args!(
                "the kernel's answer lacks attribute {kind}"
            ))),
        }
    }

    /// The number, in host order, at the start of attribute `kind`.
    pub fn number<N: FromBytes>(&self, kind: u16) -> Result<N, Error> {
        self.0.get_attr_payload_as(kind).map_err(Error::broken)
    }

    /// The same, or nothing if there is no such attribute.
    pub fn optional<N: FromBytes>(&self, kind: u16) -> Result<Option<N>, Error> {
        match self.has(kind) {
            true => self.number(kind).map(Some),
            false => Ok(None),
        }
    }

    /// The port, in network order, of attribute `kind`.
    pub fn port(&self, kind: u16) -> Result<u16, Error> {
        self.number::<u16>(kind).map(u16::from_be)
    }

    pub fn string(&self, kind: u16) -> Result<String, Error> {
        self.bytes(kind).map(text)
    }
}
