//! Clients of both libraries that begin their watches at a version of their own choice, because they kept their
//! state or were at another server before: informers of client-go that are given their first list, and bare watches
//! of kube-rs.

use crate::changes::Changes;
use crate::client_go::ClientGo;
use crate::informers::{self, Informer, Informers, TOLD};
use crate::kube_rs::Watches;
use crate::wait::until;
use crate::world::World;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

const CLIENT_GO: &str = " client-go";
const KUBE_RS: &str = " kube-rs";

/// Clients that begin at one version.
pub struct Beginners {
    name: &'static str,
    config: PathBuf,
    go: Option<ClientGo>,
    rust: Option<Watches>,
    /// Where the watches of kube-rs begin.
    from: u64,
    /// The newest version that their server knew when they began.
    begun: u64,
}

impl Beginners {
    /// Clients that know the state of now; they begin later.
    pub fn who_know_this(
        world: &World,
        config: &Path,
        name: &'static str,
        changes: &Changes,
    ) -> Result<Beginners> {
        let mut go = ClientGo::of_changes(world, config, false)?;
        go.seed()?;
        Ok(Beginners::new(config, name, Some(go), changes.record.newest(changes.record.count())))
    }

    /// Clients that know an empty cluster of this version.
    pub fn who_know_nothing(
        world: &World,
        config: &Path,
        name: &'static str,
        version: u64,
    ) -> Result<Beginners> {
        let mut go = ClientGo::of_changes(world, config, false)?;
        go.seed_with_nothing(version)?;
        Ok(Beginners::new(config, name, Some(go), version))
    }

    /// Clients that begin at a version which does not exist yet. Nobody can know its state, so that none of them is an
    /// informer.
    pub fn at(config: &Path, name: &'static str, version: u64) -> Beginners {
        Beginners::new(config, name, None, version)
    }

    fn new(config: &Path, name: &'static str, go: Option<ClientGo>, from: u64) -> Beginners {
        Beginners { name, config: config.to_path_buf(), go, rust: None, from, begun: 0 }
    }

    /// Lets them begin at a server that knows the first `told` changes.
    pub fn begin(&mut self, told: usize, changes: &Changes) -> Result<()> {
        self.begun = changes.record.newest(told);
        self.rust = Some(Watches::start(&self.config, &self.from.to_string())?);
        self.go.as_mut().map_or(Ok(()), ClientGo::begin)
    }

    /// Takes what the cloud holds now for the truth.
    pub fn remember_truth(&mut self) -> Result<()> {
        self.go.as_mut().map_or(Ok(()), ClientGo::remember_truth)
    }

    /// Waits until every store equals the remembered truth, and every client heard what came after its beginning of
    /// the first `told` changes, each once, and nothing else.
    pub fn hold(&mut self, told: usize, changes: &Changes) -> Result<()> {
        until("clients to be right", TOLD, || {
            if let Some(go) = &mut self.go {
                go.equals_truth()?;
            }
            for (name, informer) in self.informers()? {
                let base = informer.base.parse().with_context(|| format!("{name} without a version"))?;
                self.heard(&name, &informer, base, told, changes)?;
            }
            for (name, watch) in self.watches() {
                match watch.was_too_old() {
                    true if watch.events.is_empty() => {}
                    true => bail!("{name} heard {:?} and was too old", watch.events),
                    false => self.heard(&name, &watch, self.from, told, changes)?,
                }
            }
            Ok(())
        })
        .with_context(|| format!("the clients {}", self.name))
    }

    fn heard(&self, name: &str, one: &Informer, base: u64, told: usize, changes: &Changes) -> Result<()> {
        let kind = kind_of(name);
        let outcome = match base {
            0 => one.heard_since(self.begun, &changes.record.after(self.begun, told, kind)),
            base => one.heard(&changes.record.after(base, told, kind)),
        };
        outcome.with_context(|| format!("{name} from {base}, {:?}", one.failed))
    }

    /// What each that still asks tells now, when no watch is so young that its client would take its end for a
    /// failure.
    pub fn grown_up(&mut self) -> Result<Informers> {
        until("watches to grow up", TOLD, || informers::grown_up(&self.informers()?))?;
        let all = self.all()?.into_iter();
        Ok(all.filter(|(name, one)| !(name.ends_with(KUBE_RS) && one.was_too_old())).collect())
    }

    /// Waits until each of those has asked for something since `before`.
    pub fn came_again(&mut self, before: &Informers) -> Result<()> {
        until("clients to come again", TOLD, || informers::came_again(before, &self.all()?))
    }

    /// An error when one was told that its version is too old, or asked for a list.
    pub fn went_on(&mut self) -> Result<()> {
        for (name, one) in self.all()? {
            if one.was_too_old() || one.lists > 0 {
                bail!("{} {name}: {} lists, {:?}", self.name, one.lists, one.failed);
            }
        }
        Ok(())
    }

    /// An error unless all were told that their version is too old.
    pub fn were_too_old(&mut self) -> Result<()> {
        match self.all()?.into_iter().find(|(_, one)| !one.was_too_old()) {
            Some((name, one)) => {
                bail!("{} {name} was told nothing of its version: {:?}", self.name, one.failed)
            }
            None => Ok(()),
        }
    }

    /// How many they are.
    pub fn count(&mut self) -> Result<usize> {
        Ok(self.all()?.len())
    }

    fn all(&mut self) -> Result<Informers> {
        let informers = self.informers()?.into_iter().map(|(name, one)| (name + CLIENT_GO, one));
        let watches = self.watches().into_iter().map(|(name, one)| (name + KUBE_RS, one));
        Ok(informers.chain(watches).collect())
    }

    fn informers(&mut self) -> Result<Informers> {
        self.go.as_mut().map_or_else(|| Ok(Informers::new()), ClientGo::state)
    }

    fn watches(&self) -> Informers {
        self.rust.as_ref().map(Watches::state).unwrap_or_default()
    }
}

fn kind_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}
