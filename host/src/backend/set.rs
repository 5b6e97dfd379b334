//! The backends of one manager, and which of them a daemon's configuration names.

use std::{collections::HashMap, path::Path, sync::Arc};

use duende_core::wire::link::Address;
use tokio::sync::mpsc;

use super::{
    Ask, Heard, Place,
    native::{Links, Native},
    wos::Wos,
};
use crate::{
    config::{DaemonConfig, FleetConfig, Isolation},
    manager::link::{
        peer::{LinkId, NewsSender, Settled},
        prepare::Prepared,
    },
    store::Store,
};

/// The place that a daemon's configuration names.
#[must_use]
pub(crate) const fn place_of(config: &DaemonConfig) -> Place {
    match config.isolation {
        Isolation::Native(_) => Place::Native,
        Isolation::Wos(_) => Place::Wos,
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Backends {
    native: Native,
    wos: Wos,
    /// What was heard without being waited for: bounded by what was asked for.
    heard: mpsc::UnboundedReceiver<Heard>,
    store: Arc<Store>,
    news: NewsSender,
    /// Which incarnation has a link of its own.
    owners: HashMap<LinkId, Address>,
    last_link: u64,
}

impl Backends {
    pub(crate) fn new(
        fleet: &FleetConfig,
        notify: Option<&Path>,
        store: Arc<Store>,
        news: NewsSender,
    ) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        Self {
            native: Native::new(fleet, notify, sender.clone()),
            wos: Wos::new(fleet, sender),
            heard,
            store,
            news,
            owners: HashMap::new(),
            last_link: 0,
        }
    }

    /// Starts an incarnation; what comes of it is heard. Gives what settles when everything that it
    /// committed is in the store's hands, if it can commit anything.
    pub(crate) fn start(
        &mut self,
        at: Address,
        config: &DaemonConfig,
        version: u64,
        prepared: Option<Prepared>,
    ) -> Option<Settled> {
        let Self { native, wos, store, news, owners, last_link, .. } = self;
        let mut links = Links { store, news, owners, last: last_link };
        match place_of(config) {
            Place::Native => native.start(at, config, version, prepared, &mut links),
            Place::Wos => wos.start(at, config, prepared?, &mut links),
        }
    }

    /// Begins a place before anything is to start there, as its beginning takes a while.
    pub(crate) fn prepare(&mut self, place: Place) {
        let Self { wos, store, news, owners, last_link, .. } = self;
        let mut links = Links { store, news, owners, last: last_link };
        if place == Place::Wos {
            // A start that needs it says what is wrong.
            let _ = wos.ensure(&mut links);
        }
    }

    pub(crate) fn ask(&mut self, at: Address, ask: Ask, config: &DaemonConfig) {
        match place_of(config) {
            Place::Native => self.native.ask(at, ask, config),
            Place::Wos => self.wos.ask(at, ask, config),
        }
    }

    pub(crate) fn ask_place(&mut self, place: Place) {
        match place {
            Place::Native => self.native.ask_place(),
            // Its link tells of ends, and the probes over it show a hang: the machine does not ask.
            Place::Wos => {}
        }
    }

    pub(crate) fn end_place(&mut self, place: Place) {
        match place {
            Place::Native => self.native.end_place(),
            Place::Wos => self.wos.end_place(),
        }
    }

    pub(crate) fn let_go(&mut self, at: Address) {
        self.owners.retain(|_, owner| *owner != at);
        self.native.let_go(at);
        self.wos.let_go(at);
    }

    /// A link is closed.
    pub(crate) fn link_closed(&mut self, link: LinkId, reason: Option<String>) {
        if let Some(at) = self.owners.remove(&link) {
            self.native.link_closed(at, reason);
        } else {
            self.wos.link_closed(link, reason);
        }
    }

    /// The process of this machine that is a place.
    pub(crate) fn pid(&self, place: Place) -> Option<u32> {
        match place {
            Place::Native => self.native.pid(),
            Place::Wos => self.wos.pid(),
        }
    }

    /// The daemon whose process this is, if that can be seen; `name` tells the one in a slot.
    pub(crate) fn part_of(
        &self,
        pid: u32,
        name: impl Fn(u32) -> Option<String>,
    ) -> Option<Address> {
        self.native.part_of(pid, name)
    }

    /// What is heard next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            let heard = tokio::select! {
                biased;
                Some(heard) = self.heard.recv() => Some(heard),
                heard = self.native.next() => heard,
            };
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    /// The loss of a place is handled next: from now on something can start there again.
    pub(crate) fn bury(&mut self, place: Place) {
        match place {
            Place::Native => self.native.buried(),
            Place::Wos => {
                let Self { wos, store, news, owners, last_link, .. } = self;
                wos.buried(&mut Links { store, news, owners, last: last_link });
            }
        }
    }

    /// Ends every place, within a bounded time. Those that had to be killed.
    pub(crate) async fn end(&mut self) -> Vec<Place> {
        let (wos, native) = tokio::join!(self.wos.end(), self.native.end());
        let mut killed = Vec::new();
        if !native {
            killed.push(Place::Native);
        }
        if !wos {
            killed.push(Place::Wos);
        }
        killed
    }
}
