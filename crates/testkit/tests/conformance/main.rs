//! What an apiserver does, said once and checked against the simulated one and, when `YURT_REAL_APISERVER`
//! names a kubeconfig, against a real one too: so the simulation is known to be true.
//!
//! Each check works in a namespace of its own and leaves the cluster as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod combinations;
mod conditions;
mod discovery;
mod lists;
mod media;
mod objects;
mod patches;
mod pods;
mod watches;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use yurt_testkit::{
    apiserver::Apiserver,
    client::{Client, Protocol},
    kubeconfig::Target,
};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);

/// A server under check and a namespace to work in.
struct Bench {
    client: Client,
    target: Target,
    namespace: String,
    simulated: Option<Apiserver>,
}

impl Bench {
    async fn new(target: Target, simulated: Option<Apiserver>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let namespace = format!("conformance-{}-{number}", std::process::id());
        let client = target.client(Protocol::Http2).timeout(SOON);
        let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": namespace}});
        client.post("/api/v1/namespaces", &object).await.unwrap().expect(201);
        Self { client, target, namespace, simulated }
    }

    async fn simulated() -> Self {
        let api = Apiserver::start().await;
        let target = Target {
            base: api.url(),
            ca_pem: api.pki().ca_pem().into(),
            identity: Some(api.pki().admin()),
            token: String::new(),
        };
        Self::new(target, Some(api)).await
    }

    async fn real() -> Option<Self> {
        let path = std::env::var_os("YURT_REAL_APISERVER")?;
        let target = Target::read(Path::new(&path)).expect("the kubeconfig in YURT_REAL_APISERVER");
        Some(Self::new(target, None).await)
    }

    /// Path of a namespaced core collection or object: "configmaps", "configmaps/a".
    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    fn config_map(&self, name: &str, labels: &Value) -> Value {
        let metadata = json!({"name": name, "namespace": self.namespace, "labels": labels});
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {"n": "1"}})
    }

    /// A ConfigMap named so, labelled `name=NAME` and `all=yes`.
    async fn create(&self, name: &str) -> Value {
        let object = self.config_map(name, &json!({"name": name, "all": "yes"}));
        self.client.post(&self.path("configmaps"), &object).await.unwrap().expect(201).json()
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(path).await.unwrap().expect(200).json()
    }

    async fn end(self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        assert_eq!(self.client.delete(&path, &Value::Null).await.unwrap().code(), 200);
    }
}

/// The names of a list's items.
fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Runs each check against the simulated server and, when there is one, the real server.
macro_rules! checks {
    ($($module:ident: $($name:ident),+;)+) => {$(
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    let bench = crate::Bench::simulated().await;
                    crate::$module::$name(&bench).await;
                    bench.end().await;
                    if let Some(bench) = crate::Bench::real().await {
                        crate::$module::$name(&bench).await;
                        bench.end().await;
                    }
                }
            )+
        }
    )+};
}

mod check {
    checks! {
        objects: created_objects_are_stamped, names_are_generated, a_second_create_conflicts, updates_need_the_current_version,
            an_update_that_changes_nothing_keeps_the_version, deletes_obey_preconditions, finalizers_hold_a_deletion,
            missing_things_are_404, bodies_must_fit_the_path, dry_run_stores_nothing, secrets_take_plain_text,
            unconditional_updates_are_for_some_kinds;
        lists: lists_are_ordered_and_bare, selectors_choose, unknown_field_labels_are_400, pages_are_of_one_version,
            versions_are_matched, wrong_queries_are_named, a_future_version_is_a_timeout, collections_are_deleted_by_selector;
        combinations: lists_answer_every_combination, watches_answer_every_combination;
        watches: a_watch_goes_on_from_a_list, a_watch_from_nothing_shows_the_present, leaving_the_selection_is_a_deletion,
            bookmarks_come_with_streaming_lists, timeouts_end_watches, an_old_version_is_gone, parameters_are_checked,
            names_can_be_watched;
        patches: each_type_is_applied, strategic_lists_merge_by_key, stale_patches_conflict, other_types_are_refused;
        pods: status_is_apart, bound_pods_go_gracefully, binding_and_eviction, tokens_are_for_accounts, nodes_keep_a_posted_status;
        media: protobuf_says_the_same, metadata_alone, tables_have_rows, protobuf_watches, protobuf_bodies, unknown_types_are_406;
        discovery: groups_and_resources, aggregated_lists_say_the_same, version_and_health, openapi_has_etags, reviews_answer;
        conditions: statuses_have_their_shape, headers_are_there;
        certificates: who_asks_is_written_by_the_server, an_approval_changes_conditions_alone;
    }
}
