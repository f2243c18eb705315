//! From facts to the condition, and from the condition to a patch. Pure.

use serde_json::{Value, json};

use crate::clock;

/// The type of the condition (design, section 9).
const TYPE: &str = "Autonomy";
/// How many needs a message counts out.
const NAMED: usize = 5;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the hub itself lacks to speak for the node.
    pub credentials: Vec<String>,
    /// Collections whose rows are damaged, or that the store does not take changes of.
    pub damaged: Vec<String>,
    /// What a boot would need and is not held, by kind, with how many of it.
    pub missing: Vec<(String, usize)>,
    /// Local writes that the cloud refused lately.
    pub conflicts: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word.
    pub reason: &'static str,
    /// For people. No names: who may read a node may not know the names of its Secrets.
    pub message: String,
}

/// Decides. What comes first is what an operator has to mend first.
pub fn decide(facts: &Facts) -> Verdict {
    let verdict = |status, reason, message: String| Verdict { status, reason, message };
    if !facts.damaged.is_empty() {
        let message = format!("the store cannot keep or read {}", counted(&by_one(&facts.damaged)));
        return verdict("False", "StoreDamaged", message);
    }
    if !facts.credentials.is_empty() {
        return verdict("False", "CredentialMissing", facts.credentials.join("; "));
    }
    if !facts.missing.is_empty() {
        return verdict("False", "CacheIncomplete", format!("not held: {}", counted(&facts.missing)));
    }
    if facts.conflicts > 0 {
        let message = format!("the cloud refused {} of the node's writes", facts.conflicts);
        return verdict("Unknown", "JournalConflicts", message);
    }
    verdict("True", "Ready", "all that a boot without the cloud needs is held".to_owned())
}

/// The patch of the node's status that makes the verdict its condition; `None` when it is that already.
pub fn patch(node: &Value, verdict: &Verdict, now: i64) -> Option<Value> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let held = conditions.into_iter().flatten().find(|c| c.get("type").and_then(Value::as_str) == Some(TYPE));
    let text = |field: &str| held.and_then(|c| c.get(field)).and_then(Value::as_str).unwrap_or_default();
    if (text("status"), text("reason"), text("message")) == (verdict.status, verdict.reason, &verdict.message)
    {
        return None;
    }
    let now = clock::rfc3339(now);
    let since = match text("lastTransitionTime") {
        since if text("status") == verdict.status && !since.is_empty() => since.to_owned(),
        _ => now.clone(),
    };
    let condition = json!({
        "type": TYPE, "status": verdict.status, "reason": verdict.reason, "message": verdict.message,
        "lastHeartbeatTime": now, "lastTransitionTime": since,
    });
    Some(json!({"status": {"conditions": [condition]}}))
}

fn by_one(names: &[String]) -> Vec<(String, usize)> {
    names.iter().map(|name| (name.clone(), 1)).collect()
}

fn counted(what: &[(String, usize)]) -> String {
    let mut named: Vec<String> = what
        .iter()
        .take(NAMED)
        .map(|(kind, count)| if *count == 1 { kind.clone() } else { format!("{kind} ({count})") })
        .collect();
    if what.len() > NAMED {
        named.push(format!("{} more", what.len() - NAMED));
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(kind: &str, count: usize) -> Facts {
        Facts { missing: vec![(kind.to_owned(), count)], ..Facts::default() }
    }

    #[test]
    fn the_worst_is_said_first() {
        let damaged = Facts { damaged: vec!["pods".into()], conflicts: 1, ..missing("Secret", 2) };
        let uncertified = Facts { credentials: vec!["no certificate".into()], ..missing("Secret", 2) };
        let refused = Facts { conflicts: 3, ..Facts::default() };
        let cases = [
            (damaged, "False", "StoreDamaged"),
            (uncertified, "False", "CredentialMissing"),
            (missing("Secret", 2), "False", "CacheIncomplete"),
            (refused, "Unknown", "JournalConflicts"),
            (Facts::default(), "True", "Ready"),
        ];
        for (facts, status, reason) in cases {
            let verdict = decide(&facts);
            assert_eq!((verdict.status, verdict.reason), (status, reason), "{facts:?}");
        }
        assert_eq!(decide(&missing("Secret", 2)).message, "not held: Secret (2)");
        let many = Facts { missing: (0..8).map(|n| (format!("k{n}"), 1)).collect(), ..Facts::default() };
        assert_eq!(decide(&many).message, "not held: k0, k1, k2, k3, k4, 3 more");
    }

    #[test]
    fn it_is_written_when_it_changes_and_says_since_when() {
        let ready = decide(&Facts::default());
        let first = patch(&json!({}), &ready, 0).unwrap();
        let node = first.clone();
        assert_eq!(patch(&node, &ready, 60), None);
        let other = patch(&node, &decide(&missing("Secret", 1)), 60).unwrap();
        let since = |patch: &Value| patch["status"]["conditions"][0]["lastTransitionTime"].clone();
        assert_ne!(since(&first), since(&other));
        let more = patch(&other, &decide(&missing("Secret", 2)), 120).unwrap();
        assert_eq!(since(&other), since(&more), "another message is no transition");
    }
}
