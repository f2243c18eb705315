//! Whether a node is autonomous and for how long: its own annotations, else its pool's policy. Pure.

use std::collections::BTreeMap;

use crate::duration::{self, NoDuration};
use crate::names::{AUTONOMY_DURATION, AUTONOMY_FOR_EVER};

/// How long the pods of a disconnected node stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autonomy {
    /// As without this program.
    None,
    /// For so many seconds.
    For(i64),
    /// Until somebody says otherwise.
    ForEver,
}

/// What a node's annotations and its pool say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What counts.
    pub autonomy: Autonomy,
    /// A duration of the node that cannot be read; it makes no node autonomous.
    pub unreadable: Option<(String, NoDuration)>,
}

/// A duration as annotations and pools write it. Errors: it is no Go duration.
pub fn of_text(text: &str) -> Result<Autonomy, NoDuration> {
    let nanos = duration::parse(text)?;
    // A part of a second is a whole one: tolerations count in seconds, and 0 would evict at once.
    Ok(if nanos <= 0 { Autonomy::ForEver } else { Autonomy::For((nanos - 1) / 1_000_000_000 + 1) })
}

/// What counts for a node with these annotations in a pool with that duration.
pub fn of(annotations: Option<&BTreeMap<String, String>>, pool: Option<&str>) -> Said {
    let own = |key: &str| annotations.and_then(|a| a.get(key));
    let duration = own(AUTONOMY_DURATION).map(|text| (text, of_text(text)));
    let unreadable = match &duration {
        Some((text, Err(error))) => Some(((*text).clone(), error.clone())),
        _ => None,
    };
    let for_ever = AUTONOMY_FOR_EVER.iter().any(|key| own(key).is_some_and(|v| v == "true"));
    let autonomy = match (for_ever, duration) {
        (true, _) => Autonomy::ForEver,
        (false, Some((_, read))) => read.unwrap_or(Autonomy::None),
        (false, None) => pool.and_then(|text| of_text(text).ok()).unwrap_or(Autonomy::None),
    };
    Said { autonomy, unreadable }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Annotations = &'static [(&'static str, &'static str)];

    #[test]
    fn the_nodes_word_goes_before_the_pools() {
        let table: [(Annotations, Option<&str>, Autonomy); 11] = [
            (&[], None, Autonomy::None),
            (&[(AUTONOMY_DURATION, "10m")], None, Autonomy::For(600)),
            (&[(AUTONOMY_DURATION, "1500ms")], None, Autonomy::For(2)),
            (&[(AUTONOMY_DURATION, "0")], None, Autonomy::ForEver),
            (&[(AUTONOMY_DURATION, "-1h")], None, Autonomy::ForEver),
            (&[(AUTONOMY_DURATION, "ten minutes")], Some("24h"), Autonomy::None),
            (&[("node.beta.openyurt.io/autonomy", "true")], None, Autonomy::ForEver),
            (&[("apps.openyurt.io/binding", "true"), (AUTONOMY_DURATION, "10m")], None, Autonomy::ForEver),
            (&[("apps.openyurt.io/binding", "false")], None, Autonomy::None),
            (&[(AUTONOMY_DURATION, "10m")], Some("24h"), Autonomy::For(600)),
            (&[], Some("24h"), Autonomy::For(86_400)),
        ];
        for (annotations, pool, autonomy) in table {
            let map = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let said = of(Some(&map), pool);
            assert_eq!(said.autonomy, autonomy, "{annotations:?} {pool:?}");
            assert_eq!(said.unreadable.is_some(), annotations.iter().any(|(_, v)| v.contains("ten")));
        }
        assert_eq!(of(None, Some("soon")).autonomy, Autonomy::None);
    }
}
