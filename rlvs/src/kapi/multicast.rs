// SPDX-License-Identifier: GPL-2.0

//! UDP sockets that send to a multicast group, or hear what is sent to one.
//!
//! Whoever hears is woken in softirq context by way of the state of the socket's namespace, so a socket
//! holds nothing that could go before it does.
//!
//! C headers: [`include/linux/net.h`](srctree/include/linux/net.h),
//! [`include/net/sock.h`](srctree/include/net/sock.h)

use super::{
    bindings,
    inet::Device,
    netns::{
        Net,
        PerNet, //
    },
    time, //
};
use core::{
    net::IpAddr,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A group at a port, behind a device.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    /// The device.
    pub(crate) device: Device,
    /// The group's address.
    pub(crate) addr: IpAddr,
    /// The port, in host order.
    pub(crate) port: u16,
}

/// The state of a namespace that wants to know when something was heard.
pub(crate) trait Listener: PerNet {
    /// A socket of the namespace has received something. Softirq context, under RCU.
    fn heard(&self);
}

/// A UDP socket; it is closed when it is dropped, in process context.
///
/// # Invariants
///
/// The pointer is a live socket from `sock_create_kern()` that we alone release.
struct Socket(NonNull<bindings::socket>);

// SAFETY: A socket has a lock of its own and belongs to no thread.
unsafe impl Send for Socket {}
// SAFETY: As above.
unsafe impl Sync for Socket {}

/// The bytes of an address, and whether they are 16.
struct Raw([u8; 16], bool);

impl Raw {
    fn new(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => {
                let [a, b, c, d] = addr.octets();
                Self([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], false)
            }
            IpAddr::V6(addr) => Self(addr.octets(), true),
        }
    }
}

impl Socket {
    /// A socket for the family of an address; its buffers hold so many bytes, or as many as usual if that
    /// is not above 0. The namespace is not kept by it: it must be closed before that goes.
    fn new(net: &Net, addr: &Raw, size: i32) -> Result<Self> {
        let mut socket = ptr::null_mut();
        // SAFETY: The namespace is valid, and the pointer may be written.
        to_result(unsafe { bindings::rlvs_udp_socket(net.as_ptr(), addr.1, &raw mut socket) })?;
        // INVARIANT: It was just made, for us.
        let this = Self(NonNull::new(socket).ok_or(ENOMEM)?);
        if size > 0 {
            // SAFETY: By the type invariants.
            unsafe { bindings::rlvs_sock_size(this.0.as_ptr(), size) };
        }
        Ok(this)
    }

    fn bind(&self, addr: &Raw, port: u16) -> Result {
        // SAFETY: By the type invariants; an address has the bytes that it says.
        to_result(unsafe {
            bindings::rlvs_sock_bind(self.0.as_ptr(), addr.1, addr.0.as_ptr(), port)
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::sock_release(self.0.as_ptr()) };
    }
}

/// How long a send waits for room in the socket's buffer, in jiffies.
const PATIENCE: isize = time::HZ as isize;

/// A socket that sends to a group.
pub(crate) struct Sender(Socket);

impl Sender {
    /// A socket whose datagrams live for so many hops. Process context, without the routing lock (RTNL).
    pub(crate) fn new(net: &Net, group: &Group, hops: u8, size: i32) -> Result<Self> {
        let addr = Raw::new(group.addr);
        let socket = Socket::new(net, &addr, size)?;
        // SAFETY: By the type invariants.
        unsafe {
            bindings::rlvs_sock_send_by(socket.0.as_ptr(), group.device.index, hops);
            bindings::rlvs_sock_patience(socket.0.as_ptr(), PATIENCE);
        }
        if group.addr.is_ipv4() {
            // SAFETY: The namespace is valid.
            let own = unsafe { bindings::rlvs_device_addr(net.as_ptr(), group.device.index) };
            let own = IpAddr::from(own.to_ne_bytes());
            socket.bind(&Raw::new(own), 0)?;
        }
        // SAFETY: By the type invariants; an address has the bytes that it says.
        to_result(unsafe {
            bindings::rlvs_sock_connect(socket.0.as_ptr(), addr.1, addr.0.as_ptr(), group.port)
        })?;
        Ok(Self(socket))
    }

    /// Sends a datagram; waits for a while if there is no room. Process context.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result {
        // SAFETY: By the type invariants; the bytes are valid for the call.
        to_result(unsafe {
            bindings::rlvs_sock_send(self.0 .0.as_ptr(), bytes.as_ptr(), bytes.len())
        })
    }
}

/// A socket that hears what is sent to a group.
pub(crate) struct Receiver(Socket);

impl Receiver {
    /// A socket that tells `T` of the namespace whenever there is something to [`receive`](Self::receive).
    /// Process context, without the routing lock (RTNL).
    pub(crate) fn new<T: Listener>(net: &Net, group: &Group, size: i32) -> Result<Self> {
        let addr = Raw::new(group.addr);
        let socket = Socket::new(net, &addr, size)?;
        // SAFETY: By the type invariants. The callback may be called for as long as its text is there: a
        // grace period passes between the release of the socket and the end of the module, which comes
        // behind that of the namespace's state.
        unsafe {
            bindings::rlvs_sock_hear_by(socket.0.as_ptr(), group.device.index, Some(ready::<T>));
        }
        socket.bind(&addr, group.port)?;
        // SAFETY: By the type invariants; an address has the bytes that it says.
        to_result(unsafe {
            bindings::rlvs_sock_join(
                socket.0.as_ptr(),
                group.device.index,
                addr.1,
                addr.0.as_ptr(),
            )
        })?;
        Ok(Self(socket))
    }

    /// The next datagram, as much of it as there is room for; `None` if there is none. Does not wait.
    /// Process context.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        // SAFETY: By the type invariants; the buffer may be written, and so many bytes long.
        let len = unsafe {
            bindings::rlvs_sock_receive(self.0 .0.as_ptr(), buffer.as_mut_ptr(), buffer.len())
        };
        buffer.get(..usize::try_from(len).ok()?)
    }
}

/// # Safety
///
/// Called by the network core for a live socket that [`Receiver::new`] has made.
unsafe extern "C" fn ready<T: Listener>(sk: *mut bindings::sock) {
    // SAFETY: By the contract of this function; a socket goes before its namespace.
    let net = unsafe { Net::from_raw(bindings::rlvs_sock_net(sk)) };
    if let Some(listener) = T::of(net) {
        listener.heard();
    }
}
