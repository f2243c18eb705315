//! What stands behind the claims of pods: the volumes that they are bound to, and what a kubelet asks for to mount those.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use yurt_api::collection::ObjectKey;
use yurt_api::representation::Representation;
use yurt_api::resource::Resource;

use super::needs::Need;
use super::survey::named;
use crate::cache::{Cache, FrontError, ObjectAnswer, Scope};
use crate::identify::sha256;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim {
    spec: ClaimSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimSpec {
    volume_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Volume {
    spec: VolumeSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VolumeSpec {
    csi: Option<Csi>,
}

/// `CSIPersistentVolumeSource` of `k8s.io/api/core/v1`, what matters on a node of it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Csi {
    driver: String,
    volume_handle: String,
    node_stage_secret_ref: Option<SecretRef>,
    node_publish_secret_ref: Option<SecretRef>,
    node_expand_secret_ref: Option<SecretRef>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SecretRef {
    namespace: String,
    name: String,
}

/// Adds the volumes that the claims among `needs` are bound to, and the Secrets of those. Returns the attachments that
/// a kubelet looks for when their driver has any: whether it has is not known here.
pub(super) async fn add_volumes(
    cache: &Cache,
    needs: &mut BTreeSet<Need>,
) -> Result<Vec<(Resource, ObjectKey)>, FrontError> {
    let mut attachments = Vec::new();
    for need in needs.clone() {
        let Need::Object("persistentvolumeclaims", ..) = &need else { continue };
        let Some(claim) = held::<Claim>(cache, &need).await? else { continue };
        if claim.spec.volume_name.is_empty() {
            continue;
        }
        let volume = Need::Object("persistentvolumes", String::new(), claim.spec.volume_name);
        if let Some(Csi {
            driver,
            volume_handle,
            node_stage_secret_ref,
            node_publish_secret_ref,
            node_expand_secret_ref,
        }) = held::<Volume>(cache, &volume).await?.and_then(|volume| volume.spec.csi)
        {
            attachments.push(attachment(&volume_handle, &driver, cache.node_name()));
            let secrets = [node_stage_secret_ref, node_publish_secret_ref, node_expand_secret_ref];
            needs.extend(secrets.into_iter().flatten().map(|s| Need::Object("secrets", s.namespace, s.name)));
        }
        needs.insert(volume);
    }
    Ok(attachments)
}

/// The attachment of a volume to a node (`pkg/volume/csi/csi_attacher.go`, `getAttachmentName`).
fn attachment(handle: &str, driver: &str, node: &str) -> (Resource, ObjectKey) {
    let hash = sha256(format!("{handle}{driver}{node}").as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let resource = Resource::new("storage.k8s.io", "v1", "volumeattachments");
    (resource, ObjectKey::new("", &format!("csi-{hex}")))
}

async fn held<T: DeserializeOwned>(cache: &Cache, need: &Need) -> Result<Option<T>, FrontError> {
    let Need::Object(resource, namespace, name) = need else { return Ok(None) };
    let Some(request) = named(resource, namespace, name) else { return Ok(None) };
    match cache.object(&request, &[Representation::JSON], Scope::Held).await? {
        ObjectAnswer::Held(view) => Ok(serde_json::from_slice(&view.body).ok()),
        _ => Ok(None),
    }
}
