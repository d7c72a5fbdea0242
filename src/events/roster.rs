//! Who is connected, as this node knows it. The same is kept in Redis, for the node that tells of
//! the end of this one; where Redis has lost it, it is written anew from here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::bus::Keys;
use crate::ids::ClientId;
use crate::limits::EVENTS_BATCH_MAX;
use crate::mesh::{AppEvent, EventKind};
use crate::redis::{Link, LinkError};

/// A hash: the clients of a node, with their users.
pub(super) fn key(keys: &Keys, uid: &str) -> Vec<u8> {
    keys.other(&format!("roster:{uid}"))
}

/// The sessions that live.
pub(super) struct Roster {
    key: Vec<u8>,
    /// Each with its user; as many as the node may have connections.
    sessions: RefCell<HashMap<ClientId, Box<str>>>,
    /// All are to be written.
    is_due: Cell<bool>,
}

/// Changes of what Redis has, by a batch of events.
#[derive(Default)]
pub(super) struct Changes {
    /// Clients and users in turn.
    pub(super) begun: Vec<Vec<u8>>,
    /// Clients.
    pub(super) ended: Vec<Vec<u8>>,
}

impl Changes {
    /// Takes the next event of the batch.
    pub(super) fn note(&mut self, event: &AppEvent) {
        let Some(client) = event.client.map(|client| client.to_string().into_bytes()) else {
            return;
        };
        match event.kind {
            EventKind::Connect => self.begun.extend([client, event.user.as_bytes().to_vec()]),
            EventKind::Disconnect => self.ended.push(client),
            _ => {}
        }
    }
}

impl Roster {
    /// Nobody yet; Redis has it under `key`.
    pub(super) fn new(key: Vec<u8>) -> Roster {
        Roster { key, sessions: RefCell::default(), is_due: Cell::new(false) }
    }

    /// Whether all sessions are to be written.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.get()
    }

    /// Has all sessions written.
    pub(super) fn set_due(&self) {
        self.is_due.set(true);
    }

    /// Notes that a session has begun or ended.
    pub(super) fn note(&self, event: &AppEvent, sessions_max: usize) {
        let Some(client) = event.client else { return };
        let mut sessions = self.sessions.borrow_mut();
        match event.kind {
            // Those whose end a shard has dropped stay, and take others' places.
            EventKind::Connect if sessions.len() < sessions_max => {
                sessions.insert(client, event.user.clone());
            }
            EventKind::Disconnect => {
                sessions.remove(&client);
            }
            _ => {}
        }
    }

    /// Names and users in turn, of those of `clients` that live.
    fn fields(&self, clients: &[ClientId]) -> Vec<Vec<u8>> {
        let sessions = self.sessions.borrow();
        let living = clients.iter().filter_map(|client| Some((client, sessions.get(client)?)));
        living
            .flat_map(|(id, user)| [id.to_string().into_bytes(), user.as_bytes().into()])
            .collect()
    }

    /// Writes all sessions into Redis if they are due. Nobody else may write there meanwhile, or
    /// sessions that have ended would come back.
    pub(super) async fn write_if_due(&self, link: &Link) -> Result<(), LinkError> {
        if !self.is_due.replace(false) {
            return Ok(());
        }
        let clients: Vec<ClientId> = self.sessions.borrow().keys().copied().collect();
        for page in clients.chunks(EVENTS_BATCH_MAX) {
            let fields = self.fields(page);
            if let Err(error) = self.add(link, fields).await {
                self.is_due.set(true);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Adds clients, with their users in turn, to what Redis has.
    pub(super) async fn add(&self, link: &Link, fields: Vec<Vec<u8>>) -> Result<(), LinkError> {
        self.change(link, "HSET", fields).await
    }

    /// Drops clients from what Redis has.
    pub(super) async fn drop_ended(
        &self,
        link: &Link,
        clients: Vec<Vec<u8>>,
    ) -> Result<(), LinkError> {
        self.change(link, "HDEL", clients).await
    }

    /// Removes all that Redis has; if that fails, nobody misses this node any more.
    pub(super) async fn remove(&self, link: &Link) {
        link.call("DEL", &self.key, vec![self.key.clone()]).await.map(drop).unwrap_or_default();
    }

    async fn change(
        &self,
        link: &Link,
        command: &'static str,
        fields: Vec<Vec<u8>>,
    ) -> Result<(), LinkError> {
        if fields.is_empty() {
            return Ok(());
        }
        let args = std::iter::once(self.key.clone()).chain(fields).collect();
        link.call(command, &self.key, args).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Moment;

    #[test]
    fn sessions_are_known_from_their_beginning_to_their_end_up_to_a_limit() {
        let roster = Roster::new(Vec::new());
        let ids: Vec<_> = (1..4).map(ClientId::from_raw).collect();
        let note = |kind, id| {
            let mut event = AppEvent::new(kind, Moment::default());
            (event.client, event.user) = (Some(id), "u".into());
            roster.note(&event, 2);
        };
        ids.iter().for_each(|id| note(EventKind::Connect, *id));
        assert_eq!(roster.fields(&ids).len(), 4, "two of them");
        note(EventKind::Message, ids[0]);
        note(EventKind::Disconnect, ids[0]);
        let expected = [ids[1].to_string().into_bytes(), b"u".to_vec()];
        assert_eq!(roster.fields(&ids), expected);
    }
}
