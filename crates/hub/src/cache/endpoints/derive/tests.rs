use serde_json::{Value, json};

use super::*;

const NODE: &str = "edge-1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod that had 10.0.0.1.
fn pod(address: &str, ready: bool) -> PodState {
    PodState { addresses: vec![ip(address)], former: vec![ip("10.0.0.1")], ready, ..PodState::default() }
}

fn dual() -> PodState {
    PodState { addresses: vec![ip("10.0.0.2"), ip("fd00::2")], ready: true, ..PodState::default() }
}

fn terminating() -> PodState {
    PodState { terminating: true, ..pod("10.0.0.1", true) }
}

fn ended() -> PodState {
    PodState { ended: true, ..pod("10.0.0.1", true) }
}

fn derive(shows: Shows, object: &Value, pod: PodState, publishes: Option<bool>) -> Option<Value> {
    let pods = BTreeMap::from([("u1".to_owned(), pod)]);
    shows.derive(object, Known { node: NODE, pods: &pods, publishes })
}

fn endpoint(address: &str, [ready, serving, terminating]: [bool; 3]) -> Value {
    json!({
        "addresses": [address], "nodeName": NODE, "zone": "a", "hostname": "web",
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "namespace": "d", "name": "web", "uid": "u1"},
    })
}

const READY: [bool; 3] = [true, true, false];
const UNREADY: [bool; 3] = [false, false, false];

/// Another pod of this node, of which the node wrote nothing, and one of another node that claims the same uid.
fn others() -> [Value; 2] {
    let (mut unwritten, mut foreign) = (endpoint("10.0.0.8", READY), endpoint("10.9.0.9", READY));
    unwritten["targetRef"]["uid"] = json!("u2");
    foreign["nodeName"] = json!("edge-2");
    [unwritten, foreign]
}

fn slice(endpoint: Option<Value>) -> Value {
    let endpoints: Vec<Value> = endpoint.into_iter().chain(others()).collect();
    json!({
        "metadata": {"name": "web-1", "labels": {SERVICE: "web"}, "annotations": {"a": "b"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}],
    })
}

#[test]
fn a_slice_shows_the_pod_as_the_controller_would() {
    let old = || endpoint("10.0.0.1", READY);
    let shown = |address, conditions| Some(Some(endpoint(address, conditions)));
    let no_addresses = PodState { ready: true, ..PodState::default() };
    // What the cloud shows, what the node knows, whether the Service wants what is not ready, what is shown then
    // (None: no change; Some(None): the endpoint is gone).
    let cases = [
        ("nothing new", old(), pod("10.0.0.1", true), None, None),
        ("a new address", old(), pod("10.0.0.2", true), None, shown("10.0.0.2", READY)),
        ("and not ready yet", old(), pod("10.0.0.2", false), None, shown("10.0.0.2", UNREADY)),
        ("ready again", endpoint("10.0.0.1", UNREADY), pod("10.0.0.1", true), None, shown("10.0.0.1", READY)),
        ("both families", old(), dual(), None, shown("10.0.0.2", READY)),
        ("only the other family", old(), pod("fd00::2", true), None, Some(None)),
        ("no address", old(), no_addresses, None, Some(None)),
        ("ended", old(), ended(), None, Some(None)),
        ("terminating", old(), terminating(), None, shown("10.0.0.1", [false, true, true])),
        (
            "terminating in the cloud",
            endpoint("10.0.0.1", [false, true, true]),
            pod("10.0.0.1", true),
            None,
            None,
        ),
        (
            "terminating in the cloud, at a new address",
            endpoint("10.0.0.1", [false, true, true]),
            pod("10.0.0.2", true),
            None,
            shown("10.0.0.2", [false, true, true]),
        ),
        ("published", old(), pod("10.0.0.2", false), Some(true), shown("10.0.0.2", [true, false, false])),
        ("published, terminating", old(), terminating(), Some(true), shown("10.0.0.1", [true, true, true])),
        (
            "published, as the slice shows",
            endpoint("10.0.0.1", [true, false, false]),
            pod("10.0.0.2", false),
            None,
            shown("10.0.0.2", [true, false, false]),
        ),
        (
            "published no longer",
            endpoint("10.0.0.1", [true, false, false]),
            pod("10.0.0.1", false),
            Some(false),
            shown("10.0.0.1", UNREADY),
        ),
    ];
    for (what, before, pod, publishes, expected) in cases {
        let after = derive(Shows::Slice, &slice(Some(before)), pod, publishes);
        assert_eq!(after, expected.map(slice), "{what}");
    }
}

#[test]
fn what_was_written_later_knows_better() {
    for (written_at, follows) in [("4", true), ("5", false), ("6", false)] {
        let mut slice = slice(Some(endpoint("10.0.0.1", READY)));
        slice["metadata"]["resourceVersion"] = json!(written_at);
        let pod = PodState { known_at: Some(5), ..pod("10.0.0.2", true) };
        assert_eq!(derive(Shows::Slice, &slice, pod, None).is_some(), follows, "{written_at}");
    }
}

#[test]
fn what_a_slice_leaves_unsaid_is_said_only_when_it_changes() {
    let bare = |conditions: Value| {
        let mut endpoint = endpoint("10.0.0.1", READY);
        endpoint["conditions"] = conditions;
        slice(Some(endpoint))
    };
    assert_eq!(derive(Shows::Slice, &bare(json!({})), pod("10.0.0.1", true), None), None);
    let after = derive(Shows::Slice, &bare(json!({})), pod("10.0.0.1", false), None);
    assert_eq!(after, Some(bare(json!({"ready": false, "serving": false}))));
}

#[test]
fn addresses_that_are_not_the_pods_stay() {
    let moved = || pod("10.0.0.2", true);
    let mut named = slice(Some(endpoint("web.example", READY)));
    named["addressType"] = json!("FQDN");
    assert_eq!(derive(Shows::Slice, &named, moved(), None), None);
    // A controller for second networks names the pods, too; of a pod's own addresses it may make use as well.
    for (address, moves) in [("172.16.0.1", false), ("10.0.0.1", true)] {
        let mut slice = slice(Some(endpoint(address, READY)));
        slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = json!("networks.example");
        let after = derive(Shows::Slice, &slice, moved(), None);
        assert_eq!(after.is_some(), moves, "{address}");
        let after = derive(Shows::Slice, &slice, pod(address, false), None).unwrap();
        assert_eq!(after["endpoints"][0], endpoint(address, UNREADY), "readiness follows in any case");
    }
    // The stock controller's addresses move even when the node did not know the old one.
    let mut slice = slice(Some(endpoint("172.16.0.1", READY)));
    slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] =
        json!("endpointslice-controller.k8s.io");
    let after = derive(Shows::Slice, &slice, moved(), None).unwrap();
    assert_eq!(after["endpoints"][0]["addresses"], json!(["10.0.0.2"]));
}

#[test]
fn the_time_of_the_last_reason_goes_with_a_change() {
    let mut before = slice(Some(endpoint("10.0.0.1", READY)));
    before["metadata"]["annotations"] = json!({TRIGGER_TIME: "2026-01-01T00:00:00Z"});
    let after = derive(Shows::Slice, &before, pod("10.0.0.2", true), None).unwrap();
    assert_eq!(after["metadata"].get("annotations"), None);
    assert_eq!(derive(Shows::Slice, &before, pod("10.0.0.1", true), None), None);
}

fn address(ip: &str, uid: &str, node: &str) -> Value {
    json!({"ip": ip, "nodeName": node, "targetRef": {"kind": "Pod", "name": uid, "uid": uid}})
}

fn subset(ready: &[Value], unready: &[Value]) -> Value {
    let mut subset = json!({"ports": [{"port": 80}]});
    for (name, list) in [("addresses", ready), ("notReadyAddresses", unready)] {
        if !list.is_empty() {
            subset[name] = json!(list);
        }
    }
    subset
}

fn endpoints(subsets: &[Value]) -> Value {
    let mut object = json!({"metadata": {"name": "web", "namespace": "d"}});
    if !subsets.is_empty() {
        object["subsets"] = json!(subsets);
    }
    object
}

#[test]
fn endpoints_show_the_pod_as_the_controller_would() {
    let own = |ip| address(ip, "u1", NODE);
    let other = || address("10.9.0.9", "u9", "edge-2");
    let before = || subset(&[own("10.0.0.1"), other()], &[]);
    // The subset that the cloud shows, what the node knows, whether the Service wants what is not ready, the subset
    // that is shown then (None: no change).
    let cases = [
        ("nothing new", before(), pod("10.0.0.1", true), None, None),
        (
            "a new address",
            before(),
            pod("10.0.0.2", true),
            None,
            Some(subset(&[own("10.0.0.2"), other()], &[])),
        ),
        (
            "behind the others",
            before(),
            pod("10.99.0.2", true),
            None,
            Some(subset(&[other(), own("10.99.0.2")], &[])),
        ),
        ("not ready", before(), pod("10.0.0.2", false), None, Some(subset(&[other()], &[own("10.0.0.2")]))),
        (
            "ready again",
            subset(&[other()], &[own("10.0.0.1")]),
            pod("10.0.0.1", true),
            None,
            Some(subset(&[own("10.0.0.1"), other()], &[])),
        ),
        (
            "published",
            before(),
            pod("10.0.0.2", false),
            Some(true),
            Some(subset(&[own("10.0.0.2"), other()], &[])),
        ),
        ("terminating", before(), terminating(), None, Some(subset(&[other()], &[]))),
        ("published, terminating", before(), terminating(), Some(true), None),
        ("ended", before(), ended(), None, Some(subset(&[other()], &[]))),
        ("only the other family", before(), pod("fd00::2", true), None, Some(subset(&[other()], &[]))),
    ];
    for (what, before, pod, publishes, expected) in cases {
        let after = derive(Shows::Endpoints, &endpoints(&[before]), pod, publishes);
        assert_eq!(after, expected.map(|s| endpoints(&[s])), "{what}");
    }
}

#[test]
fn subsets_without_addresses_go() {
    let own = subset(&[address("10.0.0.1", "u1", NODE)], &[]);
    let other = subset(&[], &[address("10.9.0.9", "u9", "edge-2")]);
    let after = derive(Shows::Endpoints, &endpoints(&[own.clone(), other.clone()]), ended(), None);
    assert_eq!(after, Some(endpoints(&[other])));
    assert_eq!(derive(Shows::Endpoints, &endpoints(&[own]), ended(), None), Some(endpoints(&[])));
}

#[test]
fn what_is_said_twice_says_the_same() {
    let moved = || pod("10.0.0.2", false);
    for (shows, object) in [
        (Shows::Slice, slice(Some(endpoint("10.0.0.1", READY)))),
        (Shows::Endpoints, endpoints(&[subset(&[address("10.0.0.1", "u1", NODE)], &[])])),
    ] {
        let once = derive(shows, &object, moved(), None).unwrap();
        assert_eq!(derive(shows, &once, moved(), None), None);
    }
}

#[test]
fn a_pod_is_read_from_its_status() {
    let pod = |status: Value| json!({"metadata": {"uid": "u"}, "status": status});
    let ready = |is| json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": is}]);
    let base = pod(json!({"podIP": "10.0.0.1"}));
    let state = PodState::of(
        &pod(json!({
            "phase": "Running", "conditions": ready("True"),
            "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}, {"ip": "x"}],
        })),
        &base,
    );
    assert_eq!(state, PodState { former: vec![ip("10.0.0.1")], ..dual() });
    assert!(!PodState::of(&pod(json!({"conditions": ready("False")})), &base).ready);
    for phase in ["Failed", "Succeeded"] {
        assert!(PodState::of(&pod(json!({"phase": phase})), &base).ended, "{phase}");
    }
    assert!(PodState::of(&Value::Null, &base).ended);
    let mut leaving = pod(json!({}));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(PodState::of(&leaving, &base).terminating);
}
