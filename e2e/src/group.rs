//! Informers of both libraries and every style that begin together: do they all hold the truth, and heard they
//! every change once?

use crate::changes::{Changes, KINDS, NAMESPACE, path};
use crate::client_go::ClientGo;
use crate::informers::{self, Informers, TOLD};
use crate::kube_rs::KubeRs;
use crate::wait::until;
use crate::world::World;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Informers that began together, and how many changes had been made by then.
pub struct Group {
    name: &'static str,
    since: usize,
    go: Vec<(&'static str, ClientGo)>,
    rust: Option<KubeRs>,
    config: PathBuf,
    truth: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Group {
    /// Gets informers of every library and style ready; none of them runs.
    pub fn prepare(world: &World, config: &Path, name: &'static str) -> Result<Group> {
        let start = |style, streaming| ClientGo::of_changes(world, config, streaming).map(|one| (style, one));
        let go = vec![start("plain", false)?, start("streaming", true)?];
        let (config, truth) = (config.to_path_buf(), BTreeMap::new());
        Ok(Group { name, since: 0, go, rust: None, config, truth })
    }

    /// Starts them after so many changes and waits until their stores are complete.
    pub fn begin(&mut self, since: usize) -> Result<()> {
        self.since = since;
        self.rust = Some(KubeRs::start(&self.config)?);
        for (_, program) in &mut self.go {
            program.begin()?;
        }
        until("informers to have begun", TOLD, || match self.unsynced()? {
            waiting if waiting.is_empty() => Ok(()),
            waiting => bail!("{waiting:?}"),
        })
        .with_context(|| format!("the {} informers", self.name))
    }

    fn unsynced(&mut self) -> Result<Vec<String>> {
        let all = self.state()?.into_iter().filter(|(_, informer)| !informer.synced);
        Ok(all.map(|(name, informer)| format!("{name} {:?}", informer.failed)).collect())
    }

    pub fn state(&mut self) -> Result<Informers> {
        let mut all = Informers::new();
        for (style, program) in &mut self.go {
            let named = |(name, informer)| (format!("client-go {name} {style}"), informer);
            all.extend(program.state()?.into_iter().map(named));
        }
        let rust = self.rust.as_ref().map(KubeRs::state).unwrap_or_default();
        all.extend(rust.into_iter().map(|(name, one)| (format!("kube-rs {name}"), one)));
        Ok(all)
    }

    /// Takes what the cloud holds now for the truth; waits until every store equals it and every change up to
    /// now was told once.
    pub fn is_true(&mut self, world: &World, changes: &Changes) -> Result<()> {
        self.remember_truth(world)?;
        self.holds(changes.record.count(), changes)
    }

    /// Waits until every store equals the remembered truth and the first `told` changes were told, no others.
    pub fn holds(&mut self, told: usize, changes: &Changes) -> Result<()> {
        let name = self.name;
        until("informers to be right", TOLD, || {
            for (style, program) in &mut self.go {
                program.equals_truth().with_context(|| format!("client-go {style}"))?;
            }
            self.rust_equals_truth()?;
            self.heard(told, changes)
        })
        .with_context(|| format!("the {name} informers"))
    }

    fn heard(&mut self, told: usize, changes: &Changes) -> Result<()> {
        for (name, informer) in self.state()? {
            let expected = changes.record.between(self.since, told, kind_of(&name));
            informer.heard(&expected).with_context(|| name)?;
        }
        Ok(())
    }

    fn rust_equals_truth(&self) -> Result<()> {
        for (name, held) in self.rust.as_ref().map(KubeRs::held).unwrap_or_default() {
            let kind = KINDS.into_iter().find(|kind| name.starts_with(kind)).unwrap_or_default();
            let mut truth = self.truth.get(kind).cloned().unwrap_or_default();
            if name.contains("metadata") {
                truth.values_mut().for_each(only_metadata);
            }
            for (key, object) in &truth {
                if held.get(key).map(untyped).as_ref() != Some(&untyped(object)) {
                    bail!("kube-rs {name}: {key} is {:?} and not {object}", held.get(key));
                }
            }
            if let Some(key) = held.keys().find(|key| !truth.contains_key(*key)) {
                bail!("kube-rs {name}: {key} should not be there");
            }
        }
        Ok(())
    }

    /// An error when an informer asked for everything more than once.
    pub fn listed_once(&mut self) -> Result<()> {
        let all = self.state()?;
        let again: Vec<_> = all.iter().filter(|(_, informer)| informer.beginnings() > 1).collect();
        match again.first() {
            None => Ok(()),
            Some((name, informer)) => bail!(
                "{} of {} listed again, such as {name}: {} lists, {} streams, {:?}",
                again.len(),
                all.len(),
                informer.lists,
                informer.streams,
                informer.failed
            ),
        }
    }

    /// Waits until no watch of client-go is young.
    pub fn grown_up(&mut self) -> Result<()> {
        until("watches to grow up", TOLD, || informers::grown_up(&of_client_go(self.state()?)))
    }

    /// Waits until every informer of client-go has asked for something since `before`.
    pub fn came_again(&mut self, before: &Informers) -> Result<()> {
        until("clients to come again", TOLD, || {
            informers::came_again(&of_client_go(before.clone()), &of_client_go(self.state()?))
        })
    }

    /// Takes what the cloud holds now for the truth.
    pub fn remember_truth(&mut self, world: &World) -> Result<()> {
        for (_, program) in &mut self.go {
            program.remember_truth()?;
        }
        self.truth = KINDS
            .into_iter()
            .map(|kind| Ok((kind.to_string(), cloud(world, kind)?)))
            .collect::<Result<_>>()?;
        Ok(())
    }
}

/// What the cloud holds of a kind, by key.
fn cloud(world: &World, kind: &str) -> Result<BTreeMap<String, Value>> {
    let list = world.cluster.admin.object(&path(kind))?;
    let items = list["items"].as_array().context("no items")?;
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_string();
    Ok(items.iter().map(|object| (format!("{NAMESPACE}/{}", name(object)), object.clone())).collect())
}

fn kind_of(name: &str) -> &'static str {
    KINDS.into_iter().find(|kind| name.contains(&format!(" {kind}/"))).unwrap_or_default()
}

/// Those that say how old their watches are.
fn of_client_go(all: Informers) -> Informers {
    all.into_iter().filter(|(name, _)| name.starts_with("client-go")).collect()
}

fn only_metadata(object: &mut Value) {
    *object = serde_json::json!({"metadata": object["metadata"]});
}

/// Without kind and version, which a list's items do not have.
fn untyped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}
