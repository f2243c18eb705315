//! The wipe of the node's ResourceSlices, which a kubelet asks for at each start
//! (`pkg/kubelet/cm/dra/plugin/registration.go`): its drivers publish anew what they have.

use serde_json::{Value, json};
use yurt_api::collection::ObjectKey;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{Options, ResourceRequest, Verb};
use yurt_api::resource::TypeMeta;
use yurt_store::{Entry, Operation};

use super::accept::{Accepted, LocalWrite, Refused};
use super::{Written, object, uid_of};
use crate::cache::{Cache, ListAnswer, Scope};

/// Whether the request is about the slices of this node and of no other.
pub(super) fn are_of(request: &ResourceRequest, node_name: &str) -> bool {
    let options = &request.options;
    options.label_selector.is_empty()
        && options.field_selector.canonical() == format!("spec.nodeName={node_name}")
}

/// Whether a journal entry is the wipe: a deletion that names no object.
pub fn is_wipe(entry: &Entry) -> bool {
    entry.operation == Operation::Delete && entry.key.name.is_empty()
}

impl Cache {
    /// Deletes what is held of the node's slices, and those that the cloud has when the link is back.
    pub(super) async fn wipe_slices(&self, write: &LocalWrite<'_>) -> Result<Accepted, Refused> {
        let resource = &write.request.resource;
        let kind = TypeMeta::new(&resource.api_version(), "ResourceSlice");
        for held in self.held_slices(write.request).await? {
            let key = ObjectKey::new(
                "",
                held.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default(),
            );
            let uid = uid_of(&held).to_owned();
            let base = self.overlay.get(resource, &key).map_or(held, |local| local.written.base);
            let gone = Written { kind: (&kind).into(), base, ..Written::default() };
            self.journal(resource, &key, &uid, Operation::Delete, gone).await?;
        }
        let all = Written { kind: (&kind).into(), ..Written::default() };
        self.journal(resource, &ObjectKey::default(), "", Operation::Delete, all).await?;
        let list = TypeMeta::new(&resource.api_version(), "ResourceSliceList");
        let object = json!({"apiVersion": list.api_version, "kind": list.kind, "metadata": {}, "items": []});
        Ok(Accepted { code: 200, kind: list, object })
    }

    async fn held_slices(&self, request: &ResourceRequest) -> Result<Vec<Value>, Refused> {
        let json = Representation { encoding: Encoding::Json, metadata_only: false };
        let options = Options { limit: None, continue_token: None, ..request.options.clone() };
        let list = ResourceRequest { verb: Verb::List, options, ..request.clone() };
        let held = match self.list(&list, &[json], Scope::Held).await? {
            ListAnswer::Held(view) => {
                serde_json::from_slice::<Value>(&view.pieces.concat()).unwrap_or_default()
            }
            ListAnswer::Unfit(_) | ListAnswer::Unknown => Value::Null,
        };
        let mut slices = held.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let written = self.overlay.of(&request.resource).into_iter().map(|local| local.written.object);
        slices.extend(written.filter(Value::is_object));
        slices.retain(|slice| object::runs_on(slice, self.node_name()));
        slices.sort_by(|a, b| uid_of(a).cmp(uid_of(b)));
        slices.dedup_by(|a, b| uid_of(a) == uid_of(b));
        Ok(slices)
    }
}
