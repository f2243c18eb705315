//! What a kubelet says of its node and of its pods.

use super::objects::BEHAVIOUR;
use anyhow::Result;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// The time as Kubernetes' `Time`.
pub fn now() -> Result<String> {
    Ok(OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?)
}

/// The time as Kubernetes' `MicroTime`, which leases have.
pub fn now_micro() -> Result<String> {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    Ok(OffsetDateTime::now_utc().format(&form)?)
}

/// The status of an object's condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// A patch of the status of a node that is well.
pub fn of_node(now: &str) -> Value {
    let healthy =
        [("Ready", "True", "KubeletReady"), ("MemoryPressure", "False", "KubeletHasSufficientMemory")];
    let conditions: Vec<Value> = healthy
        .iter()
        .map(|(kind, status, reason)| {
            json!({"type": kind, "status": status, "reason": reason,
                "lastHeartbeatTime": now, "lastTransitionTime": now})
        })
        .collect();
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    json!({"status": {"capacity": room, "allocatable": room, "conditions": conditions}})
}

/// The status of a pod that runs, as its annotation says: well, unready, or crashing.
pub fn of_pod(pod: &Value, now: &str) -> Value {
    let behaviour = pod["metadata"]["annotations"][BEHAVIOUR].as_str().unwrap_or_default();
    let ready = behaviour.is_empty();
    let truth = if ready { "True" } else { "False" };
    let state = match behaviour {
        "crashing" => json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}),
        _ => json!({"running": {"startedAt": now}}),
    };
    let conditions: Vec<Value> = [("Initialized", "True"), ("ContainersReady", truth), ("Ready", truth)]
        .iter()
        .map(|(kind, status)| json!({"type": kind, "status": status, "lastTransitionTime": now}))
        .collect();
    json!({
        "phase": "Running",
        "podIP": address(pod),
        "podIPs": [{"ip": address(pod)}],
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": [{
            "name": "it", "image": "simulated", "imageID": "", "containerID": "simulated://it",
            "ready": ready, "started": ready, "restartCount": if behaviour == "crashing" { 7 } else { 0 },
            "state": state,
        }],
    })
}

/// Whether the pod's status says already what the kubelet wants to say, apart from times.
pub fn is_told(pod: &Value, wanted: &Value) -> bool {
    let told = &pod["status"];
    let same = |kind: &str| condition(pod, kind) == condition(&json!({"status": wanted}), kind);
    told["phase"] == wanted["phase"]
        && told["containerStatuses"][0]["ready"] == wanted["containerStatuses"][0]["ready"]
        && same("Ready")
        && same("ContainersReady")
}

/// An address that no other pod has: 100 and three bytes of the UID.
fn address(pod: &Value) -> String {
    let digits: Vec<u8> = pod["metadata"]["uid"].as_str().unwrap_or_default().bytes().collect();
    let byte = |at: usize| {
        let two = digits.get(at..at + 2).and_then(|two| std::str::from_utf8(two).ok());
        two.and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or(1)
    };
    format!("100.{}.{}.{}", byte(0), byte(2), byte(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_not_told_again_and_a_flipped_condition_is() {
        let mut pod = json!({"metadata": {"uid": "0a0b0c00-0000"}, "spec": {}});
        let wanted = of_pod(&pod, "2026-01-01T00:00:00Z");
        assert!(!is_told(&pod, &wanted));
        assert_eq!(wanted["podIP"], "100.10.11.12");
        pod["status"] = wanted.clone();
        assert!(is_told(&pod, &wanted));
        pod["status"]["conditions"][2]["status"] = "False".into();
        assert!(!is_told(&pod, &wanted));
    }

    #[test]
    fn a_crashing_container_is_never_ready() {
        let pod = json!({"metadata": {"annotations": {BEHAVIOUR: "crashing"}}});
        let status = json!({"status": of_pod(&pod, "2026-01-01T00:00:00Z")});
        assert_eq!(condition(&status, "Ready"), Some("False"));
        assert_eq!(status["status"]["containerStatuses"][0]["ready"], false);
    }
}
