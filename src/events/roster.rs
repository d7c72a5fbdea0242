//! Who is connected, as this node knows it. The same is kept in Redis, for the node that tells of
//! the end of this one; where Redis has lost it, it is written anew from here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::Bridge;
use super::link::{Link, LinkError};
use crate::ids::ClientId;
use crate::limits::EVENTS_BATCH_MAX;
use crate::mesh::{AppEvent, EventKind};

/// The sessions that live.
#[derive(Default)]
pub(super) struct Roster {
    /// Each with its user; as many as the node may have connections.
    sessions: RefCell<HashMap<ClientId, Box<str>>>,
    /// All are to be written.
    pub(super) is_due: Cell<bool>,
}

impl Roster {
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
}

/// Writes all sessions into Redis if they are due. Nobody else may write there meanwhile, or who
/// has left would come back.
pub(super) async fn write(bridge: &Bridge, link: &Link) -> Result<(), LinkError> {
    let roster = &bridge.events.roster;
    if !roster.is_due.get() {
        return Ok(());
    }
    roster.is_due.set(false);
    let key = bridge.roster_key(&bridge.nodes.member.uid);
    let clients: Vec<ClientId> = roster.sessions.borrow().keys().copied().collect();
    for page in clients.chunks(EVENTS_BATCH_MAX) {
        let fields = roster.fields(page);
        if fields.is_empty() {
            continue;
        }
        let args = std::iter::once(key.clone()).chain(fields).collect();
        if let Err(error) = link.call("HSET", &key, args).await {
            roster.is_due.set(true);
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Moment;

    #[test]
    fn sessions_are_known_from_their_beginning_to_their_end_up_to_a_limit() {
        let roster = Roster::default();
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
