//! The code's own log lines in the trace: a layer of `tracing` that adds simulated time and the node that runs.

use std::fmt::{self, Write};
use std::sync::{Arc, Weak};

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::What;
use crate::world::{Inner, World};

/// Libraries below the seams; what they do is in the trace by itself.
const LIBRARIES: [&str; 5] = ["h2", "hyper", "hyper_util", "madsim", "tower"];

/// Runs `work`; what it logs goes into the world's trace if that keeps events, and otherwise wherever it would go.
pub(crate) fn heard<T>(world: &World, work: impl FnOnce() -> T) -> T {
    if !world.inner.trace.keeps_events() {
        return work();
    }
    let subscriber = tracing_subscriber::registry().with(ToTrace { world: Arc::downgrade(&world.inner) });
    tracing::subscriber::with_default(subscriber, work)
}

/// It does not keep its world: `tracing` knows every subscriber of the process, and another thread that looks at all of
/// them may be the last to let go of this one.
struct ToTrace {
    world: Weak<Inner>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ToTrace {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG && !is_library(metadata.target())
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let Some(inner) = self.world.upgrade() else { return };
        let world = World { inner };
        world.inner.trace.note(world.now(), world.running_node(), || {
            let mut line = Line::default();
            event.record(&mut line);
            let level = event.metadata().level().as_str().to_ascii_lowercase();
            What::Log { level, message: line.message + &line.fields }
        });
    }
}

fn is_library(target: &str) -> bool {
    let of_crate = target.split("::").next().unwrap_or(target);
    LIBRARIES.contains(&of_crate)
}

/// A log line being put together: its message first, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("writing into a string never fails");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use squall_protocol::Clock;

    use crate::time::SimTime;
    use crate::trace::{Keep, NodeId, What};
    use crate::world::{self, Ended};

    fn talkative(keep: Keep) -> Ended {
        world::run(1, keep, SimTime::from_secs(60), |world| {
            let clock = world.node("runner").clock();
            world.find("runner").expect("just added").start("agent", |_| async move {
                clock.sleep(Duration::from_secs(5)).await;
                tracing::warn!(attempt = 3, name = "a", "session lost");
                tracing::trace!("too fine for a reader");
                tracing::debug!(target: "h2::proto", "below the seams");
            });
        })
    }

    #[test]
    fn a_log_line_has_its_node_and_simulated_time() {
        let ended = talkative(Keep::Events);
        let told: Vec<_> = ended.events.iter().filter(|event| matches!(event.what, What::Log { .. })).collect();
        let [line] = told.as_slice() else { panic!("one line, not {told:?}") };
        assert_eq!((line.at, line.node), (SimTime::from_secs(5), NodeId(1)));
        let message = "session lost attempt=3 name=a".to_owned();
        assert_eq!(line.what, What::Log { level: "warn".to_owned(), message });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the thread belongs to no world")]
    fn a_world_ends_on_its_own_thread_whoever_knows_its_subscriber() {
        let mut known = None;
        world::run(1, Keep::Events, SimTime::from_secs(1), |world| {
            known = Some(super::heard(world, || tracing::dispatcher::get_default(Clone::clone)));
        });
        std::thread::spawn(move || drop(known)).join().expect("nothing of a world is dropped there");
    }

    #[test]
    fn logging_changes_no_digest() {
        assert_eq!(talkative(Keep::Events).digest, talkative(Keep::Digest).digest);
    }
}
