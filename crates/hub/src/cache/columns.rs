//! The columns of custom resources: remembered from the tables that the cloud made, or read from a definition that is
//! held. They are stored like a document, under the resource's name.

use bytes::Bytes;
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::RequestInfo;
use yurt_api::resource::Resource;
use yurt_api::table::{self, Columns};
use yurt_store::Document;

use super::{Cache, ObjectAnswer, Scope};
use crate::clock;

/// Definitions of columns that are longer are not kept, in bytes.
const MAX_DEFINITIONS: usize = 64 << 10;
/// What stands where documents have the `Accept` of their request.
const COLUMNS: &str = "columns";

/// Whether the columns of a resource have to be learnt: it is not built in.
pub fn knows_no_columns(resource: &Resource) -> bool {
    proto::kind_of(resource).is_none()
}

impl Cache {
    /// Takes note of the columns of a table, if that is what the body is.
    pub async fn keep_columns(&self, resource: &Resource, body: &[u8]) {
        let Ok(Some(definitions)) = table::definitions(body) else { return };
        if definitions.len() > MAX_DEFINITIONS || Columns::of_definitions(definitions.as_bytes()).is_err() {
            return;
        }
        let document = Document {
            path: path_of(resource),
            accept: COLUMNS.to_owned(),
            status: 200,
            content_type: Encoding::Json.media_type().to_owned(),
            etag: None,
            body: Bytes::copy_from_slice(definitions.as_bytes()),
            observed_at: clock::unix(),
        };
        self.keep_document(document).await;
    }

    /// What is known of a custom resource's columns. Its definition says more than a table.
    pub async fn columns(&self, resource: &Resource) -> Option<Columns> {
        if !knows_no_columns(resource) {
            return None;
        }
        if let Some(columns) = self.columns_of_definition(resource).await {
            return Some(columns);
        }
        let path = path_of(resource);
        let document = self.front.read(move |r| r.document(&path, COLUMNS)).await.ok()??;
        Columns::of_definitions(&document.body).ok()
    }

    async fn columns_of_definition(&self, resource: &Resource) -> Option<Columns> {
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.{}",
            resource.resource, resource.group
        );
        let info = RequestInfo::parse("GET", &path, "").ok()?;
        let held = self.object(info.resource()?, &[Representation::JSON], Scope::Held).await.ok()?;
        let ObjectAnswer::Held(view) = held else { return None };
        let definition = serde_json::from_slice(&view.body).ok()?;
        Columns::of_definition(&definition, &resource.version)
    }
}

fn path_of(resource: &Resource) -> String {
    format!("/apis/{}", resource)
}
