//! Shapes and headers that every answer has.

use serde_json::json;
use yurt_testkit::client::{Client, Protocol};

use crate::{Bench, SOON};

pub async fn statuses_have_their_shape(b: &Bench) {
    let status = b.client.get(&b.path("configmaps/none")).await.unwrap().expect(404).json();
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "configmaps \"none\" not found", "reason": "NotFound",
        "details": {"name": "none", "kind": "configmaps"}, "code": 404,
    });
    assert_eq!(status, expected);
    let nobody = Client::new(&b.target.base, &b.target.ca_pem, None, Protocol::Http1).timeout(SOON);
    let code = nobody.get(&b.path("configmaps")).await.unwrap().code();
    assert!(matches!(code, 401 | 403), "{code}");
    let status = nobody.token("wrong").get(&b.path("configmaps")).await.unwrap().expect(401).json();
    assert_eq!((&status["reason"], &status["message"]), (&json!("Unauthorized"), &json!("Unauthorized")));
}

pub async fn headers_are_there(b: &Bench) {
    b.create("a").await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let answer =
            b.target.client(protocol).timeout(SOON).get(&b.path("configmaps/a")).await.unwrap().expect(200);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert_eq!(answer.header("audit-id").len(), 36);
        assert_eq!(answer.header("cache-control"), "no-cache, private");
    }
}
