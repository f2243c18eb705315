//! Lists that come in pages: held until the last one, then one collection (P3).
//!
//! A page is of the same version as the first (`k8s.io/apiserver/pkg/storage/continue.go`). Pages wait in
//! memory, bounded; what is given up is not kept, and was passed on to the client all the same.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use yurt_api::collection::CollectionKey;
use yurt_api::list::List;

/// Lists whose next page is awaited, at the most.
const MAX_LISTS: usize = 8;
/// Bytes of all their items together.
const MAX_BYTES: usize = 32 << 20;
/// Who has not asked for the next page by then will not (etcd's compaction ends a token after 5 to 10 minutes).
const PATIENCE: Duration = Duration::from_secs(600);

/// The lists that have begun.
#[derive(Default)]
pub struct Pages(Mutex<Vec<Begun>>);

struct Begun {
    key: CollectionKey,
    /// All pages so far; its token is that of the next.
    list: List,
    at: Instant,
}

impl Pages {
    /// Takes in the page that `token` asked for (`None` = the first). Returns the list when it is whole.
    pub fn join(&self, key: &CollectionKey, token: Option<&str>, page: List, now: Instant) -> Option<List> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|b| now.duration_since(b.at) < PATIENCE);
        let list = match token {
            None => page,
            Some(token) => {
                let at = begun.iter().position(|b| b.key == *key && b.list.header.continue_token == token)?;
                extend(begun.remove(at).list, page)?
            }
        };
        if list.header.continue_token.is_empty() {
            return Some(list);
        }
        begun.push(Begun { key: key.clone(), list, at: now });
        while begun.len() > MAX_LISTS || begun.iter().map(|b| bytes(&b.list)).sum::<usize>() > MAX_BYTES {
            begun.remove(0);
        }
        None
    }
}

/// The list with one more page; `None` when the cloud went on with another version.
fn extend(mut list: List, page: List) -> Option<List> {
    if list.header.resource_version != page.header.resource_version {
        return None;
    }
    list.header.continue_token = page.header.continue_token;
    list.header.item_type = list.header.item_type.or(page.header.item_type);
    list.header.typed_items |= page.header.typed_items;
    list.items.extend(page.items);
    Some(list)
}

fn bytes(list: &List) -> usize {
    list.items.iter().map(bytes::Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use yurt_api::list::ListHeader;
    use yurt_api::representation::Representation;

    fn key(namespace: &str) -> CollectionKey {
        CollectionKey {
            resource: yurt_api::resource::Resource::new("", "v1", "pods"),
            namespace: Some(namespace.to_owned()),
            labels: String::new(),
            fields: String::new(),
            representation: Representation::JSON,
        }
    }

    fn page(version: u64, next: &str, items: usize) -> List {
        let header = ListHeader {
            resource_version: version,
            continue_token: next.to_owned(),
            ..ListHeader::default()
        };
        List { header, items: vec![Bytes::from_static(b"{}"); items] }
    }

    #[test]
    fn pages_become_one_list_with_the_last() {
        let (pages, now) = (Pages::default(), Instant::now());
        assert_eq!(pages.join(&key("a"), None, page(5, "x", 2), now), None);
        assert_eq!(pages.join(&key("b"), Some("x"), page(5, "", 1), now), None, "another list's token");
        assert_eq!(pages.join(&key("a"), Some("x"), page(5, "y", 2), now), None);
        assert_eq!(
            pages.join(&key("a"), Some("x"), page(5, "y", 2), now),
            None,
            "a page that was read already"
        );
        let whole = pages.join(&key("a"), Some("y"), page(5, "", 1), now).unwrap();
        assert_eq!((whole.items.len(), whole.header.continue_token.as_str()), (5, ""));
        assert!(pages.join(&key("a"), None, page(6, "", 1), now).is_some(), "one page is whole");
    }

    #[test]
    fn what_does_not_fit_together_is_given_up() {
        let (pages, now) = (Pages::default(), Instant::now());
        pages.join(&key("a"), None, page(5, "x", 2), now);
        assert_eq!(pages.join(&key("a"), Some("x"), page(7, "", 1), now), None, "of another version");
        pages.join(&key("a"), None, page(5, "x", 2), now);
        assert_eq!(pages.join(&key("a"), Some("x"), page(5, "", 1), now + PATIENCE), None, "too late");
        for n in 0..=MAX_LISTS {
            pages.join(&key(&n.to_string()), None, page(5, "x", 1), now);
        }
        assert_eq!(pages.join(&key("0"), Some("x"), page(5, "", 1), now), None, "too many");
        assert!(pages.join(&key("1"), Some("x"), page(5, "", 1), now).is_some());
    }
}
