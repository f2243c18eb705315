use super::*;
use serde::Deserialize;

/// One line of `tests.yaml`: tolerations as `key:effect:seconds`, `*` for every key, `-` for no end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `original`, `for ever`, seconds, or `kept SECONDS`.
    wanted: String,
    #[serde(default)]
    stays: bool,
    before: Vec<String>,
    /// not-ready, unreachable
    #[serde(default)]
    notes: Vec<Option<String>>,
    /// None: nothing is written.
    after: Option<Vec<String>>,
    /// Annotations that are written; `gone` takes one away.
    #[serde(default)]
    noted: Vec<String>,
}

fn read(text: &str) -> Toleration {
    let parts: Vec<&str> = text.split(':').collect();
    let key = match parts[0] {
        "*" => None,
        "nr" => Some(NOT_READY.to_owned()),
        "ur" => Some(UNREACHABLE.to_owned()),
        other => Some(other.to_owned()),
    };
    Toleration {
        key,
        operator: Some("Exists".into()),
        value: None,
        effect: (parts[1] != "all").then(|| NO_EXECUTE.to_owned()),
        toleration_seconds: parts[2].parse().ok(),
    }
}

fn wanted(text: &str) -> Wanted {
    match (text, text.strip_prefix("kept ")) {
        (_, Some(seconds)) => Wanted::Kept(seconds.parse().unwrap()),
        ("original", _) => Wanted::Original,
        ("for ever", _) => Wanted::Seconds(None),
        _ => Wanted::Seconds(Some(text.parse().unwrap())),
    }
}

#[test]
fn tolerations_become_what_the_table_says() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("tests.yaml")).unwrap();
    for case in cases {
        let note = |at: usize| case.notes.get(at).cloned().flatten().map(String::into_boxed_str);
        let notes = crate::world::pod::Notes { until: None, not_ready: note(0), unreachable: note(1) };
        let pod = Pod {
            tolerations: case.before.iter().map(|t| read(t)).collect::<Vec<_>>().into(),
            notes: Some(Box::new(notes)),
            stays: case.stays,
            ..Pod::default()
        };
        let mut edit = Edit::default();
        decide(&pod, wanted(&case.wanted), &mut edit);
        let after = case.after.as_ref().map(|list| list.iter().map(|t| read(t)).collect());
        assert_eq!(edit.tolerations, after, "{}", case.name);
        let short = |key: &str| if key == ORIGINAL_NOT_READY { "nr" } else { "ur" };
        let noted = edit.annotations.iter();
        let noted: Vec<String> =
            noted.map(|(k, v)| format!("{}={}", short(k), v.as_deref().unwrap_or("gone"))).collect();
        assert_eq!(noted, case.noted, "{}", case.name);
        settles(&pod, &edit, &case);
    }
}

/// Deciding again about what was written changes nothing.
fn settles(pod: &Pod, edit: &Edit, case: &Case) {
    let mut pod = pod.clone();
    if let Some(list) = &edit.tolerations {
        pod.tolerations = list.clone().into();
    }
    let mut notes = *pod.notes.clone().unwrap();
    for (key, value) in &edit.annotations {
        let value = value.clone().map(String::into_boxed_str);
        if *key == ORIGINAL_NOT_READY { notes.not_ready = value } else { notes.unreachable = value }
    }
    pod.notes = Some(Box::new(notes));
    let mut again = Edit::default();
    decide(&pod, wanted(&case.wanted), &mut again);
    assert!(again.is_empty(), "{}: {again:?}", case.name);
}

#[test]
fn who_stays_without_help() {
    let pod = |list: &[&str], note: Option<&str>| Pod {
        tolerations: list.iter().map(|t| read(t)).collect::<Vec<_>>().into(),
        notes: Some(Box::new(crate::world::pod::Notes {
            unreachable: note.map(Into::into),
            ..Default::default()
        })),
        ..Pod::default()
    };
    let table = [
        (pod(&[], None), false, 0),
        (pod(&["ur:NoExecute:5"], None), false, 5),
        (pod(&["ur:NoExecute:-"], None), true, i64::MAX),
        (pod(&["ur:NoExecute:-"], Some("300")), false, i64::MAX),
        (pod(&["ur:NoExecute:-"], Some("infinite")), true, i64::MAX),
        (pod(&["*:all:-"], None), true, i64::MAX),
    ];
    for (pod, stays, left) in table {
        assert_eq!((stays_by_itself(&pod), seconds_left(&pod)), (stays, left), "{pod:?}");
    }
}
