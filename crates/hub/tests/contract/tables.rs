//! Tables for people: the cloud's while it answers, the same of what is held when it does not.

use serde_json::{Value, json};
use yurt_testkit::apiserver::{Fault, Kind, Rule};
use yurt_testkit::client::{Client, Event};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

fn map(cluster: &Cluster, name: &str) {
    cluster.api.create(objects::config_map("default", name, &[("key", "1")]));
}

async fn table(client: &Client, path: &str) -> Value {
    let answer = client.get_as(path, KUBECTL).await.unwrap().expect(200);
    let table = answer.json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")), "{path}");
    table
}

async fn table_or_status(client: &Client, path: &str) -> Value {
    client.get_as(path, KUBECTL).await.unwrap().json()
}

/// The cells of every row, as texts, by the names of their columns.
fn rows(table: &Value) -> Vec<Vec<(String, String)>> {
    let columns = table["columnDefinitions"].as_array().unwrap();
    let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let row = |row: &Value| {
        let cells = row["cells"].as_array().unwrap();
        assert_eq!(cells.len(), columns.len(), "a cell for every column");
        columns.iter().zip(cells).map(|(c, v)| (c["name"].as_str().unwrap().to_owned(), text(v))).collect()
    };
    table["rows"].as_array().unwrap().iter().map(row).collect()
}

fn cell<'a>(row: &'a [(String, String)], column: &str) -> &'a str {
    &row.iter().find(|(name, _)| name == column).unwrap_or_else(|| panic!("no {column} in {row:?}")).1
}

/// What an event of a watch shows: its type, and the name that stands in its first cell.
fn shown(event: &Event) -> (&str, &str) {
    (&event.kind, event.object["rows"][0]["cells"][0].as_str().unwrap_or_default())
}

/// Online a table is never the node's to make: not one cell may differ from the cloud's.
#[tokio::test]
async fn tables_come_from_the_cloud_while_it_answers() {
    let cluster = online().await;
    map(&cluster, "a");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let asked = || cluster.api.audit().count(|e| e.accept.contains("Table"));
    for path in [format!("{MAPS}?resourceVersion=0"), format!("{MAPS}/a?resourceVersion=0"), MAPS.to_owned()]
    {
        let before = asked();
        table(&client, &path).await;
        assert_eq!(asked(), before + 1, "{path} is the cloud's to answer");
    }
    let before = asked();
    let _watch = client.watch(&format!("{MAPS}?watch=true&resourceVersion=0"), KUBECTL).await.unwrap();
    assert_eq!(asked(), before + 1, "so is a watch");
}

/// P1: what a kubelet reads in protobuf, kubectl shows on the node as it would online.
#[tokio::test]
async fn what_is_held_is_shown_as_the_apiserver_would() {
    let mut cluster = online().await;
    let mut web = objects::pod("default", "web", NODE);
    web["metadata"]["labels"] = json!({"app": "web"});
    cluster.api.create(web);
    cluster.api.create(objects::pod("kube-system", "dns", NODE));
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    map(&cluster, "a");
    let client = reader(&cluster, "ann", &["pods", "nodes", "services", "configmaps", "events", "secrets"]);
    let all = ["pods", "nodes", "services", "configmaps", "events", "secrets"];
    for (resource, accept) in all.into_iter().zip([PROTOBUF, PROTOBUF, JSON, JSON, PROTOBUF, JSON]) {
        client.get_as(&format!("/api/v1/{resource}"), accept).await.unwrap().expect(200);
    }
    // What is followed when the link goes says what does not exist.
    let (_, _maps) = informer(&client, "/api/v1/configmaps", JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    // Rights are learnt verb by verb.
    for one in ["pods/web", "configmaps/missing"] {
        table_or_status(&client, &format!("/api/v1/namespaces/default/{one}")).await;
    }
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let client = caller(&cluster, "ann");
        let pods = rows(&table(&client, "/api/v1/pods?limit=500").await);
        let names: Vec<&str> = pods.iter().map(|row| cell(row, "Name")).collect();
        assert_eq!(names, ["web", "dns"], "all namespaces");
        for (column, expected) in
            [("Ready", "0/1"), ("Status", "Pending"), ("Restarts", "0"), ("Node", NODE), ("IP", "<none>")]
        {
            assert_eq!(cell(&pods[0], column), expected, "{column}");
        }
        assert!(cell(&pods[0], "Age").ends_with('s'), "{:?}", pods[0]);
        let selected = rows(&table(&client, "/api/v1/pods?labelSelector=app%3Dweb").await);
        assert_eq!(selected.len(), 1);
        let one = table(&client, "/api/v1/namespaces/default/pods/web").await;
        assert_eq!(rows(&one)[0], selected[0], "a single name");
        let object = &one["rows"][0]["object"];
        assert_eq!(
            (&object["kind"], &object["metadata"]["labels"]["app"]),
            (&json!("PartialObjectMetadata"), &json!("web"))
        );
        assert_eq!(version(object), version(&one), "the table of an object has its version");
        let nodes = rows(&table(&client, "/api/v1/nodes").await);
        assert_eq!(cell(&nodes[0], "Name"), NODE);
        let services = rows(&table(&client, "/api/v1/services").await);
        let web = services.iter().find(|row| cell(row, "Name") == "web").unwrap();
        assert_eq!((cell(web, "Type"), cell(web, "Port(s)")), ("ClusterIP", "80/TCP"));
        let maps = rows(&table(&client, MAPS).await);
        assert_eq!(cell(&maps[0], "Data"), "1");
        assert_eq!(table(&client, "/api/v1/events").await["columnDefinitions"][0]["name"], "Last Seen");
        assert_eq!(
            rows(&table(&client, "/api/v1/secrets").await),
            Vec::<Vec<_>>::new(),
            "empty, not unknown"
        );
        let missing = table_or_status(&client, &format!("{MAPS}/missing")).await;
        assert_eq!((&missing["kind"], &missing["reason"]), (&json!("Status"), &json!("NotFound")));
    }
}

/// P1: the kinds beyond pods that people look at on a node have their usual columns, too.
#[tokio::test]
async fn workloads_and_endpoints_have_the_columns_of_the_apiserver() {
    let cluster = online().await;
    cluster.api.create(json!({"kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "web:1"}]}}},
        "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}));
    cluster.api.create(objects::endpoint_slice("default", "web", &[("10.0.0.7", "web-1", "uid-1", NODE)]));
    cluster.api.create(objects::secret("default", "s", &[("a", "MQ=="), ("b", "Mg==")]));
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "*", "*"));
    let client = caller(&cluster, "ann");
    let cases = [
        (
            "/apis/apps/v1/deployments",
            PROTOBUF,
            vec![("Ready", "1/2"), ("Up-to-date", "2"), ("Images", "web:1"), ("Selector", "app=web")],
        ),
        (
            "/apis/discovery.k8s.io/v1/endpointslices",
            PROTOBUF,
            vec![("AddressType", "IPv4"), ("Endpoints", "10.0.0.7")],
        ),
        ("/api/v1/secrets", PROTOBUF, vec![("Type", "Opaque"), ("Data", "2")]),
    ];
    for (path, accept, _) in &cases {
        client.get_as(path, accept).await.unwrap().expect(200);
    }
    cut(&cluster).await;
    for (path, _, cells) in cases {
        let row = &rows(&table(&client, path).await)[0];
        for (column, expected) in cells {
            assert_eq!(cell(row, column), expected, "{path} {column}");
        }
    }
}

/// What an apiserver sends of a custom resource with three columns, of which one is described by its author.
const WIDGET_TABLE: &str = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},
    "columnDefinitions":[
        {"name":"Name","type":"string","format":"name","description":"x","priority":0},
        {"name":"Size","type":"integer","format":"","priority":0,
         "description":"Custom resource definition column (in JSONPath format): .spec.size"},
        {"name":"Ready","type":"string","format":"","description":"Whether it is ready.","priority":0},
        {"name":"Age","type":"date","format":"","description":"CreationTimestamp is ...","priority":0}],
    "rows":[]}"#;

/// P1: a custom resource keeps its columns. A table says where some of them come from, its definition says it of all.
#[tokio::test]
async fn custom_resources_keep_the_columns_that_the_cloud_showed() {
    let mut cluster = online().await;
    cluster.api.register(Kind::custom("example.org", "v1", "widgets", "Widget"));
    let definitions = ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition");
    let kind = Kind::custom(definitions.0, "v1", definitions.1, definitions.2);
    cluster.api.register(Kind { namespaced: false, ..kind });
    cluster.api.create(json!({"kind": "Widget", "apiVersion": "example.org/v1", "spec": {"size": 3},
        "metadata": {"name": "w", "namespace": "default"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    let ready = r#".status.conditions[?(@.type=="Ready")].status"#;
    cluster.api.create(json!({"kind": definitions.2, "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "widgets.example.org"}, "spec": {"versions": [{"name": "v1",
            "additionalPrinterColumns": [{"name": "Ready", "type": "string", "jsonPath": ready}]}]}}));
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "*", "*"));
    let client = caller(&cluster, "ann");
    let path = "/apis/example.org/v1/widgets";
    cluster.api.fault_times(1, Fault::Garbage(WIDGET_TABLE), |_, p| p.contains("widgets"));
    assert_eq!(table(&client, path).await["columnDefinitions"][1]["name"], "Size", "passed as it came");
    until_collection(&cluster, &["widgets"], "snapshot").await;
    for restarted in [false, true] {
        cut(&cluster).await;
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let client = caller(&cluster, "ann");
        let row = &rows(&table(&client, path).await)[0];
        let shown: Vec<&str> = row.iter().map(|(column, _)| column.as_str()).collect();
        assert_eq!(shown, ["Name", "Size", "Age"], "what cannot be filled is not shown");
        assert_eq!(cell(row, "Size"), "3");
        mend(&cluster).await;
    }
    let definition = format!("/apis/{}/v1/{}/widgets.example.org", definitions.0, definitions.1);
    caller(&cluster, "ann").get(&definition).await.unwrap().expect(200);
    cut(&cluster).await;
    let row = &rows(&table(&caller(&cluster, "ann"), path).await)[0];
    assert_eq!(row, &[("Name".to_owned(), "w".to_owned()), ("Ready".to_owned(), "True".to_owned())]);
}

/// What a client may say about the tables that it wants, and what is wrong with it.
#[tokio::test]
async fn a_client_gets_the_table_that_it_asked_for() {
    let cluster = online().await;
    map(&cluster, "a");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    let (list, one) = (format!("{MAPS}?"), format!("{MAPS}/a?"));
    client.get(&one).await.unwrap().expect(200);
    cut(&cluster).await;
    for path in [list, one] {
        let object = async |include: &str| {
            let table = table(&client, &format!("{path}includeObject={include}")).await;
            table["rows"][0]["object"].clone()
        };
        assert_eq!(object("None").await, json!(null), "{path}");
        assert_eq!(object("").await, object("Metadata").await, "{path}");
        assert_eq!(object("Metadata").await["kind"], "PartialObjectMetadata", "{path}");
        let whole = object("Object").await;
        assert_eq!((&whole["kind"], &whole["data"]["key"]), (&json!("ConfigMap"), &json!("1")), "{path}");
        for watch in ["", "&watch=true"].into_iter().take(if path.contains("/a?") { 1 } else { 2 }) {
            let bad = client.get_as(&format!("{path}includeObject=all{watch}"), KUBECTL).await.unwrap();
            assert_eq!((bad.code(), &bad.json()["reason"]), (400, &json!("BadRequest")), "{path}{watch}");
        }
    }
    let cases = [
        (TABLE, "Table"),
        ("application/json,application/json;as=Table;v=v1;g=meta.k8s.io", "ConfigMapList"),
        ("application/yaml,application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "ConfigMapList"),
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", "ConfigMapList"),
    ];
    for (accept, kind) in cases {
        let answer = client.get_as(MAPS, accept).await.unwrap().expect(200);
        assert_eq!(
            (answer.json()["kind"].as_str().unwrap(), answer.header("content-type")),
            (kind, JSON),
            "{accept}"
        );
        assert!(!answer.header("warning").is_empty() && !answer.header("age").is_empty(), "{accept}");
    }
    let beta = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    let old = client.get_as(MAPS, beta).await.unwrap().expect(200).json();
    assert_eq!(old["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(old["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    for accept in ["application/yaml", "application/json;as=Table;v=v2;g=meta.k8s.io"] {
        let refused = client.get_as(MAPS, accept).await.unwrap();
        assert_eq!((refused.code(), &refused.json()["reason"]), (406, &json!("NotAcceptable")), "{accept}");
    }
}

/// P4: `kubectl get --watch` goes on from its list, sees what the node writes and, when the link is back, what the
/// cloud changed; only its first table describes the columns.
#[tokio::test]
async fn a_watch_shows_a_row_for_every_change() {
    let cluster = online().await;
    cluster.api.create(objects::pod("default", "web", NODE));
    let client = reader(&cluster, "ann", &["pods"]);
    let kubelet = node(&cluster);
    let of_node = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let (_, _own) = informer(&kubelet, &of_node, PROTOBUF).await;
    let (_, _other) = informer(&client, "/api/v1/pods", PROTOBUF).await;
    until_collection(&cluster, &["pods", "spec.nodeName"], "live").await;
    cut(&cluster).await;
    let list = table(&client, "/api/v1/pods?limit=500").await;
    let path = format!("/api/v1/pods?watch=true&resourceVersion={}", version(&list));
    let mut stream = client.watch(&path, KUBECTL).await.unwrap();
    let mut from_now = client.watch("/api/v1/pods?watch=true&resourceVersion=0", KUBECTL).await.unwrap();
    let first = from_now.next_within(SOON).await.unwrap();
    assert_eq!(shown(&first), ("ADDED", "web"));
    assert_eq!(rows(&first.object)[0], rows(&list)[0]);

    let running =
        json!({"status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]}});
    let status = "/api/v1/namespaces/default/pods/web/status";
    kubelet.patch(status, "strategic-merge-patch", &running).await.unwrap().expect(200);
    let change = stream.next_within(SOON).await.unwrap();
    assert_eq!(shown(&change), ("MODIFIED", "web"));
    let row = &rows(&change.object)[0];
    assert_eq!((cell(row, "Status"), cell(row, "IP")), ("Running", "10.0.0.7"));
    let again = from_now.next_within(SOON).await.unwrap();
    assert_eq!((shown(&again), &again.object["columnDefinitions"]), (("MODIFIED", "web"), &json!(null)));
    assert_eq!(again.object["rows"], change.object["rows"]);

    mend(&cluster).await;
    cluster.api.create(objects::pod("default", "new", NODE));
    let added = async {
        loop {
            let event = stream.next_within(SOON).await.unwrap();
            assert_eq!(event.object["columnDefinitions"], json!(null), "only in the first");
            if shown(&event) == ("ADDED", "new") {
                return;
            }
        }
    };
    within("the cloud's pod is shown", SOON, added).await;
}

/// A streaming list of tables ends as one of objects does.
#[tokio::test]
async fn initial_events_of_tables_end_with_their_bookmark() {
    let cluster = online().await;
    map(&cluster, "a");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    cut(&cluster).await;
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut stream = client.watch(&format!("{MAPS}?{query}&includeObject=None"), KUBECTL).await.unwrap();
    let mut names = Vec::new();
    loop {
        let event = stream.next_within(SOON).await.unwrap();
        let row = &event.object["rows"][0];
        if event.kind == "BOOKMARK" {
            assert_eq!(row["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
            break;
        }
        assert_eq!(row["object"], json!(null));
        names.push(shown(&event).1.to_owned());
    }
    assert_eq!(names, ["a", "kube-root-ca.crt"]);
}
