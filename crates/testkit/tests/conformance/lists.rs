//! list: order, selectors, pages, versions.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{Bench, names, version};

pub async fn lists_are_ordered_and_bare(b: &Bench) {
    let empty = b.get(&b.path("secrets")).await;
    assert_eq!((&empty["kind"], &empty["apiVersion"]), (&json!("SecretList"), &json!("v1")));
    assert_eq!(empty["items"], json!([]));
    for name in ["c", "a", "b-1", "b"] {
        b.create(name).await;
    }
    let list = b.get(&b.path("configmaps?labelSelector=all%3Dyes")).await;
    assert_eq!(names(&list), ["a", "b", "b-1", "c"]);
    assert!(list["items"][0].get("kind").is_none());
    assert!(version(&list) >= version(&list["items"][0]));
}

pub async fn selectors_choose(b: &Bench) {
    for name in ["a", "b", "c"] {
        b.create(name).await;
    }
    let cases = [
        ("labelSelector=name%3Da", vec!["a"]),
        ("labelSelector=name+in+(a,c)", vec!["a", "c"]),
        ("labelSelector=all,name+notin+(a)", vec!["b", "c"]),
        ("labelSelector=all,!none,name!%3Db", vec!["a", "c"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("labelSelector=all&fieldSelector=metadata.name!%3Db", vec!["a", "c"]),
        ("fieldSelector=metadata.name%3Dnone", vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(names(&b.get(&b.path(&format!("configmaps?{query}"))).await), expected, "{query}");
    }
    b.client.get(&b.path("configmaps?labelSelector=a%3D%3D%3Db")).await.unwrap().expect(400);
}

pub async fn unknown_field_labels_are_400(b: &Bench) {
    let refused =
        b.client.get(&b.path("configmaps?fieldSelector=spec.nodeName%3Da")).await.unwrap().expect(400);
    assert!(refused.text().contains("is not a known field selector"), "{}", refused.text());
    let refused = b.client.get(&b.path("pods?fieldSelector=spec.none%3Da")).await.unwrap().expect(400).json();
    assert_eq!(refused["message"], "field label not supported: spec.none");
    for (path, said) in [
        (
            "/api/v1/nodes?fieldSelector=metadata.namespace%3Da",
            "field label not supported: metadata.namespace",
        ),
        ("/api/v1/namespaces?fieldSelector=name%3Da", "field label not supported: name"),
        (
            "/apis/apps/v1/replicasets?fieldSelector=status.replicas%3D1",
            "\"status.replicas\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("/apis/batch/v1/jobs?fieldSelector=a.b%3D1", "field label \"a.b\" not supported for Job"),
        (
            "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=metadata.namespace%3Da",
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: metadata.namespace",
        ),
        (
            "/apis/certificates.k8s.io/v1/certificatesigningrequests?fieldSelector=a.b%3D1",
            "field label not supported: a.b",
        ),
    ] {
        let refused = b.client.get(path).await.unwrap().expect(400).json();
        assert_eq!((&refused["message"], &refused["reason"]), (&json!(said), &json!("BadRequest")), "{path}");
    }
    for taken in [
        "/apis/batch/v1/jobs?fieldSelector=status.successful%3D0",
        "/apis/apps/v1/replicasets?fieldSelector=metadata.namespace%3Da",
        "/api/v1/persistentvolumes?fieldSelector=metadata.namespace%3Da",
        "/api/v1/pods?fieldSelector=status.podIPs%3D1",
        "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Da",
    ] {
        b.get(taken).await;
    }
    b.get(&b.path("pods?fieldSelector=spec.nodeName%3Da,status.phase!%3DFailed")).await;
    b.get("/api/v1/services?fieldSelector=spec.clusterIP!%3DNone").await;
}

pub async fn pages_are_of_one_version(b: &Bench) {
    for name in ["a", "b", "c", "d", "e"] {
        b.create(name).await;
    }
    let page = |query: &str| b.path(&format!("configmaps?limit=2&{query}"));
    let first = b.get(&page("labelSelector=all")).await;
    assert_eq!(names(&first), ["a", "b"]);
    b.client.delete(&b.path("configmaps/c"), &json!(null)).await.unwrap().expect(200);
    b.create("cc").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = b.get(&page(&format!("labelSelector=all&continue={token}"))).await;
    assert_eq!((names(&second), version(&second)), (vec!["c", "d"], version(&first)));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = b.get(&page(&format!("labelSelector=all&continue={token}"))).await;
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"].get("continue").is_none_or(|c| c == ""));
    let unfiltered = b.get(&page("")).await;
    assert!(unfiltered["metadata"]["remainingItemCount"].as_u64().unwrap() >= 3);
    assert!(first["metadata"].get("remainingItemCount").is_none());
    // A token names the place below the namespace that is listed.
    let all = b.get("/api/v1/configmaps?limit=1").await;
    let decoded = |list: &Value| {
        let token = list["metadata"]["continue"].as_str().unwrap();
        let mut token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        // Pages of the watch cache begin it with a slash, which is passed over when it comes back.
        token["start"] = token["start"].as_str().unwrap().trim_start_matches('/').into();
        token
    };
    let last = &all["items"][0]["metadata"];
    let path = format!("{}/{}\0", last["namespace"].as_str().unwrap(), last["name"].as_str().unwrap());
    assert_eq!((&decoded(&all)["start"], &decoded(&all)["v"]), (&json!(path), &json!("meta.k8s.io/v1")));
    assert_eq!((&decoded(&first)["start"], &decoded(&first)["rv"]), (&json!("b\0"), &json!(version(&first))));
}

/// Everything that is wrong with a query, in the words of the server.
pub async fn wrong_queries_are_named(b: &Bench) {
    b.create("a").await;
    let token = |json: &str| format!("limit=1&continue={}", URL_SAFE_NO_PAD.encode(json));
    let wrong_match = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let cases = [
        ("limit=1&continue=nonsense".into(), 400, "invalid continue token: continue key is not valid: "),
        (
            token("{}"),
            400,
            "invalid continue token: continue key is not valid: server does not recognize this",
        ),
        (
            token(r#"{"v":"meta.k8s.io/v1","start":"a"}"#),
            400,
            "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            token(r#"{"v":"meta.k8s.io/v1","rv":1}"#),
            400,
            "invalid continue token: continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
        ),
        (
            token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#),
            400,
            "invalid continue token: continue key is not valid: ../a",
        ),
        (
            format!("{}&resourceVersion=1", token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a"}"#)),
            400,
            "specifying resource version is not allowed when using continue",
        ),
        (
            "resourceVersion=abc".into(),
            400,
            "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "resourceVersionMatch=Exact".into(),
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact".into(),
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Most".into(),
            422,
            "resourceVersionMatch: Unsupported value: \"Most\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            "resourceVersionMatch=Most".into(),
            422,
            "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, resourceVersionMatch: Unsupported value: \"Most\": supported values: \"Exact\", \"NotOlderThan\", \"\"]",
        ),
        (
            "sendInitialEvents=true".into(),
            422,
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
    ];
    for (query, code, message) in cases {
        let status = b.client.get(&b.path(&format!("configmaps?{query}"))).await.unwrap().expect(code).json();
        let (reason, before) = if code == 422 { ("Invalid", wrong_match) } else { ("BadRequest", "") };
        assert_eq!(status["reason"], reason, "{query}: {status}");
        let said = status["message"].as_str().unwrap();
        assert!(said.starts_with(&format!("{before}{message}")), "{query}: {said}");
        if code == 422 {
            assert_eq!(status["details"]["kind"], "ListOptions", "{query}: {status}");
            let cause = &status["details"]["causes"][0];
            assert!(cause["reason"].as_str().unwrap().starts_with("FieldValue"), "{query}: {status}");
        }
    }
}

pub async fn versions_are_matched(b: &Bench) {
    let at = version(&b.create("a").await);
    let both = version(&b.create("b").await);
    let list = |query: String| b.path(&format!("configmaps?labelSelector=all&{query}"));
    let exact = b.get(&list(format!("resourceVersion={at}&resourceVersionMatch=Exact"))).await;
    assert_eq!((names(&exact), version(&exact)), (vec!["a"], at));
    // A cache that has not come further than the first would be right for the first's version.
    let newer = b.get(&list(format!("resourceVersion={both}&resourceVersionMatch=NotOlderThan"))).await;
    assert_eq!(names(&newer), ["a", "b"]);
    b.get(&list("resourceVersion=0".into())).await;
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Most",
    ] {
        b.client.get(&list(query.into())).await.unwrap().expect(422);
    }
    b.client.get(&list("resourceVersion=abc".into())).await.unwrap().expect(400);
}

pub async fn a_future_version_is_a_timeout(b: &Bench) {
    let future = version(&b.create("a").await) + 100_000;
    for path in
        [format!("configmaps?resourceVersion={future}"), format!("configmaps/a?resourceVersion={future}")]
    {
        let refused = b.client.get(&b.path(&path)).await.unwrap().expect(504).json();
        assert_eq!(refused["reason"], "Timeout");
        assert_eq!(refused["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    }
}

pub async fn collections_are_deleted_by_selector(b: &Bench) {
    for name in ["a", "b", "c"] {
        b.create(name).await;
    }
    b.client
        .delete(&b.path("configmaps?labelSelector=name+in+(a,b)"), &json!(null))
        .await
        .unwrap()
        .expect(200);
    assert_eq!(names(&b.get(&b.path("configmaps?labelSelector=all")).await), ["c"]);
}
