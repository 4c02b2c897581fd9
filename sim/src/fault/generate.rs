//! Drawing plans. Each enables a random subset of the families, so that rare combinations come up and no family drowns
//! the others (swarm testing).

use std::ops::{Range, RangeInclusive};

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rand::RngCore;

use super::families::{FAMILIES, Family};
use super::{Direction, Fault, FaultKind, FaultPlan, PlanTree, Target, When};
use crate::random::Streams;

/// What plans may contain. As a proptest strategy it draws and shrinks them.
#[derive(Clone, Debug, Default)]
pub struct Swarm {
    /// Machines whose power, clock, disk and links faults act on.
    pub nodes: Vec<String>,
    /// Servers: the other ends of links, and where gateways are.
    pub peers: Vec<String>,
    /// Services that are killed and stopped: machine's name and own name.
    pub services: Vec<(String, String)>,
    /// Parts of paths that faults of a gateway may be confined to: the server's name and the part.
    pub routes: Vec<(String, String)>,
    /// Faults that only this system knows.
    pub system: Vec<SystemFamily>,
    /// The families to choose from, see [`families`](super::families::families). Those of `system` are always in.
    pub families: Vec<String>,
    /// When faults begin, in milliseconds of true time.
    pub begin_ms: Range<u64>,
    /// From here on no fault acts.
    pub heal_at_ms: u64,
    /// The most faults that a plan has. Half of them come in a cluster with an earlier one.
    pub faults_max: usize,
}

/// A fault that only one system knows, as plans may contain it.
#[derive(Clone, Debug)]
pub struct SystemFamily {
    /// Its name there.
    pub name: String,
    /// The nodes that it may act on; none if it acts on no node.
    pub nodes: Vec<String>,
    /// How much of it.
    pub amounts: RangeInclusive<i64>,
}

impl FaultPlan {
    /// The plan that a seed stands for, drawn from its stream `faults`.
    pub fn generate(swarm: &Swarm, seed: u64) -> Self {
        Self::generate_near(swarm, &[], seed)
    }

    /// As [`FaultPlan::generate`], for a world in which something is known to be going on at `moments_ms`: a third of the
    /// faults that do not come in a cluster begin shortly before one of these.
    pub fn generate_near(swarm: &Swarm, moments_ms: &[u64], seed: u64) -> Self {
        let mut random = Streams::new(seed).stream("faults");
        Draw { swarm, moments_ms, random: &mut random }.plan()
    }
}

impl Strategy for Swarm {
    type Tree = PlanTree;
    type Value = FaultPlan;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let seed = proptest::num::u64::ANY.new_tree(runner)?.current();
        Ok(PlanTree::of(FaultPlan::generate(self, seed)))
    }
}

/// What is drawn next: a family, or a fault of a single system.
#[derive(Clone, Copy)]
enum Source<'a> {
    Family(&'static Family),
    System(&'a SystemFamily),
}

/// Plans drawn from a generator, by integers alone.
pub(super) struct Draw<'a> {
    pub(super) swarm: &'a Swarm,
    moments_ms: &'a [u64],
    random: &'a mut dyn RngCore,
}

impl<'a> Draw<'a> {
    fn plan(&mut self) -> FaultPlan {
        let swarm = self.swarm;
        let enabled = self.enabled();
        let count = if enabled.is_empty() { 0 } else { self.below(swarm.faults_max as u64 + 1) };
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..count {
            let near = faults.last().map(|before| before.at_ms).filter(|_| self.below(2) == 0);
            faults.push(self.fault(&enabled, near));
        }
        faults.sort_by_key(|fault| fault.at_ms);
        FaultPlan { faults, heal_at_ms: swarm.heal_at_ms }
    }

    /// A coin is thrown for each family; at least one is in.
    fn enabled(&mut self) -> Vec<Source<'a>> {
        let swarm = self.swarm;
        let named = |family: &&Family| swarm.families.iter().any(|n| n == family.name);
        let general = FAMILIES.iter().filter(named).filter(|family| (family.applies)(swarm)).map(Source::Family);
        let all: Vec<Source<'a>> = general.chain(swarm.system.iter().map(Source::System)).collect();
        let enabled: Vec<Source<'a>> = all.iter().copied().filter(|_| self.below(2) == 0).collect();
        if enabled.is_empty() && !all.is_empty() { vec![self.pick(&all)] } else { enabled }
    }

    /// A fault at any time, or shortly after another one: what breaks agents is often the second trouble.
    fn fault(&mut self, enabled: &[Source<'a>], near_ms: Option<u64>) -> Fault {
        let (kind, target) = match self.pick(enabled) {
            Source::Family(family) => (family.draw)(self),
            Source::System(system) => self.system(system),
        };
        let at_ms = match near_ms {
            Some(near_ms) => self.soon_after(near_ms),
            None if !self.moments_ms.is_empty() && self.below(3) == 0 => self.shortly_before_a_moment(),
            None => self.begin_ms(),
        };
        let for_ms = match kind {
            FaultKind::Reset | FaultKind::Kill { .. } => 0,
            _ => self.duration_ms().min(self.swarm.heal_at_ms.saturating_sub(at_ms)),
        };
        Fault { kind, target, at_ms, for_ms }
    }

    fn system(&mut self, system: &SystemFamily) -> (FaultKind, Target) {
        let (first, last) = (*system.amounts.start(), *system.amounts.end());
        let amount = first.saturating_add_unsigned(self.below(last.abs_diff(first).saturating_add(1)));
        let node = if system.nodes.is_empty() { None } else { Some(self.pick_name(&system.nodes)) };
        (FaultKind::System { name: system.name.clone(), amount }, Target { node, ..Target::default() })
    }

    /// An integer below `limit`, or 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let drawn = (u128::from(self.random.next_u64()) * u128::from(limit)) >> 64;
        drawn as u64
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub(super) fn pick_name(&mut self, from: &[String]) -> String {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn begin_ms(&mut self) -> u64 {
        let Range { start, end } = self.swarm.begin_ms;
        start + self.below(end.saturating_sub(start) / BEGIN_STEP_MS) * BEGIN_STEP_MS
    }

    fn soon_after(&mut self, near_ms: u64) -> u64 {
        let scale = self.pick(&[1_000, 10_000, 60_000, 300_000]);
        let at_ms = near_ms + self.below(scale / BEGIN_STEP_MS) * BEGIN_STEP_MS;
        at_ms.min(self.swarm.begin_ms.end.saturating_sub(1)).max(self.swarm.begin_ms.start)
    }

    fn shortly_before_a_moment(&mut self) -> u64 {
        let moment_ms = self.pick(self.moments_ms);
        let scale = self.pick(&[100, 1_000, 10_000, 60_000]);
        let at_ms = moment_ms.saturating_sub((1 + self.below(scale / BEGIN_STEP_MS)) * BEGIN_STEP_MS);
        at_ms.min(self.swarm.begin_ms.end.saturating_sub(1)).max(self.swarm.begin_ms.start)
    }

    /// A scale first and a round number in it then: a second is as likely as an hour.
    fn duration_ms(&mut self) -> u64 {
        let window_ms = self.swarm.heal_at_ms.saturating_sub(self.swarm.begin_ms.start);
        let fitting = SCALES.iter().filter(|scale| scale.first_ms < window_ms).count().max(1);
        let scale = self.pick(&SCALES[..fitting]);
        scale.first_ms + self.below(scale.steps) * scale.step_ms
    }

    pub(super) fn percent(&mut self) -> u8 {
        self.pick(&[5, 20, 50, 100, 100, 100])
    }

    pub(super) fn direction(&mut self) -> Direction {
        self.pick(&[Direction::Both, Direction::Out, Direction::In])
    }

    pub(super) fn when(&mut self) -> When {
        self.pick(&[When::BeforeCommit, When::AfterCommit])
    }

    pub(super) fn node(&mut self) -> Target {
        Target { node: Some(self.pick_name(&self.swarm.nodes)), ..Target::default() }
    }

    /// A node and, three times in four, one peer; every peer otherwise.
    pub(super) fn link(&mut self) -> Target {
        let (node, peer) = (self.pick_name(&self.swarm.nodes), self.pick_name(&self.swarm.peers));
        let peer = Some(peer).filter(|peer| *peer != node && self.below(4) != 0);
        Target { node: Some(node), peer, route: None }
    }

    pub(super) fn gateway(&mut self) -> Target {
        let node = Some(self.pick_name(&self.swarm.peers));
        let routes: Vec<&String> = self
            .swarm
            .routes
            .iter()
            .filter(|(server, _)| Some(server) == node.as_ref())
            .map(|(_, route)| route)
            .collect();
        let confined = !routes.is_empty() && self.below(2) == 0;
        let route = confined.then(|| self.pick(&routes).clone());
        Target { node, peer: None, route }
    }

    pub(super) fn service(&mut self) -> (String, Target) {
        let (node, service) = &self.swarm.services[self.below(self.swarm.services.len() as u64) as usize];
        (service.clone(), Target { node: Some(node.clone()), ..Target::default() })
    }
}

/// Faults begin at multiples of this, so that a reader can remember when.
const BEGIN_STEP_MS: u64 = 100;

/// Round durations of one order of magnitude.
#[derive(Clone, Copy)]
struct Scale {
    first_ms: u64,
    step_ms: u64,
    steps: u64,
}

/// From a tenth of a second to half an hour. Longer ones are likelier: they meet more of what goes on.
const SCALES: [Scale; 8] = [
    Scale { first_ms: 100, step_ms: 100, steps: 9 },
    Scale { first_ms: 1_000, step_ms: 500, steps: 18 },
    Scale { first_ms: 10_000, step_ms: 5_000, steps: 10 },
    Scale { first_ms: 10_000, step_ms: 5_000, steps: 10 },
    Scale { first_ms: 60_000, step_ms: 30_000, steps: 18 },
    Scale { first_ms: 60_000, step_ms: 30_000, steps: 18 },
    Scale { first_ms: 60_000, step_ms: 30_000, steps: 18 },
    Scale { first_ms: 600_000, step_ms: 60_000, steps: 21 },
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::families::families;
    use super::*;
    use crate::fault::Inhabitants;

    fn swarm() -> Swarm {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Swarm {
            nodes: names(&["agent-1", "agent-2", "server"]),
            peers: names(&["server", "token-server"]),
            services: vec![("agent-1".to_owned(), "runner".to_owned()), ("server".to_owned(), "api".to_owned())],
            routes: vec![("server".to_owned(), "/sessions".to_owned()), ("server".to_owned(), "/messages".to_owned())],
            system: vec![
                SystemFamily { name: "starve".to_owned(), nodes: names(&["agent-2"]), amounts: -3..=3 },
                SystemFamily { name: "flood".to_owned(), nodes: vec![], amounts: 1..=1 },
            ],
            families: families().map(str::to_owned).collect(),
            begin_ms: 1_000..3_000_000,
            heal_at_ms: 3_600_000,
            faults_max: 6,
        }
    }

    fn inhabitants(swarm: &Swarm) -> Inhabitants {
        Inhabitants {
            nodes: swarm.nodes.iter().chain(&swarm.peers).cloned().collect(),
            services: swarm.services.iter().cloned().collect(),
            system_faults: swarm.system.iter().map(|system| system.name.clone()).collect(),
        }
    }

    /// Swarms of every shape: any part may be missing.
    fn shapes() -> impl Strategy<Value = Swarm> {
        (any::<[bool; 5]>(), prop::sample::subsequence(families().collect::<Vec<_>>(), 0..23), 0..8_usize).prop_map(
            |([nodes, peers, services, routes, system], families, faults_max)| {
                let mut swarm = Swarm { faults_max, ..swarm() };
                swarm.families = families.into_iter().map(str::to_owned).collect();
                nodes.then(|| swarm.nodes.clear());
                peers.then(|| swarm.peers.clear());
                services.then(|| swarm.services.clear());
                routes.then(|| swarm.routes.clear());
                system.then(|| swarm.system.clear());
                let nodes = [swarm.nodes.clone(), swarm.peers.clone()].concat();
                swarm.services.retain(|(node, _)| nodes.contains(node));
                swarm.system.retain(|system| system.nodes.iter().all(|node| nodes.contains(node)));
                swarm
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_drawn_fits_the_world_that_it_is_drawn_for(swarm in shapes(), seed: u64) {
            let plan = FaultPlan::generate(&swarm, seed);
            prop_assert_eq!(plan.check(&inhabitants(&swarm)), Ok(()));
            prop_assert!(plan.faults.len() <= swarm.faults_max);
            for fault in &plan.faults {
                prop_assert!(swarm.begin_ms.contains(&fault.at_ms));
                prop_assert!(fault.at_ms + fault.for_ms <= plan.heal_at_ms);
                let family = fault.kind.family();
                let system = swarm.system.iter().any(|system| system.name == family);
                prop_assert!(system || swarm.families.iter().any(|name| name == family));
            }
        }

        #[test]
        fn what_is_left_by_shrinking_fits_too(plan in swarm(), fewest in 0..3_usize) {
            let world = inhabitants(&swarm());
            let mut tree = PlanTree::of(plan);
            let mut large = true;
            while if large { tree.simplify() } else { tree.complicate() } {
                prop_assert_eq!(tree.current().check(&world), Ok(()));
                large = tree.current().faults.len() >= fewest;
            }
        }

        #[test]
        fn a_plan_survives_being_written_down(plan in swarm()) {
            let text = serde_json::to_string(&plan).unwrap();
            prop_assert_eq!(serde_json::from_str::<FaultPlan>(&text).unwrap(), plan);
        }
    }

    #[test]
    fn a_seed_always_stands_for_the_same_plan() {
        assert_eq!(FaultPlan::generate(&swarm(), 5), FaultPlan::generate(&swarm(), 5));
        assert_ne!(FaultPlan::generate(&swarm(), 5), FaultPlan::generate(&swarm(), 6));
    }

    #[test]
    fn every_family_comes_up_and_no_plan_has_them_all() {
        let mut seen = BTreeMap::<String, u32>::new();
        for seed in 0..1_000 {
            let plan = FaultPlan::generate(&swarm(), seed);
            let of_plan: BTreeSet<_> = plan.faults.iter().map(|fault| fault.kind.family().to_owned()).collect();
            assert!(of_plan.len() <= 6);
            of_plan.into_iter().for_each(|family| *seen.entry(family).or_default() += 1);
        }
        for name in families().chain(["starve", "flood"]) {
            assert!(
                seen.get(name).copied().unwrap_or(0) > 50,
                "{name} came up {:?} times in 1,000 plans",
                seen.get(name)
            );
        }
    }

    #[test]
    fn durations_are_spread_over_all_scales() {
        let faults = (0..2_000).flat_map(|seed| FaultPlan::generate(&swarm(), seed).faults);
        let lasting: Vec<u64> = faults.map(|fault| fault.for_ms).filter(|for_ms| *for_ms > 0).collect();
        for decade in [100..1_000, 1_000..10_000, 10_000..100_000, 100_000..1_000_000, 1_000_000..3_600_000] {
            let share = lasting.iter().filter(|for_ms| decade.contains(*for_ms)).count() * 100 / lasting.len();
            assert!((5..=45).contains(&share), "{share} % of the durations are in {decade:?} ms");
        }
    }

    #[test]
    fn faults_meet_what_is_going_on() {
        let moments = [1_000_000, 2_000_000];
        let near = |fault: &&Fault| moments.iter().any(|at| fault.at_ms < *at && at - fault.at_ms <= 60_000);
        let met = |moments: &[u64]| {
            let plans = (0..200).map(|seed| FaultPlan::generate_near(&swarm(), moments, seed));
            plans.map(|plan| plan.faults.iter().filter(near).count()).sum::<usize>()
        };
        assert!(met(&moments) > 3 * met(&[]), "{} and {}", met(&moments), met(&[]));
    }

    #[test]
    fn the_families_of_the_table_are_those_of_the_kinds() {
        let swarm = Swarm { system: vec![], faults_max: 3, ..swarm() };
        for name in families() {
            let only = Swarm { families: vec![name.to_owned()], ..swarm.clone() };
            let faults = (0..50).flat_map(|seed| FaultPlan::generate(&only, seed).faults);
            assert!(faults.map(|fault| fault.kind.family().to_owned()).all(|family| family == name), "{name}");
        }
    }
}
