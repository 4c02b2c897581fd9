//! Scale sets: create, find, change, delete; and what is asked for in the name of one.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{delete, get, patch, post};
use http::StatusCode;
use jiff::Timestamp;

use super::Server;
use super::failure::{Failure, Part, answer, bare, json};
use super::state::{SetId, State};
use crate::arc::wire::{IDEMPOTENCY_KEY, Listed, RUNNER_GROUPS, RunnerGroup, SCALE_SETS, ScaleSet, Session};
use crate::call::Call;
use crate::http::path_of;

pub(super) fn routes(server: &Server) -> Router<Server> {
    let base = path_of(&server.0.parameters.addresses.service);
    let sets = format!("{base}/{SCALE_SETS}");
    Router::new()
        .route(&format!("{base}/{RUNNER_GROUPS}"), get(groups))
        .route(&sets, get(find).post(create))
        .route(&format!("{sets}/{{set}}"), get(show).patch(change).delete(remove))
        .route(&format!("{sets}/{{set}}/sessions"), post(create_session))
        .route(&format!("{sets}/{{set}}/sessions/{{session}}"), patch(refresh_session).delete(delete_session))
        .route(&format!("{sets}/{{set}}/acquirejobs"), post(acquire))
        .route(&format!("{base}/message/{{set}}"), get(poll))
        .route(&format!("{base}/message/{{set}}/{{message}}"), delete(acknowledge))
}

/// The one group that there is.
const DEFAULT_GROUP: &str = "Default";

async fn groups(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        state.administrator(&call, now)?;
        let wanted = call.query("groupName").unwrap_or(DEFAULT_GROUP);
        let default = RunnerGroup { id: 1, name: DEFAULT_GROUP.into(), size: 0, is_default_group: true };
        let groups = if wanted.eq_ignore_ascii_case(DEFAULT_GROUP) { vec![default] } else { Vec::new() };
        Ok(Listed::from(groups))
    });
    answer(Part::Service, found.map(|groups| json(StatusCode::OK, &groups)))
}

async fn find(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        state.administrator(&call, now)?;
        let named = |set: &&super::state::ScaleSet| call.query("name").is_none_or(|name| *set.name.0 == *name);
        let ids: Vec<SetId> = state.sets.values().filter(named).map(|set| set.id).collect();
        let sets: Vec<ScaleSet> = ids.into_iter().map(|id| state.shown(id)).collect();
        Ok(Listed::from(sets))
    });
    answer(Part::Service, found.map(|sets| json(StatusCode::OK, &sets)))
}

async fn create(Store(server): Store<Server>, call: Call) -> Response {
    let created = server.with(|state, now| {
        state.administrator(&call, now)?;
        let asked: ScaleSet = call.json()?;
        if asked.name.is_empty() {
            return Err(crate::call::BadBody::WrongShape("a runner scale set has a name".into()).into());
        }
        if state.set_named(&asked.name).is_some() {
            return Err(Failure::ScaleSetExists(asked.name));
        }
        let id = state.add_set(asked, now);
        Ok(state.shown(id))
    });
    answer(Part::Service, created.map(|set| json(StatusCode::OK, &set)))
}

async fn show(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        let id = state.administered(&call, now)?;
        Ok(state.shown(id))
    });
    answer(Part::Service, found.map(|set| json(StatusCode::OK, &set)))
}

async fn change(Store(server): Store<Server>, call: Call) -> Response {
    let changed = server.with(|state, now| {
        let id = state.administered(&call, now)?;
        let asked: ScaleSet = call.json()?;
        let known = state.sets.get_mut(&id).expect("it was just found");
        known.wire.runner_setting = asked.runner_setting;
        if !asked.labels.is_empty() {
            known.wire.labels = asked.labels;
        }
        Ok(state.shown(id))
    });
    answer(Part::Service, changed.map(|set| json(StatusCode::OK, &set)))
}

async fn remove(Store(server): Store<Server>, call: Call) -> Response {
    let removed = server.with(|state, now| {
        let id = state.administered(&call, now)?;
        state.remove_set(id);
        Ok(bare(StatusCode::NO_CONTENT))
    });
    answer(Part::Service, removed)
}

async fn create_session(Store(server): Store<Server>, call: Call) -> Response {
    let opened = server.with(|state, now| {
        let set = state.administered(&call, now)?;
        let asked: Session = call.json()?;
        let key = call.header(IDEMPOTENCY_KEY).map(str::to_owned);
        state.open_session(set, asked.owner_name, key, now)
    });
    answer(Part::Service, opened.map(|session| json(StatusCode::OK, &session)))
}

async fn refresh_session(Store(server): Store<Server>, call: Call) -> Response {
    let refreshed = server.with(|state, now| {
        let set = state.administered(&call, now)?;
        state.refresh_session(set, call.parameter("session"), now)
    });
    answer(Part::Service, refreshed.map(|session| json(StatusCode::OK, &session)))
}

async fn delete_session(Store(server): Store<Server>, call: Call) -> Response {
    let deleted = server.with(|state, now| {
        let set = state.administered(&call, now)?;
        state.delete_session(set, call.parameter("session"))
    });
    answer(Part::Service, deleted.map(|()| bare(StatusCode::NO_CONTENT)))
}

async fn poll(Store(server): Store<Server>, call: Call) -> Response {
    let polled = server.poll(&call).await;
    let told = |message: Option<_>| message.map_or_else(|| bare(StatusCode::ACCEPTED), |m| json(StatusCode::OK, &m));
    answer(Part::Service, polled.map(told))
}

async fn acknowledge(Store(server): Store<Server>, call: Call) -> Response {
    let done = server.with(|state, now| {
        let (set, _) = state.caller(&call, now)?;
        state.acknowledge(set, call.parameter("message"))
    });
    answer(Part::Service, done.map(|()| bare(StatusCode::NO_CONTENT)))
}

async fn acquire(Store(server): Store<Server>, call: Call) -> Response {
    let acquired = server.with(|state, now| {
        let (set, _) = state.caller(&call, now)?;
        let asked: Vec<i64> = call.json()?;
        if call.number("set") != Some(set) {
            return Err(Failure::ScaleSetNotFound(call.parameter("set").to_owned()));
        }
        Ok(state.acquire(set, &asked, now))
    });
    answer(Part::Service, acquired.map(|ids| json(StatusCode::OK, &ids)))
}

impl State {
    /// The set that an administrator's call names.
    pub(super) fn administered(&self, call: &Call, now: Timestamp) -> Result<SetId, Failure> {
        self.administrator(call, now)?;
        let known = call.number("set").filter(|id| self.sets.contains_key(id));
        known.ok_or_else(|| Failure::ScaleSetNotFound(call.parameter("set").to_owned()))
    }

    /// A set, as clients see it.
    pub(super) fn shown(&self, id: SetId) -> ScaleSet {
        let set = &self.sets[&id];
        ScaleSet { statistics: Some(self.statistics(set)), ..set.wire.clone() }
    }
}
