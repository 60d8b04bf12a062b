// SPDX-License-Identifier: GPL-2.0

//! Network devices that go.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::{
    bindings,
    netns::Net, //
};
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    types::Opaque, //
};

/// Who wants to know of devices that go.
pub(crate) trait Watcher: 'static {
    /// A device of the namespace is going, and waits for who holds it; called again each second
    /// while it does. Process context, under the lock of network configuration.
    fn gone(net: &Net);
}

/// A notifier, for a static.
pub(crate) struct Watch<T> {
    block: Opaque<bindings::notifier_block>,
    _watcher: PhantomData<T>,
}

// SAFETY: `block` is the kernel's once registered and not touched by us.
unsafe impl<T: Watcher> Sync for Watch<T> {}

/// A registered notifier; dropping it ends that.
pub(crate) struct Registration<T: Watcher>(&'static Watch<T>);

impl<T: Watcher> Watch<T> {
    /// A notifier that is not registered yet.
    pub(crate) const fn new() -> Self {
        Self {
            block: Opaque::zeroed(),
            _watcher: PhantomData,
        }
    }

    /// Hears of the devices of all namespaces from now on. Once at a time; process context.
    pub(crate) fn register(&'static self) -> Result<Registration<T>> {
        let block = bindings::notifier_block {
            notifier_call: Some(Self::call),
            ..Default::default()
        };
        // SAFETY: Nobody uses `block` before it is registered, which happens once at a time.
        unsafe { self.block.get().write(block) };
        // SAFETY: `block` is static and filled in.
        to_result(unsafe { bindings::register_netdevice_notifier(self.block.get()) })?;
        Ok(Registration(self))
    }

    /// # Safety
    ///
    /// Called by the notifier chain of devices.
    unsafe extern "C" fn call(
        _block: *mut bindings::notifier_block,
        event: c_ulong,
        info: *mut c_void,
    ) -> c_int {
        // CAST: The chain widens these small numbers.
        if event == bindings::netdev_cmd_NETDEV_UNREGISTER as c_ulong {
            // SAFETY: The chain passes a device of a namespace that is there.
            let net = unsafe { Net::from_raw(bindings::rlvs_netdev_event_net(info)) };
            T::gone(net);
        }
        // NOTIFY_DONE
        0
    }
}

impl<T: Watcher> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: The object exists, so the notifier is registered.
        unsafe { bindings::unregister_netdevice_notifier(self.0.block.get()) };
    }
}
