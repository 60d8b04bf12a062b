// SPDX-License-Identifier: GPL-2.0

//! Generic netlink families: operations, requests and replies.
//!
//! A [`Family`] is a static with a table of [`Op`]s. A command is answered by a type that implements
//! [`Doit`], a dump by one that implements [`Dump`]; both read the request through [`Info`].
//!
//! C header: [`include/net/genetlink.h`](srctree/include/net/genetlink.h)

use super::{
    bindings,
    netns::Net,
    nla::{
        Attr,
        Attrs,
        Message,
        Policy, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::Opaque,
    ThisModule, //
};

/// A request, while it is being answered.
#[repr(transparent)]
pub(crate) struct Info(Opaque<bindings::genl_info>);

impl Info {
    /// # Safety
    ///
    /// For `'a`, `info` must be the valid `genl_info` of a request that nobody else answers, and the
    /// message that it points to must stay as it is.
    unsafe fn from_raw<'a>(info: *const bindings::genl_info) -> &'a Self {
        // SAFETY: By the contract of this function; `Info` is transparent.
        unsafe { &*info.cast::<Self>() }
    }

    fn raw(&self) -> &bindings::genl_info {
        // SAFETY: `from_raw` promises that it is valid, and nothing but the extended ack, which is
        // elsewhere, changes meanwhile.
        unsafe { &*self.0.get() }
    }

    /// The namespace of the socket that asks.
    pub(crate) fn net(&self) -> &Net {
        // SAFETY: The socket holds the namespace while its request is being answered.
        unsafe { Net::from_raw(bindings::rlvs_genl_info_net(self.0.get())) }
    }

    /// The command.
    pub(crate) fn command(&self) -> u8 {
        // SAFETY: A request has a header; `genl_family_rcv_msg()` has checked its length.
        unsafe { (*self.raw().genlhdr).cmd }
    }

    /// The attributes of the message.
    pub(crate) fn attrs(&self) -> Attrs<'_> {
        Attrs(self.message().get(Self::PREFIX..).unwrap_or_default())
    }

    /// The attributes, if all of them look as `policy` wants it; those that it does not know are
    /// not looked at. Else the sender learns which of them does not.
    pub(crate) fn check<'a>(&self, attrs: Attrs<'a>, policy: Policy) -> Result<Attrs<'a>> {
        let len = c_int::try_from(attrs.0.len())?;
        // SAFETY: The attributes are valid for their length, and the policy by its invariants. The
        // extended ack is null or valid.
        to_result(unsafe {
            bindings::__nla_validate(
                attrs.0.as_ptr().cast(),
                len,
                c_int::from(policy.max),
                policy.table,
                bindings::netlink_validation_NL_VALIDATE_LIBERAL,
                self.raw().extack,
            )
        })?;
        Ok(attrs)
    }

    /// What precedes the attributes in a message: both headers. Our families have none of their own.
    const PREFIX: usize = size_of::<bindings::nlmsghdr>() + size_of::<bindings::genlmsghdr>();

    fn message(&self) -> &[u8] {
        let header = self.raw().nlhdr;
        // SAFETY: A request has a header whose length `netlink_rcv_skb()` has checked against that
        // of the message; nobody writes to the message.
        unsafe { slice::from_raw_parts(header.cast::<u8>(), (*header).nlmsg_len as usize) }
    }

    /// Tells the sender in words why the request is refused, and which attribute is to blame, if
    /// it does not know already.
    pub(crate) fn explain(&self, message: &'static CStr, attr: Option<Attr<'_>>) {
        // SAFETY: The extended ack of a request is null or valid, and ours alone until we return.
        let Some(extack) = (unsafe { self.raw().extack.as_mut() }) else {
            return;
        };
        if !extack._msg.is_null() {
            return;
        }
        extack._msg = message.as_char_ptr();
        if let Some(attr) = attr {
            // An attribute of another message has no offset in this one.
            if self.message().as_ptr_range().contains(&attr.0.as_ptr()) {
                extack.bad_attr = attr.0.as_ptr().cast();
            }
        }
    }

    /// Answers with one message of that command. Process context.
    pub(crate) fn reply(
        &self,
        command: u8,
        fill: impl FnOnce(&mut Message<'_>) -> Result,
    ) -> Result {
        // SAFETY: The arguments are valid.
        let skb =
            unsafe { bindings::genlmsg_new(bindings::GENLMSG_DEFAULT_SIZE, bindings::GFP_KERNEL) };
        let skb = NonNull::new(skb).ok_or(ENOMEM)?;
        // SAFETY: The buffer is ours alone until it is sent or freed.
        if let Err(error) = unsafe { self.put_message(skb, command, 0, None, fill) } {
            // SAFETY: As above.
            unsafe { bindings::nlmsg_free(skb.as_ptr()) };
            return Err(error);
        }
        // SAFETY: The message is complete; the callee takes it, whatever it returns.
        to_result(unsafe { bindings::rlvs_genl_reply(skb.as_ptr(), self.0.get()) })
    }

    /// Puts one message behind what `skb` holds, or leaves `skb` as it was.
    ///
    /// # Safety
    ///
    /// `skb` must be valid and the caller's alone; `dump`, if any, must be the callback of the dump
    /// that it is a part of.
    unsafe fn put_message(
        &self,
        skb: NonNull<bindings::sk_buff>,
        command: u8,
        flags: u32,
        dump: Option<NonNull<bindings::netlink_callback>>,
        fill: impl FnOnce(&mut Message<'_>) -> Result,
    ) -> Result {
        let info = self.raw();
        // SAFETY: The buffer is valid by the contract of this function, and the family is static.
        let header = unsafe {
            bindings::genlmsg_put(
                skb.as_ptr(),
                info.snd_portid,
                info.snd_seq,
                info.family,
                flags as c_int,
                command,
            )
        };
        let header = NonNull::new(header).ok_or(EMSGSIZE)?;
        if let Some(dump) = dump {
            // SAFETY: By the contract of this function; the header is one of `genlmsg_put()`.
            unsafe { bindings::rlvs_genl_dump_check(dump.as_ptr(), header.as_ptr()) };
        }
        // SAFETY: The buffer is valid for as long as this function runs, and has a header now.
        let result = fill(unsafe { &mut Message::new(skb) });
        // SAFETY: `header` is that of the last message in the buffer.
        unsafe {
            if result.is_ok() {
                bindings::genlmsg_end(skb.as_ptr(), header.as_ptr());
            } else {
                bindings::genlmsg_cancel(skb.as_ptr(), header.as_ptr());
            }
        }
        result
    }
}

/// A dump in progress: one buffer of it.
///
/// # Invariants
///
/// Both pointers are valid and for `'a` nobody else uses what they lead to.
pub(crate) struct Dumper<'a> {
    skb: NonNull<bindings::sk_buff>,
    cb: NonNull<bindings::netlink_callback>,
    _borrows: PhantomData<&'a mut bindings::netlink_callback>,
}

impl<'a> Dumper<'a> {
    /// The request.
    pub(crate) fn info(&self) -> &'a Info {
        // SAFETY: While a dump of generic netlink lasts, `data` is its `genl_dumpit_info`.
        unsafe {
            let data = (*self.cb.as_ptr())
                .data
                .cast::<bindings::genl_dumpit_info>();
            Info::from_raw(&raw const (*data).info)
        }
    }

    /// Where the last buffer ended; 0 at the start.
    pub(crate) fn place(&self) -> u64 {
        // SAFETY: By the type invariants; the union holds words in every view of it.
        unsafe { (*self.cb.as_ptr()).__bindgen_anon_1.args[0] as u64 }
    }

    /// Puts one message an item. Each comes with the [`Dumper::place`] behind it.
    ///
    /// If something has changed from one buffer to the next, `generation` is another, and who asked
    /// is told that the dump is inconsistent. 0 is no generation.
    pub(crate) fn each<T>(
        &mut self,
        generation: u32,
        command: u8,
        items: impl Iterator<Item = (u64, T)>,
        mut fill: impl FnMut(T, &mut Message<'_>) -> Result,
    ) -> Result {
        let (skb, cb) = (self.skb, self.cb);
        // SAFETY: By the type invariants.
        unsafe { (*cb.as_ptr()).seq = generation };
        for (place, item) in items {
            // SAFETY: By the type invariants.
            unsafe {
                self.info().put_message(
                    skb,
                    command,
                    bindings::NLM_F_MULTI,
                    Some(cb),
                    |message| fill(item, message),
                )?;
                (*cb.as_ptr()).__bindgen_anon_1.args[0] = place as c_long;
            }
        }
        Ok(())
    }
}

/// Answers a command.
pub(crate) trait Doit {
    /// Does what `info` asks for, in process context. If the sender wants an acknowledgement, it
    /// gets the error, and the words of [`Info::explain`].
    fn doit(info: &Info) -> Result;
}

/// Answers a dump.
pub(crate) trait Dump {
    /// Fills one buffer by [`Dumper::each`], in process context. It is called again with an empty
    /// one for as long as it returns `EMSGSIZE`.
    fn dump(dumper: &mut Dumper<'_>) -> Result;
}

/// Who may send a command.
#[derive(Clone, Copy)]
pub(crate) enum Permission {
    /// Who has CAP_NET_ADMIN in the first user namespace.
    Admin,
}

/// How exactly a message must follow its policy.
#[derive(Clone, Copy)]
pub(crate) enum Validation {
    /// As in families of old: what is unknown is ignored, and so is what is too long.
    Liberal,
    /// To the letter.
    Strict,
}

/// One operation of a family.
#[repr(transparent)]
pub(crate) struct Op(bindings::genl_split_ops);

// SAFETY: An operation is never written, and what its pointers lead to is not either.
unsafe impl Sync for Op {}

impl Op {
    /// `D` answers `command`.
    pub(crate) const fn doit<D: Doit>(
        command: u8,
        permission: Permission,
        validation: Validation,
        policy: Policy,
    ) -> Self {
        let mut op = Self::new(command, permission, policy);
        op.0.flags |= bindings::GENL_CMD_CAP_DO as u8;
        if let Validation::Liberal = validation {
            op.0.validate = bindings::genl_validate_flags_GENL_DONT_VALIDATE_STRICT as u8;
        }
        op.0.__bindgen_anon_1.__bindgen_anon_1 =
            bindings::genl_split_ops__bindgen_ty_1__bindgen_ty_1 {
                doit: Some(doit::<D>),
                ..pin_init::zeroed()
            };
        op
    }

    /// `D` answers a dump of `command`.
    pub(crate) const fn dump<D: Dump>(
        command: u8,
        permission: Permission,
        validation: Validation,
        policy: Policy,
    ) -> Self {
        let mut op = Self::new(command, permission, policy);
        op.0.flags |= bindings::GENL_CMD_CAP_DUMP as u8;
        if let Validation::Liberal = validation {
            op.0.validate = (bindings::genl_validate_flags_GENL_DONT_VALIDATE_DUMP
                | bindings::genl_validate_flags_GENL_DONT_VALIDATE_DUMP_STRICT)
                as u8;
            // In families of old what comes with a dump is not looked at.
            op.0.policy = core::ptr::null();
            op.0.maxattr = 0;
        }
        op.0.__bindgen_anon_1.__bindgen_anon_2 =
            bindings::genl_split_ops__bindgen_ty_1__bindgen_ty_2 {
                dumpit: Some(dumpit::<D>),
                ..pin_init::zeroed()
            };
        op
    }

    const fn new(command: u8, permission: Permission, policy: Policy) -> Self {
        Self(bindings::genl_split_ops {
            cmd: command,
            flags: match permission {
                Permission::Admin => bindings::GENL_ADMIN_PERM as u8,
            },
            policy: policy.table,
            maxattr: policy.max as c_uint,
            ..pin_init::zeroed()
        })
    }
}

/// # Safety
///
/// As generic netlink calls the `doit` of an operation: `info` is that of the request in hand.
unsafe extern "C" fn doit<D: Doit>(
    _skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> c_int {
    from_result(|| {
        // SAFETY: By the contract of this function.
        D::doit(unsafe { Info::from_raw(info) })?;
        Ok(0)
    })
}

/// # Safety
///
/// As generic netlink calls the `dumpit` of an operation: both pointers are valid, and for this
/// call's own use.
unsafe extern "C" fn dumpit<D: Dump>(
    skb: *mut bindings::sk_buff,
    cb: *mut bindings::netlink_callback,
) -> c_int {
    from_result(|| {
        // INVARIANT: By the contract of this function.
        D::dump(&mut Dumper {
            skb: NonNull::new(skb).ok_or(EINVAL)?,
            cb: NonNull::new(cb).ok_or(EINVAL)?,
            _borrows: PhantomData,
        })?;
        Ok(0)
    })
}

/// A family of commands.
#[repr(transparent)]
pub(crate) struct Family(Opaque<bindings::genl_family>);

// SAFETY: Only generic netlink writes to a family, under its own lock.
unsafe impl Sync for Family {}

impl Family {
    /// A family for every namespace, whose commands may run side by side. For statics: a name of
    /// more than 15 bytes does not compile.
    ///
    /// `ops` are in the order of their commands, of one command the `doit` first. Validation may be
    /// liberal for commands up to `old_commands` only.
    pub(crate) const fn new(
        module: &ThisModule,
        name: &str,
        version: u8,
        old_commands: u8,
        ops: &'static [Op],
    ) -> Self {
        let mut maxattr = 0;
        let mut rest = ops;
        while let [op, others @ ..] = rest {
            if maxattr < op.0.maxattr {
                maxattr = op.0.maxattr;
            }
            rest = others;
        }
        let mut family = bindings::genl_family {
            version: version as c_uint,
            maxattr,
            resv_start_op: if old_commands > 0 {
                old_commands.saturating_add(1)
            } else {
                0
            },
            split_ops: ops.as_ptr().cast(),
            n_split_ops: ops.len() as u8,
            module: module.as_ptr(),
            ..pin_init::zeroed()
        };
        // The accessors of a bit field are not const. Bit 0 is netnsok, bit 1 is parallel_ops. Our
        // own bindings have a bit field type too, another one.
        let bits = u8::from_le(1 << 0 | 1 << 1);
        // SAFETY: A unit of one byte is a newtype of that byte.
        family._bitfield_1 = unsafe {
            core::mem::transmute::<u8, kernel::bindings::__BindgenBitfieldUnit<[u8; 1]>>(bits)
        };
        let mut name = name.as_bytes();
        assert!(name.len() < family.name.len());
        let mut room = family.name.as_mut_slice();
        while let ([byte, bytes @ ..], [place, places @ ..]) = (name, room) {
            *place = *byte as c_char;
            (name, room) = (bytes, places);
        }
        Self(Opaque::new(family))
    }

    /// Makes the family known. `EEXIST` if there is one of that name. Process context.
    pub(crate) fn register(&'static self) -> Result<Registration> {
        // SAFETY: The family is static, and so is all that it points to.
        to_result(unsafe { bindings::genl_register_family(self.0.get()) })?;
        // INVARIANT: It was just registered.
        Ok(Registration(self))
    }
}

/// A family that is known; it is forgotten when this is dropped, and no request is in hand then.
///
/// # Invariants
///
/// The family is registered, and by this object alone.
pub(crate) struct Registration(&'static Family);

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::genl_unregister_family(self.0 .0.get()) };
    }
}
