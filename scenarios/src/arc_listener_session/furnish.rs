//! The world of a case: the service with its fronts, the cluster, the listeners' pods, and the workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_protocol::arc::agent::{self, Configuration};
use squall_protocol::arc::choices::{SpecChange, SpecDrift};
use squall_protocol::arc::cluster::Cluster;
use squall_protocol::arc::controller::{DRAINED, Eviction, GRACE, RECREATION};
use squall_protocol::arc::server::Server;
use squall_protocol::arc::{Choices, PodController};
use squall_protocol::effect::OnEffect;
use squall_protocol::facts::Job as JobName;
use squall_protocol::line::{Line, SharedRandom};
use squall_sim::fault::Phase;
use squall_sim::service::Service;
use squall_sim::{SimTime, World};

use super::pods::Pods;
use super::{FRONTS, Job, Parameters, SERVICE, Set, Workload};

/// Faults of this system.
pub(super) const SYSTEM_FAULTS: &[(&str, &str)] = &[
    ("credentials-refused", "The credentials of a listener are refused."),
    ("tokens-revoked", "Every token of a listener becomes invalid."),
    ("scale-set-store-lost", "The service loses a listener's scale set."),
    ("statistics-missing", "Messages lack their statistics."),
    ("novel-message", "A message of a type that is new comes."),
    ("pod-evicted", "A listener's pod is evicted."),
    ("spec-drift", "Somebody else changes the labels of a listener's pod over and over."),
];

/// The port of every front.
const PORT: u16 = 80;
/// How often the other one changes the labels of a pod that the controller has just made.
const DRIFT: Duration = Duration::from_secs(5);

/// A listener as the world sees it.
#[derive(Clone)]
struct Pod {
    set: String,
    service: Service,
    evicted: Eviction,
}

pub(super) fn furnish(world: &World, choices: Choices, parameters: Parameters, workload: Workload) {
    let (server, cluster) = start_service(world, &choices, &parameters);
    let jobs: Arc<BTreeMap<JobName, Job>> =
        Arc::new(workload.jobs.iter().map(|job| (job.name.as_str().into(), job.clone())).collect());
    let mut pods = BTreeMap::new();
    for set in &parameters.sets {
        cluster.add_set(&set.name);
        let runners = Pods {
            world: world.clone(),
            server: server.clone(),
            cluster: cluster.clone(),
            jobs: jobs.clone(),
            idle_removal: choices.idle_removal,
        };
        world.spawn("controller of runners", runners.control(set.name.clone()));
        pods.insert(set.name.clone(), start_listener(world, &server, set, &choices));
    }
    let pods = Arc::new(pods);
    carry_out_system_faults(world, &server, &choices, &pods);
    for rollout in &workload.rollouts {
        let Some(pod) = pods.get(&rollout.set).cloned() else { continue };
        let (world_of, at) = (world.clone(), SimTime::from_millis(rollout.at_ms));
        let (cluster, spec_change) = (cluster.clone(), choices.spec_change);
        world.spawn("rollout", async move {
            world_of.sleep_until(at).await;
            roll_out(&world_of, &pod, &cluster, spec_change).await;
        });
    }
    world.spawn("workload", queue(world.clone(), server, workload));
}

/// One store, and a machine for each front of it; and the cluster's API.
fn start_service(world: &World, choices: &Choices, parameters: &Parameters) -> (Server, Cluster) {
    let [github, actions, kubernetes] = FRONTS.map(|name| world.node(name));
    let server = Server::new(
        parameters.service.clone(),
        choices.policy(),
        actions.clock(),
        actions.ledger(),
        actions.random("service"),
    );
    let cluster = Cluster::new(kubernetes.ledger());
    for (front, router) in [(github, server.router()), (actions, server.router()), (kubernetes, cluster.router())] {
        front.start("http", |process| async move {
            squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
        });
    }
    let housekeeping = server.clone();
    world.spawn("housekeeping", async move { match housekeeping.housekeeping().await {} });
    (server, cluster)
}

/// Registers a scale set and starts its listener.
fn start_listener(world: &World, server: &Server, set: &Set, choices: &Choices) -> Pod {
    let credential = credential(&set.name);
    server.allow(&credential, &set.name);
    let configuration = Configuration {
        config_url: server.parameters().addresses.config.clone(),
        credential,
        scale_set: set.name.clone(),
        scale_set_id: server.register(&set.name),
        owner: format!("{}-listener", set.name),
        min_runners: set.min_runners,
        max_runners: set.max_runners,
        cluster_url: format!("http://{}", FRONTS[2]),
    };
    let evicted = Eviction::default();
    let (recreation, eviction, choices) = (choices.pod_recreation, evicted.clone(), choices.clone());
    let service = world.node(&set.name).service(
        SERVICE,
        set.name.as_str(),
        move || PodController::new(recreation, eviction.clone()),
        move |process| {
            let line =
                Line { clock: process.clock(), http: process.http(), random: SharedRandom::new(process.random()) };
            agent::run(line, choices.clone(), configuration.clone(), process.shutdown())
        },
    );
    Pod { set: set.name.clone(), service, evicted }
}

/// What the listener of a set proves itself with.
fn credential(set: &str) -> String {
    format!("ghp_{set}")
}

/// The controller deletes a pod, which has its grace period, and makes another one.
async fn replace(world: &World, pod: &Pod) {
    if take_away(world, pod).await {
        pod.service.start();
    }
}

/// The spec of the set has changed: its pod is replaced as soon as the controller lets it have one.
async fn roll_out(world: &World, pod: &Pod, cluster: &Cluster, spec_change: SpecChange) {
    if !take_away(world, pod).await {
        return;
    }
    while !spec_change.lets_listen(cluster.runners(&pod.set)) {
        world.sleep(DRAINED).await;
    }
    pod.service.start();
}

/// Deletes a pod and waits for its end. Returns whether there was to be one.
async fn take_away(world: &World, pod: &Pod) -> bool {
    let wanted = pod.service.is_wanted();
    if wanted {
        pod.service.stop(GRACE);
        while pod.service.is_running() {
            world.sleep(RECREATION).await;
        }
    }
    wanted
}

fn carry_out_system_faults(world: &World, server: &Server, choices: &Choices, pods: &Arc<BTreeMap<String, Pod>>) {
    for (name, _) in SYSTEM_FAULTS {
        let (world_of, server, pods, drift) = (world.clone(), server.clone(), pods.clone(), choices.spec_drift);
        world.on_system_fault(name, move |fault| {
            let Some(pod) = fault.target.node.as_ref().and_then(|node| pods.get(node)) else { return };
            if fault.phase == Phase::Ends {
                return;
            }
            let (effects, id) = (world_of.effects().clone(), fault.id);
            let on_effect = OnEffect::new(move || effects.count(id));
            let at_once = match *name {
                "credentials-refused" => {
                    return server.refuse_credential(&credential(&pod.set), fault.lasts, on_effect);
                }
                "tokens-revoked" => return server.revoke_tokens(&credential(&pod.set), &pod.set, &on_effect),
                "statistics-missing" => return server.lose_statistics(fault.lasts, on_effect),
                "spec-drift" => {
                    let drifts = drifts(world_of.clone(), pod.clone(), drift, fault.lasts, on_effect);
                    return world_of.spawn("drift", drifts);
                }
                "scale-set-store-lost" => server.lose_scale_set(&pod.set),
                "novel-message" => server.send_novel_message(&pod.set),
                _ => evict(pod),
            };
            if at_once {
                on_effect.tell();
            }
        });
    }
}

/// Kills a pod that runs, and says whether it did.
fn evict(pod: &Pod) -> bool {
    let running = pod.service.is_running();
    if running {
        pod.evicted.happens();
        pod.service.kill();
    }
    running
}

/// Two disagree about a label of a pod: one changes it, and the other one sees that it is not as it should be.
async fn drifts(world: World, pod: Pod, drift: SpecDrift, lasting: Duration, on_effect: OnEffect) {
    let end = world.now() + lasting;
    while world.now() < end {
        if pod.service.is_wanted() {
            on_effect.tell();
            if drift == SpecDrift::Deletes {
                replace(&world, &pod).await;
            }
        }
        world.sleep(DRIFT).await;
    }
}

async fn queue(world: World, server: Server, workload: Workload) {
    for job in &workload.jobs {
        world.sleep_until(SimTime::from_millis(job.at_ms)).await;
        server.queue_job(&job.name, &job.set);
    }
}
