//! GETs one after the other on one kept HTTP/2 connection: direct, through nginx, through yurthub.
//!
//! * passed: the first page of a list whose collection is live already: nothing of it is kept.
//! * kept: a pod at its newest version: asked of the apiserver, and kept on the way back.
//! * live: a pod of the kubelet's watched collection with `resourceVersion=0`: answered by the hub itself.
//!
//! Rounds of all three contenders are interleaved. "Added" is the difference to direct in the same round.

use std::time::Instant;

use anyhow::{Result, ensure};
use yurt_testkit::client::{Client, KUBELET_ACCEPT, Protocol};
use yurt_testkit::cluster::{Folder, Hub, HubOptions};

use super::{NODE, OWN_PODS, PROTOBUF, Plan, is_cached, pod, until_cached};
use crate::cloud::Cloud;
use crate::informer::{Asked, Informer};
use crate::nginx::{self, Nginx};
use crate::process;
use crate::report::Row;
use crate::rounds::{Round, ms, over, quantile};

/// A kind of request with its limits: ms added to the median, ms of CPU, and nginx's median times this.
struct Work {
    name: &'static str,
    path: &'static str,
    cached: bool,
    limits: (f64, f64, Option<f64>),
}

const WORK: [Work; 3] = [
    Work {
        name: "passed",
        path: "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1&limit=1",
        cached: false,
        limits: (0.12, 0.08, Some(1.0)),
    },
    Work {
        name: "kept",
        path: "/api/v1/namespaces/default/pods/web-0",
        cached: false,
        limits: (0.15, 0.1, None),
    },
    Work {
        name: "live",
        path: "/api/v1/namespaces/default/pods/web-0?resourceVersion=0",
        cached: true,
        limits: (0.15, 0.1, None),
    },
];

/// Everything that runs.
struct Stage {
    direct: Client,
    hub_client: Client,
    nginx_client: Option<Client>,
    hub: Hub,
    nginx: Option<Nginx>,
    _pods: Informer,
    _cloud: Cloud,
    _folder: Folder,
}

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let stage = Stage::set().await?;
    let mut rows = Vec::new();
    for work in &WORK {
        rows.extend(stage.measure(work, plan).await?);
    }
    Ok(rows)
}

impl Stage {
    async fn set() -> Result<Self> {
        let folder = Folder::new("bench-gets");
        let mut objects = vec![yurt_testkit::objects::node(NODE)];
        objects.extend((0..10).map(|n| pod(&format!("web-{n}"), 0)));
        let cloud = Cloud::start(&folder.path().join("cloud"), NODE, &objects).await?;
        let identity = cloud.node(NODE);
        let pki = cloud.pki();
        let ca = pki.join("ca.crt");
        let mut hub = Hub::new(HubOptions::new(NODE, &cloud.url, &ca, &identity, folder.path()));
        hub.start().await;
        let nginx = Nginx::start(nginx::Options {
            folder: folder.path(),
            pki: &pki,
            upstream: cloud.address()?,
            identity: [identity.cert_file.clone(), identity.key_file.clone()],
        });
        let nginx = nginx.await?;
        let client = |url: &str, ca: &std::path::Path| {
            Client::with_ca_file(url, ca, Some(&identity), Protocol::Http2).header("accept", KUBELET_ACCEPT)
        };
        let hub_client = client(&hub.url(), &hub.ca_file());
        let asked = Asked { path: "/api/v1/pods", selector: OWN_PODS, accept: PROTOBUF };
        let pods = Informer::start(&client(&hub.url(), &hub.ca_file()), asked).await?;
        until_cached(&hub_client, WORK[2].path, KUBELET_ACCEPT).await?;
        Ok(Self {
            direct: client(&cloud.url, &ca),
            nginx_client: nginx.as_ref().map(|n| client(&format!("https://{}", n.address), &ca)),
            hub_client,
            hub,
            nginx,
            _pods: pods,
            _cloud: cloud,
            _folder: folder,
        })
    }

    async fn measure(&self, work: &Work, plan: Plan) -> Result<Vec<Row>> {
        let answer = self.hub_client.get(work.path).await?;
        ensure!(
            answer.code() == 200 && is_cached(&answer) == work.cached,
            "{}: {:?}",
            work.path,
            answer.headers
        );
        let same = self.direct.get(work.path).await?;
        ensure!(same.body == answer.body, "{}: the hub answers with other bytes", work.path);
        let requests = plan.times(300);
        let mut rounds = Vec::new();
        for turn in 0..=plan.times(25) {
            let mut round = [Round::default(); 3];
            for place in 0..3 {
                let who = (turn + place) % 3;
                round[who] = self.run(who, work.path, requests).await?;
            }
            // The first round warms up.
            if turn > 0 {
                rounds.push(round);
            }
        }
        Ok(self.judge(work, &rounds))
    }

    /// One contender's part of a round: 0 direct, 1 hub, 2 nginx.
    async fn run(&self, who: usize, path: &str, requests: usize) -> Result<Round> {
        let (client, pid) = match who {
            0 => (Some(&self.direct), None),
            1 => (Some(&self.hub_client), self.hub.pid()),
            _ => (self.nginx_client.as_ref(), self.nginx.as_ref().map(Nginx::pid)),
        };
        let Some(client) = client else { return Ok(Round::default()) };
        let spent = || pid.map(process::cpu).unwrap_or_default();
        let before = spent();
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            let asked = Instant::now();
            let answer = client.get(path).await?;
            times.push(ms(asked.elapsed()));
            ensure!(answer.code() == 200, "{path}: {}", answer.code());
        }
        let cpu = ms(spent() - before) / requests as f64;
        Ok(Round { p50: quantile(&mut times, 0.5), p99: quantile(&mut times, 0.99), cpu })
    }

    fn judge(&self, work: &Work, rounds: &[[Round; 3]]) -> Vec<Row> {
        let name = |what: &str| format!("gets {}: {what}", work.name);
        let p50 = over(rounds, |[direct, hub, _]| hub.p50 - direct.p50);
        let cpu = over(rounds, |[_, hub, _]| hub.cpu);
        let totals = format!(
            "of {:.3} ms; direct {:.3}, nginx {:.3}",
            over(rounds, |[_, hub, _]| hub.p50),
            over(rounds, |[direct, ..]| direct.p50),
            over(rounds, |[.., nginx]| nginx.p50)
        );
        let tails = format!(
            "of {:.3} ms; direct {:.3}, nginx {:.3}",
            over(rounds, |[_, hub, _]| hub.p99),
            over(rounds, |[direct, ..]| direct.p99),
            over(rounds, |[.., nginx]| nginx.p99)
        );
        let (most, most_cpu, most_ratio) = work.limits;
        let mut rows = vec![
            Row::limited(name("p50 added"), p50, "ms", most).beside(totals),
            Row::told(name("p99 added"), over(rounds, |[direct, hub, _]| hub.p99 - direct.p99), "ms")
                .beside(tails),
            Row::limited(name("CPU"), cpu, "ms", most_cpu)
                .beside(format!("nginx {:.3}", over(rounds, |[.., nginx]| nginx.cpu))),
        ];
        let ratio = name("p50 added / nginx's");
        if self.nginx.is_none() {
            rows.push(Row::unmeasured(ratio, "x", "nginx is not installed"));
            return rows;
        }
        let value = over(rounds, |[direct, hub, nginx]| (hub.p50 - direct.p50) / (nginx.p50 - direct.p50));
        rows.push(match most_ratio {
            Some(most) => Row::limited(ratio, value, "x", most),
            None => Row::told(ratio, value, "x"),
        });
        rows.push(Row::told(name("p99 / nginx's"), over(rounds, |[_, hub, nginx]| hub.p99 / nginx.p99), "x"));
        rows.push(Row::told(name("CPU / nginx's"), over(rounds, |[_, hub, nginx]| hub.cpu / nginx.cpu), "x"));
        rows
    }
}
