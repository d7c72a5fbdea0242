//! The connected clients of this node. Redis has a copy for the node that may report the end of
//! this one. If Redis loses the copy, this node writes it again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::bus::Keys;
use crate::ids::ClientId;
use crate::limits::EVENTS_BATCH_MAX;
use crate::mesh::{AppEvent, EventKind};
use crate::redis::{Link, LinkError};

/// A hash with the clients of a node and their users.
pub(super) fn key(keys: &Keys, uid: &str) -> Vec<u8> {
    keys.other(&format!("roster:{uid}"))
}

/// Sessions that are connected.
pub(super) struct Roster {
    key: Vec<u8>,
    /// Users by client id. There are at most as many as the node may have connections.
    sessions: RefCell<HashMap<ClientId, Box<str>>>,
    /// Whether all sessions must be written to Redis.
    is_due: Cell<bool>,
}

/// Changes that a batch of events makes to the copy in Redis.
#[derive(Default)]
pub(super) struct Changes {
    /// Client ids and users, which alternate.
    pub(super) begun: Vec<Vec<u8>>,
    /// Client ids.
    pub(super) ended: Vec<Vec<u8>>,
}

impl Changes {
    /// Adds the next event of the batch.
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
    /// Creates an empty roster. Redis has its copy under `key`.
    pub(super) fn new(key: Vec<u8>) -> Roster {
        Roster { key, sessions: RefCell::default(), is_due: Cell::new(false) }
    }

    /// Whether all sessions must be written.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.get()
    }

    /// Requests that all sessions be written.
    pub(super) fn set_due(&self) {
        self.is_due.set(true);
    }

    /// Records the beginning or the end of a session.
    pub(super) fn note(&self, event: &AppEvent, sessions_max: usize) {
        let Some(client) = event.client else { return };
        let mut sessions = self.sessions.borrow_mut();
        match event.kind {
            // If a shard has dropped the end of a session, the session stays, and takes the place
            // of another.
            EventKind::Connect if sessions.len() < sessions_max => {
                sessions.insert(client, event.user.clone());
            }
            EventKind::Disconnect => {
                sessions.remove(&client);
            }
            _ => {}
        }
    }

    /// Returns ids and users, which alternate, of those `clients` that are still connected.
    fn fields(&self, clients: &[ClientId]) -> Vec<Vec<u8>> {
        let sessions = self.sessions.borrow();
        let living = clients.iter().filter_map(|client| Some((client, sessions.get(client)?)));
        living
            .flat_map(|(id, user)| [id.to_string().into_bytes(), user.as_bytes().into()])
            .collect()
    }

    /// Writes all sessions to Redis, if that was requested. No other task may write there
    /// meanwhile, because sessions that have ended would be added again.
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

    /// Adds clients and their users, which alternate, to the copy in Redis.
    pub(super) async fn add(&self, link: &Link, fields: Vec<Vec<u8>>) -> Result<(), LinkError> {
        self.change(link, "HSET", fields).await
    }

    /// Removes clients from the copy in Redis.
    pub(super) async fn drop_ended(
        &self,
        link: &Link,
        clients: Vec<Vec<u8>>,
    ) -> Result<(), LinkError> {
        self.change(link, "HDEL", clients).await
    }

    /// Removes the copy in Redis. If that fails, no harm is done, because no node reports a node
    /// that has left.
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
