//! What the lifecycle controller did meanwhile to pods that the node did not write.

use http::Method;
use serde_json::Value;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{RequestInfo, ResourceRequest};

use super::ask::{Halt, text};
use super::{Replay, plan};
use crate::cache::write::version_of;
use crate::cache::{ObjectAnswer, Scope};

impl Replay {
    /// Puts right what the lifecycle controller did to pods that the node did not write meanwhile.
    pub(super) async fn repair(&self) -> Result<u64, Halt> {
        let mut repaired = 0;
        for cloud in self.changed_pods().await? {
            match self.repair_pod(&cloud).await {
                // The kubelet says it again with its next report.
                Err(Halt::Busy(why)) => tracing::debug!(why, "a pod is not repaired"),
                done => repaired += u64::from(done?),
            }
        }
        Ok(repaired)
    }

    async fn repair_pod(&self, cloud: &Value) -> Result<bool, Halt> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            text(cloud, "/metadata/namespace"),
            text(cloud, "/metadata/name")
        );
        let Some(request) = named(&path) else { return Ok(false) };
        let json = [Representation { encoding: Encoding::Json, metadata_only: false }];
        let ObjectAnswer::Held(view) = self.cache.object(&request, &json, Scope::Held).await? else {
            return Ok(false);
        };
        let Ok(local) = serde_json::from_slice::<Value>(&view.body) else { return Ok(false) };
        let key = request.object_key().unwrap_or_default();
        let untouched = !self.cache.overlay.is_pending(&request.resource, &key);
        if !untouched || text(&local, "/metadata/uid") != text(cloud, "/metadata/uid") {
            return Ok(false);
        }
        let Some(patch) = plan::pod_repair(&local, cloud) else { return Ok(false) };
        let patch = plan::for_uid(patch, text(cloud, "/metadata/uid"));
        let (code, patched) = self.ask(Method::PATCH, &format!("{path}/status"), Some(&patch)).await?;
        if code.is_success() {
            self.cache.endpoints.repaired(text(cloud, "/metadata/uid"), &local, version_of(&patched));
        }
        Ok(code.is_success())
    }
}

fn named(path: &str) -> Option<ResourceRequest> {
    RequestInfo::parse("GET", path, "").ok()?.resource().cloned()
}
