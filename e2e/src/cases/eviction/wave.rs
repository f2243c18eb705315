//! One wave: every group of the matrix side by side, through one outage.
//!
//! The cut nodes come back when the stock cluster has evicted for sure; the dead ones never do; the silent
//! pools come back after ten minutes and more.

use super::group::{self, Group};
use super::judge::Got;
use super::objects::{self, label};
use super::plan::{Autonomy, Cell, Disturbance, Failure, GRACE, SHORT, SLACK, TOLERATION, Workload};
use super::stage::Stage;
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// After the stock eviction was due, and before the cut nodes come back.
const MARGIN: Duration = Duration::from_secs(4);

/// A cell and what came of it.
pub struct Outcome {
    /// The cell.
    pub cell: Cell,
    /// What came of its pods.
    pub got: Got,
}

/// When something may be done to the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// All nodes answer, all pods run.
    BeforeSilence,
    /// The cloud has given the nodes up, and has not evicted yet.
    MidOutage,
}

/// A wave while it goes on.
struct Wave {
    groups: Vec<Group>,
    disturbance: Disturbance,
    /// The pods that are watched, by group and workload.
    pods: BTreeMap<(String, &'static str), BTreeSet<String>>,
    silent: Instant,
    /// The pods that were out of their Service when it was looked at.
    unserved: BTreeSet<String>,
}

/// Runs a wave; `disturb` is called once at each moment.
pub fn run(
    stage: &Stage,
    name: &str,
    disturbance: Disturbance,
    mut disturb: impl FnMut(Moment) -> Result<()>,
) -> Result<Vec<Outcome>> {
    let mut wave = Wave::set_up(stage, name, disturbance)?;
    disturb(Moment::BeforeSilence)?;
    let tainted = wave.fall_silent(stage)?;
    wave.create_during(stage)?;
    disturb(Moment::MidOutage)?;
    if disturbance == Disturbance::Absent {
        stage.wait(SLACK, |stage| wave.all_deleted(stage));
        return Ok(wave.outcomes(stage));
    }
    stage.wait(SLACK, |stage| Ok(wave.unserved(stage)?.is_empty()));
    stage.wait_until(tainted + TOLERATION + MARGIN);
    wave.look(stage, |_| true)?;
    wave.come_back(stage, Failure::Cut)?;
    stage.wait(SHORT + SLACK, |stage| wave.dead_are_emptied(stage));
    // By now a pool that was judged as single nodes would have lost its pods.
    stage.wait_until(wave.silent + SHORT + GRACE + TOLERATION);
    wave.look(stage, Wave::outlasts)?;
    wave.come_back(stage, Failure::Pool)?;
    Ok(wave.outcomes(stage))
}

impl Wave {
    fn set_up(stage: &Stage, name: &str, disturbance: Disturbance) -> Result<Wave> {
        let groups = group::of_wave(name);
        stage.create_nodes(&group::nodes(name, &groups))?;
        stage.create_pools(&group::pools(name, &groups))?;
        for group in &groups {
            stage.create(objects::workloads(&group.name, group.nodes.len()))?;
        }
        let mut wave = Wave {
            groups,
            disturbance,
            pods: BTreeMap::new(),
            silent: Instant::now(),
            unserved: BTreeSet::new(),
        };
        stage.expect("the wave's pods to run and to be served", SLACK + SLACK, |stage| {
            wave.pods = wave.running(stage)?;
            match wave.unserved(stage)?.len() {
                0 => Ok(()),
                count => bail!("{count} pods are not served yet"),
            }
        })?;
        Ok(wave)
    }

    /// The pods of every group; an error unless they are all there and ready.
    fn running(&self, stage: &Stage) -> Result<BTreeMap<(String, &'static str), BTreeSet<String>>> {
        let record = stage.fleet.record();
        let mut pods = BTreeMap::new();
        for group in &self.groups {
            for (workload, count) in
                [(Workload::Deployment, group.nodes.len()), (Workload::StatefulSet, 1), (Workload::Bare, 1)]
            {
                let label = label(workload);
                let ready: BTreeSet<String> = record
                    .of(&group.name, label)
                    .filter(|(_, seen)| seen.ready && seen.deleted.is_none())
                    .map(|(uid, _)| uid.to_string())
                    .collect();
                if ready.len() != count {
                    bail!("{} {workload} pods of {} are ready, not {count}", ready.len(), group.name);
                }
                pods.insert((group.name.clone(), label), ready);
            }
        }
        Ok(pods)
    }

    /// Cuts every node of the groups off and waits until the cloud has tainted them all: since when.
    fn fall_silent(&mut self, stage: &Stage) -> Result<Instant> {
        let nodes: Vec<String> = self.groups.iter().flat_map(|group| group.nodes.clone()).collect();
        stage.fleet.silence(nodes.iter().cloned());
        self.silent = Instant::now();
        stage.tainted(&nodes, GRACE + SLACK)
    }

    /// Binds a new pod to a silent node of each group.
    fn create_during(&mut self, stage: &Stage) -> Result<()> {
        for group in &self.groups {
            let Some(node) = group.nodes.first() else { continue };
            let pod = objects::during(&group.name, node);
            let uids = stage.create(vec![(objects::path("v1", "pods"), pod)])?;
            self.pods.insert((group.name.clone(), label(Workload::During)), uids.into_iter().collect());
        }
        Ok(())
    }

    /// The pods that ran before the outage and that their Service does not lead to.
    fn unserved(&self, stage: &Stage) -> Result<BTreeSet<String>> {
        let served = stage.served()?;
        let ran = self.pods.iter().filter(|((_, workload), _)| *workload != label(Workload::During));
        Ok(ran.flat_map(|(_, uids)| uids).filter(|uid| !served.contains(*uid)).cloned().collect())
    }

    /// Looks whether the pods of silent nodes are served, and remembers those that are not.
    fn look(&mut self, stage: &Stage, which: fn(&Group) -> bool) -> Result<()> {
        let unserved = self.unserved(stage)?;
        let groups: Vec<_> = self.groups.iter().filter(|group| which(group)).collect();
        let looked_at = groups.iter().flat_map(|group| self.uids(&group.name));
        let missing: Vec<_> = looked_at.filter(|uid| unserved.contains(*uid)).cloned().collect();
        self.unserved.extend(missing);
        Ok(())
    }

    /// Whether the pods of a group are still to be there when ten minutes are over and no cut node is left.
    fn outlasts(group: &Group) -> bool {
        match group.failure {
            Failure::Cut => false,
            Failure::Dead => group.autonomy != Autonomy::TenMinutes,
            Failure::Pool => true,
        }
    }

    /// The nodes answer again; waits until all their pods are ready, or shows in the outcome that they are not.
    fn come_back(&self, stage: &Stage, failure: Failure) -> Result<()> {
        if failure == Failure::Cut && self.silent.elapsed() + MARGIN / 2 > SHORT {
            bail!("this machine is too slow: the cut lasted {:.0} s", self.silent.elapsed().as_secs_f64());
        }
        let back: Vec<&Group> = self.groups.iter().filter(|group| group.failure == failure).collect();
        stage.fleet.answer(back.iter().flat_map(|group| group.nodes.clone()));
        let uids: Vec<&String> = back.iter().flat_map(|group| self.uids(&group.name)).collect();
        stage.wait(SLACK, |stage| {
            let record = stage.fleet.record();
            Ok(uids.iter().all(|uid| record.pod(uid).is_some_and(|seen| seen.ready || seen.gone)))
        });
        Ok(())
    }

    fn uids<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a String> {
        self.pods.iter().filter(move |((name, _), _)| name == group).flat_map(|(_, uids)| uids)
    }

    fn all_deleted(&self, stage: &Stage) -> Result<bool> {
        let record = stage.fleet.record();
        let mut uids = self.pods.values().flatten();
        Ok(uids.all(|uid| record.pod(uid).is_some_and(|seen| seen.deleted.is_some())))
    }

    fn dead_are_emptied(&self, stage: &Stage) -> Result<bool> {
        let record = stage.fleet.record();
        let dead = |group: &&Group| group.failure == Failure::Dead && group.autonomy == Autonomy::TenMinutes;
        let mut uids = self.groups.iter().filter(dead).flat_map(|group| self.uids(&group.name));
        Ok(uids.all(|uid| record.pod(uid).is_some_and(|seen| seen.deleted.is_some())))
    }

    fn outcomes(&self, stage: &Stage) -> Vec<Outcome> {
        let cells = self.groups.iter().flat_map(|group| Workload::ALL.map(|workload| (group, workload)));
        cells.map(|(group, workload)| self.outcome(stage, group, workload)).collect()
    }

    fn outcome(&self, stage: &Stage, group: &Group, workload: Workload) -> Outcome {
        let record = stage.fleet.record();
        let none = BTreeSet::new();
        let uids = self.pods.get(&(group.name.clone(), label(workload))).unwrap_or(&none);
        let seen: Vec<_> = uids.iter().filter_map(|uid| record.pod(uid)).collect();
        let deleted: Vec<_> = seen.iter().filter_map(|seen| seen.deleted).collect();
        let first = deleted.iter().min().map(|first| first.saturating_duration_since(self.silent));
        let got = Got {
            pods: seen.len(),
            first_deleted: first,
            all_deleted: deleted.len() == uids.len(),
            served: uids.is_disjoint(&self.unserved),
            ready: seen.iter().all(|seen| seen.ready),
            disrupted: seen.iter().any(|seen| seen.disrupted),
        };
        let Group { autonomy, failure, .. } = *group;
        Outcome { cell: Cell { autonomy, failure, workload, disturbance: self.disturbance }, got }
    }
}
