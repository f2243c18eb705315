//! JSON, protobuf, metadata only.

use serde_json::json;
use yurt_api::resource::TypeMeta;
use yurt_testkit::{apiserver::protobuf, client::KUBELET_ACCEPT};

use crate::{Bench, SOON, names, version};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub async fn protobuf_says_the_same(b: &Bench) {
    b.create("a").await;
    let json = b.get(&b.path("configmaps/a")).await;
    let answer = b.client.get_as(&b.path("configmaps/a"), KUBELET_ACCEPT).await.unwrap().expect(200);
    assert_eq!(answer.header("content-type"), PROTOBUF);
    let mut object = protobuf::decode(&answer.body).unwrap();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    let mut expected = json.clone();
    expected["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(object, expected);
    let list =
        b.client.get_as(&b.path("configmaps?labelSelector=all"), KUBELET_ACCEPT).await.unwrap().expect(200);
    let list = protobuf::decode(&list.body).unwrap();
    assert_eq!((names(&list), &list["kind"]), (vec!["a"], &json!("ConfigMapList")));
    let missing = b.client.get_as(&b.path("configmaps/none"), KUBELET_ACCEPT).await.unwrap().expect(404);
    let status = protobuf::decode(&missing.body).unwrap();
    assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(404)));
}

pub async fn metadata_alone(b: &Bench) {
    let made = b.create("a").await;
    let list =
        b.client.get_as(&b.path("configmaps?labelSelector=all"), METADATA).await.unwrap().expect(200).json();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1"))
    );
    let item = &list["items"][0];
    assert_eq!(item["metadata"]["uid"], made["metadata"]["uid"]);
    assert!(item.get("data").is_none());
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let object = b.client.get_as(&b.path("configmaps/a"), accept).await.unwrap().expect(200).json();
    assert_eq!(
        (&object["kind"], &object["apiVersion"]),
        (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1"))
    );
    let accept = METADATA.replace("/json", "/vnd.kubernetes.protobuf");
    let list = b.client.get_as(&b.path("configmaps?labelSelector=all"), &accept).await.unwrap().expect(200);
    let list = protobuf::decode(&list.body).unwrap();
    assert_eq!((names(&list), &list["kind"]), (vec!["a"], &json!("PartialObjectMetadataList")));
}

/// What kubectl asks for; a client may be told a table as `application/json`, so only the body tells it apart.
pub async fn tables_have_rows(b: &Bench) {
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let made = b.create("a").await;
    let path = b.path("configmaps?labelSelector=all");
    let list = b.client.get_as(&path, accept).await.unwrap().expect(200);
    assert_eq!(list.header("content-type"), "application/json");
    let list = list.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert!(list.get("items").is_none() && version(&list) >= version(&made));
    assert_eq!(
        (&list["rows"][0]["cells"][0], &list["columnDefinitions"][0]["name"]),
        (&json!("a"), &json!("Name"))
    );
    let object = &list["rows"][0]["object"];
    assert_eq!(
        (&object["kind"], &object["metadata"]["uid"]),
        (&json!("PartialObjectMetadata"), &made["metadata"]["uid"])
    );
    let one = b.client.get_as(&b.path("configmaps/a"), accept).await.unwrap().expect(200).json();
    assert_eq!((&one["kind"], one["rows"].as_array().unwrap().len()), (&json!("Table"), 1));
    let watch = format!("{path}&watch=true&resourceVersion={}", version(&list));
    let mut watch = b.client.watch(&watch, accept).await.unwrap();
    b.create("b").await;
    let event = watch.next_change(SOON).await.unwrap();
    assert_eq!((event.kind.as_str(), &event.object["rows"][0]["cells"][0]), ("ADDED", &json!("b")));
}

pub async fn protobuf_watches(b: &Bench) {
    let made = b.create("a").await;
    let path = b.path("configmaps?watch=true&labelSelector=all");
    let mut stream = b.client.watch(&path, KUBELET_ACCEPT).await.unwrap();
    assert_eq!(stream.headers["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let event = stream.next_within(SOON).await.unwrap();
    assert_eq!((event.kind.as_str(), event.name(), event.version()), ("ADDED", "a", version(&made)));
    assert_eq!(event.object["data"], made["data"]);
    let mut stream =
        b.client.watch(&path, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await.unwrap();
    let event = stream.next_within(SOON).await.unwrap();
    assert_eq!((&event.object["kind"], event.name()), (&json!("PartialObjectMetadata"), "a"));
}

pub async fn protobuf_bodies(b: &Bench) {
    let object = b.config_map("a", &json!({"x": "y"}));
    let tm = TypeMeta { api_version: "v1".into(), kind: "ConfigMap".into() };
    let body = protobuf::envelope(&tm, &protobuf::message(&tm, &object).unwrap());
    let made = b
        .client
        .send(http::Method::POST, &b.path("configmaps"), PROTOBUF, body.into())
        .await
        .unwrap()
        .expect(201);
    assert_eq!(made.json()["data"], object["data"]);
    assert_eq!(made.json()["metadata"]["labels"]["x"], "y");
    b.client
        .send(http::Method::POST, &b.path("configmaps"), PROTOBUF, "k8s\0nonsense".into())
        .await
        .unwrap()
        .expect(400);
}

pub async fn unknown_types_are_406(b: &Bench) {
    b.client.get_as(&b.path("configmaps"), "text/html").await.unwrap().expect(406);
    b.client.get_as(&b.path("configmaps"), "text/html,*/*").await.unwrap().expect(200);
}
