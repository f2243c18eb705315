//! get and list: which version is asked for, pages that are consistent at one version.
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use std::{ops::Bound, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    error::Refusal,
    object::{Key, Object},
    registry::Kind,
    request::Query,
    respond::List,
    select::Selection,
    server::Server,
    storage::{Storage, Table},
};

/// One object as of now or later than the asked version.
pub async fn get(server: &Server, kind: &Kind, key: &Key, query: &Query) -> Result<Arc<Object>, Refusal> {
    wait(server, query.resource_version()?).await?;
    server
        .read(|s| s.get(&kind.group_resource(), key).cloned())
        .ok_or_else(|| Refusal::not_found(kind, &key.name))
}

/// A list or a page of one.
pub async fn list(
    server: &Server,
    kind: &Arc<Kind>,
    selection: &Selection,
    query: &Query,
) -> Result<List, Refusal> {
    let plan = Plan::of_request(query, selection.namespace())?;
    wait(server, plan.at_least).await?;
    server.read(|storage| {
        let version = plan.version(storage);
        let past = plan.past(storage, kind, version, selection.namespace())?;
        let table = past.as_ref().or_else(|| storage.table(&kind.group_resource()));
        let from = plan.after.clone().map_or(Bound::Unbounded, |(_, key)| Bound::Excluded(key));
        let rows = table.into_iter().flat_map(|t| t.range((from.clone(), Bound::Unbounded)));
        let objects = rows.map(|(_, o)| o).filter(|o| selection.matches(o)).cloned().collect();
        Ok(page(kind, selection, version, plan.limit, objects))
    })
}

fn page(
    kind: &Arc<Kind>,
    selection: &Selection,
    version: u64,
    limit: usize,
    mut objects: Vec<Arc<Object>>,
) -> List {
    let left = objects.len().saturating_sub(limit);
    let mut list = List {
        kind: kind.clone(),
        version,
        continue_token: String::new(),
        remaining: None,
        objects: Vec::new(),
    };
    if left > 0 {
        objects.truncate(limit);
        list.remaining = selection.is_unfiltered().then_some(left as u64);
        let last = objects.last().map(|o| token(Some(version), &o.key, selection.namespace()));
        list.continue_token = last.unwrap_or_default();
    }
    list.objects = objects;
    list
}

async fn wait(server: &Server, version: Option<u64>) -> Result<(), Refusal> {
    let version = version.unwrap_or(0);
    if server.reach(version).await {
        return Ok(());
    }
    Err(Refusal::too_large(version, server.read(Storage::version)))
}

/// What the parameters ask for.
#[derive(Debug, Default)]
struct Plan {
    limit: usize,
    at_least: Option<u64>,
    exact: Option<u64>,
    after: Option<(Option<u64>, Key)>,
}

impl Plan {
    fn of_request(query: &Query, namespace: Option<&str>) -> Result<Self, Refusal> {
        // What cannot be read is said before what makes no sense.
        let limit = query.number("limit")?.filter(|n| *n > 0);
        super::options::check_list(query)?;
        let version = query.list_resource_version()?;
        let mut plan = Self { limit: limit.map_or(usize::MAX, |n| n as usize), ..Self::default() };
        let matching = query.get("resourceVersionMatch");
        if !query.get("continue").is_empty() {
            plan.after = Some(parse_token(query.get("continue"), namespace)?);
            if version.is_some_and(|v| v > 0) {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Refusal::bad_request(why));
            }
            return Ok(plan);
        }
        match (matching, version) {
            ("", None) => {}
            ("" | "NotOlderThan", Some(0)) => plan.limit = usize::MAX,
            ("", Some(_)) if limit.is_some() => plan.exact = version,
            ("" | "NotOlderThan", Some(_)) => plan.at_least = version,
            _ => plan.exact = version,
        }
        if plan.exact.is_some() {
            plan.at_least = plan.exact;
        }
        Ok(plan)
    }

    /// The version of the answer.
    fn version(&self, storage: &Storage) -> u64 {
        let asked = match &self.after {
            Some((version, _)) => *version,
            None => self.exact,
        };
        asked.unwrap_or(storage.version())
    }

    fn past(
        &self,
        storage: &Storage,
        kind: &Kind,
        version: u64,
        namespace: Option<&str>,
    ) -> Result<Option<Table>, Refusal> {
        if version == storage.version() {
            return Ok(None);
        }
        storage.table_at(&kind.group_resource(), version).map(Some).map_err(|_| self.expired(namespace))
    }

    fn expired(&self, namespace: Option<&str>) -> Refusal {
        let Some((_, key)) = &self.after else {
            return Refusal::expired("The resourceVersion for the provided list is too old.");
        };
        let mut refusal = Refusal::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        );
        refusal.continue_token = token(None, key, namespace).into();
        refusal
    }
}

/// A page token: the version of the list (none = whatever is current) and the last key that was given out, below the
/// namespace that is listed (k8s.io/apiserver/pkg/storage/continue.go).
fn token(version: Option<u64>, key: &Key, namespace: Option<&str>) -> String {
    let rv = version.map_or(json!(-1), Value::from);
    let start = match namespace {
        None if !key.namespace.is_empty() => format!("{}/{}\0", key.namespace, key.name),
        _ => format!("{}\0", key.name),
    };
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start}).to_string())
}

fn parse_token(text: &str, namespace: Option<&str>) -> Result<(Option<u64>, Key), Refusal> {
    let wrong =
        |why: &str| Refusal::bad_request(format!("invalid continue token: continue key is not valid{why}"));
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong(": illegal base64 data"))?;
    let value: Value = serde_json::from_slice(&json).map_err(|_| wrong(": no JSON"))?;
    let version = value["v"].as_str().unwrap_or_default();
    if version != "meta.k8s.io/v1" {
        return Err(wrong(&format!(": server does not recognize this encoded version {version}")));
    }
    if value["rv"].as_i64().unwrap_or(0) == 0 {
        return Err(wrong(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
    }
    let start = value["start"].as_str().filter(|s| !s.is_empty());
    let start = start.ok_or_else(|| wrong(": encoded start key empty (version meta.k8s.io/v1)"))?;
    let key = start.trim_end_matches('\0');
    if key.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Err(wrong(&format!(": {start}")));
    }
    let (namespace, name) = match namespace {
        Some(namespace) => (namespace, key),
        None => key.split_once('/').unwrap_or(("", key)),
    };
    Ok((value["rv"].as_u64(), Key::new(namespace, name)))
}
