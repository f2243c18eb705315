//! What a list or watch may ask for at all.
//! Source: k8s.io/apimachinery/pkg/apis/meta/internalversion/validation.

use super::{error::Refusal, request::Query};

type Problem = (&'static str, &'static str, String);

/// Refuses a list whose parameters contradict each other.
pub fn check_list(query: &Query) -> Result<(), Refusal> {
    let (matching, version) = (query.get("resourceVersionMatch"), query.get("resourceVersion"));
    let mut problems = Vec::new();
    if !matching.is_empty() {
        if version.is_empty() {
            problems.push(forbidden_match(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !query.get("continue").is_empty() {
            problems.push(forbidden_match("resourceVersionMatch is forbidden when continue is provided"));
        }
        if !["Exact", "NotOlderThan"].contains(&matching) {
            problems.push(unsupported(matching, "\"Exact\", \"NotOlderThan\", \"\""));
        }
        if matching == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            problems.push(forbidden_match(why));
        }
    }
    if !query.get("sendInitialEvents").is_empty() {
        problems.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    refuse(&problems)
}

/// Refuses a watch whose parameters contradict each other.
pub fn check_watch(query: &Query) -> Result<(), Refusal> {
    let matching = query.get("resourceVersionMatch");
    let initial = !query.get("sendInitialEvents").is_empty();
    let newer = "NotOlderThan";
    let mut problems = Vec::new();
    if initial && matching != newer {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        problems.push(forbidden_match(why));
    }
    if !matching.is_empty() {
        if !initial {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            problems.push(forbidden_match(why));
        }
        if matching != newer {
            problems.push(unsupported(matching, "\"NotOlderThan\""));
        }
        if !query.get("continue").is_empty() {
            problems.push(forbidden_match("resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    refuse(&problems)
}

fn refuse(problems: &[Problem]) -> Result<(), Refusal> {
    if problems.is_empty() { Ok(()) } else { Err(Refusal::invalid_options(problems)) }
}

fn forbidden_match(why: &str) -> Problem {
    forbidden("resourceVersionMatch", why)
}

fn forbidden(field: &'static str, why: &str) -> Problem {
    (field, "FieldValueForbidden", format!("Forbidden: {why}"))
}

fn unsupported(value: &str, supported: &str) -> Problem {
    let text = format!("Unsupported value: {value:?}: supported values: {supported}");
    ("resourceVersionMatch", "FieldValueNotSupported", text)
}
