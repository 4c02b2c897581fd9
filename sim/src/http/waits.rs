//! How long clients wait for bytes that do not come. A long wait becomes a fact when it ends, or with the run.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use squall_protocol::Fact;

use super::client::Client;
use super::pool::ServerId;
use crate::one_thread::OneThread;
use crate::time::SimTime;
use crate::trace::NodeId;
use crate::world::World;

/// Shorter waits are told to nobody: a server may hold a poll for most of a minute.
const LONG: Duration = Duration::from_secs(60);

/// The waits of all clients of a world.
#[derive(Default)]
pub(crate) struct Waits(OneThread<Open>);

#[derive(Default)]
struct Open {
    waits: Vec<Option<Wait>>,
    free: Vec<usize>,
}

struct Wait {
    node: NodeId,
    server: Authority,
    since: SimTime,
}

impl Waits {
    fn begin(&self, wait: Wait) -> usize {
        let mut open = self.0.borrow_mut();
        match open.free.pop() {
            Some(place) => {
                open.waits[place] = Some(wait);
                place
            }
            None => {
                open.waits.push(Some(wait));
                open.waits.len() - 1
            }
        }
    }

    fn end(&self, place: usize) -> Option<Wait> {
        let mut open = self.0.borrow_mut();
        let wait = open.waits.get_mut(place)?.take()?;
        open.free.push(place);
        Some(wait)
    }

    /// Ends what is still waited for at the end of a run.
    pub(crate) fn end_all(&self, world: &World) {
        let open = std::mem::take(&mut *self.0.borrow_mut());
        open.waits.into_iter().flatten().for_each(|wait| tell(world, wait));
    }
}

/// A client's wait for the next bytes of an answer; its end ends it.
pub(super) struct Waiting {
    client: Arc<Client>,
    place: usize,
}

impl Waiting {
    pub(super) fn begin(client: &Arc<Client>, server: ServerId) -> Self {
        let server = client.pool.borrow_mut().authority(server).clone();
        let world = client.node.world();
        let wait = Wait { node: client.node.id(), server, since: world.now() };
        Self { client: client.clone(), place: world.inner.waits.begin(wait) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let world = self.client.node.world();
        if let Some(wait) = world.inner.waits.end(self.place) {
            tell(world, wait);
        }
    }
}

fn tell(world: &World, Wait { node, server, since }: Wait) {
    let waited = world.now().since(since);
    if waited > LONG {
        let client = world.node_name(node).into();
        let (server, millis) = (server.host().to_owned(), waited.as_millis() as u64);
        world.inner.journal.record(node, Fact::ClientWaited { client, server, millis });
    }
}
