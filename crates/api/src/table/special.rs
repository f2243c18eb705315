//! Cells that need more than a path: jobs, endpoints, volumes, storage classes.

use serde_json::Value;

use super::age::{human, seconds};
use super::format::first_of;
use super::or_none;
use super::sheet::{items, number, text};

/// How many pods of a job have ended well, of how many.
pub(super) fn completions(job: &Value, _now: i64) -> Value {
    let done = number(job, "/status/succeeded");
    let all = match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(all) => all.to_string(),
        None => match number(job, "/spec/parallelism") {
            parallel @ 2.. => format!("1 of {parallel}"),
            _ => "1".to_owned(),
        },
    };
    format!("{done}/{all}").into()
}

/// How long a job took or has been running.
pub(super) fn duration(job: &Value, now: i64) -> Value {
    let at = |path| job.pointer(path).and_then(Value::as_str).and_then(seconds);
    let Some(begun) = at("/status/startTime") else { return "".into() };
    human(at("/status/completionTime").unwrap_or(now).saturating_sub(begun)).into()
}

/// What a job has come to.
pub(super) fn job_status(job: &Value, _now: i64) -> Value {
    let holds = |of: &str| {
        let found = items(job, "/status/conditions").find(|c| text(c, "/type") == of);
        found.is_some_and(|c| text(c, "/status") == "True")
    };
    let first = |of: &[&'static str]| of.iter().copied().find(|of| holds(of));
    if let Some(ended) = first(&["Complete", "Failed"]) {
        return ended.into();
    }
    if job.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        return "Terminating".into();
    }
    first(&["Suspended", "FailureTarget", "SuccessCriteriaMet"]).unwrap_or("Running").into()
}

/// When a CronJob last ran.
pub(super) fn last_schedule(job: &Value, now: i64) -> Value {
    match job.pointer("/status/lastScheduleTime").and_then(Value::as_str) {
        Some(last) => super::age::age(Some(last), now).into(),
        None => or_none("").into(),
    }
}

/// Whether a CronJob is suspended, in words.
pub(super) fn suspended(job: &Value, _now: i64) -> Value {
    match job.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
    .into()
}

/// The addresses of Endpoints with their ports.
pub(super) fn endpoints(endpoints: &Value, _now: i64) -> Value {
    if items(endpoints, "/subsets").next().is_none() {
        return or_none("").into();
    }
    first_of(items(endpoints, "/subsets").flat_map(of_subset)).into()
}

fn of_subset(subset: &Value) -> Vec<String> {
    let addresses = || items(subset, "/addresses").map(|a| text(a, "/ip"));
    let ports: Vec<i64> = items(subset, "/ports").map(|p| number(p, "/port")).collect();
    if ports.is_empty() {
        return addresses().map(str::to_owned).collect();
    }
    let joined =
        |ip: &str, port| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    ports.into_iter().flat_map(|port| addresses().map(move |ip| joined(ip, port))).collect()
}

/// The ports of an EndpointSlice.
pub(super) fn slice_ports(slice: &Value, _now: i64) -> Value {
    let port = |port: &Value| match (port.get("port").and_then(Value::as_i64), port.get("name")) {
        (Some(number), _) => number.to_string(),
        (None, Some(Value::String(name))) => name.clone(),
        _ => "*".to_owned(),
    };
    or_unset(first_of(items(slice, "/ports").map(port)))
}

/// The addresses of an EndpointSlice.
pub(super) fn slice_endpoints(slice: &Value, _now: i64) -> Value {
    let addresses = items(slice, "/endpoints").flat_map(|e| items(e, "/addresses"));
    or_unset(first_of(addresses.filter_map(Value::as_str).map(str::to_owned)))
}

fn or_unset(text: String) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// The claim that a volume is bound to.
pub(super) fn claim(volume: &Value, _now: i64) -> Value {
    match volume.pointer("/spec/claimRef").filter(|c| c.is_object()) {
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")).into(),
        None => "".into(),
    }
}

/// The phase of a volume or claim; one that is being deleted says so.
pub(super) fn phase(object: &Value, _now: i64) -> Value {
    if object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        return "Terminating".into();
    }
    text(object, "/status/phase").into()
}

/// The storage class of a volume or claim; the annotation of old goes before the field.
pub(super) fn class(object: &Value, _now: i64) -> Value {
    let old = object.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    old.and_then(Value::as_str).unwrap_or_else(|| text(object, "/spec/storageClassName")).into()
}

/// How a volume may be used.
pub(super) fn volume_modes(volume: &Value, _now: i64) -> Value {
    modes(volume, "/spec/accessModes").into()
}

/// How a bound claim may be used.
pub(super) fn claim_modes(claim: &Value, _now: i64) -> Value {
    if is_bound(claim) { modes(claim, "/status/accessModes").into() } else { "".into() }
}

/// How large the volume of a bound claim is.
pub(super) fn claim_capacity(claim: &Value, _now: i64) -> Value {
    if !is_bound(claim) {
        return "".into();
    }
    claim.pointer("/status/capacity/storage").and_then(Value::as_str).unwrap_or("0").into()
}

fn is_bound(claim: &Value) -> bool {
    !text(claim, "/spec/volumeName").is_empty()
}

/// Access modes in their usual order (`GetAccessModesAsString` of `k8s.io/kubernetes/pkg/apis/core/helper`).
fn modes(object: &Value, path: &str) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| items(object, path).any(|m| m == mode);
    known.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

/// The name of a storage class, which says whether it is the default one.
pub(super) fn class_name(class: &Value, _now: i64) -> Value {
    let says = |key: &str| text(class, &format!("/metadata/annotations/{key}")) == "true";
    let default = says("storageclass.kubernetes.io~1is-default-class")
        || says("storageclass.beta.kubernetes.io~1is-default-class");
    format!("{}{}", text(class, "/metadata/name"), if default { " (default)" } else { "" }).into()
}
