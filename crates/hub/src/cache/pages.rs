//! Lists that come in pages: held until the last one, then one collection (P3).
//!
//! Pages belong together when one caller asked for each with the token of the one before, and all are of one
//! version (`k8s.io/apiserver/pkg/storage/continue.go`). They wait in memory, bounded in number, bytes and time;
//! what is given up is not kept, and was passed on to the client all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use yurt_api::collection::CollectionKey;
use yurt_api::list::List;

use super::keep::NotKept;
use crate::clock;
use crate::cloud::Identity;
use crate::metrics::Metrics;
use crate::tasks;

/// Lists whose next page is awaited, at the most.
const MAX_LISTS: usize = 8;
/// Bytes of all their pages together.
const MAX_BYTES: usize = 32 << 20;
/// Who has not asked for the next page by then will not (etcd's compaction ends a token after 5 to 10 minutes).
const PATIENCE: Duration = Duration::from_secs(300);
/// How often abandoned lists are looked for while there are any.
const LOOK: Duration = Duration::from_secs(30);

/// The lists that have begun. Of one caller and collection there is one, the newest.
#[derive(Default)]
pub struct Pages(Mutex<State>);

#[derive(Default)]
struct State {
    begun: Vec<Begun>,
    /// Lists that are being followed by the hub itself.
    turns: Vec<(Identity, CollectionKey)>,
    /// Whether somebody looks for abandoned lists.
    swept: bool,
}

struct Begun {
    who: Identity,
    key: CollectionKey,
    /// All pages so far; its token is that of the next.
    list: List,
    /// The length of their bodies.
    bytes: usize,
    at: Instant,
}

impl Begun {
    fn is(&self, who: &Identity, key: &CollectionKey) -> bool {
        self.who == *who && self.key == *key
    }

    fn awaits(&self, who: &Identity, token: &str) -> bool {
        self.who == *who && self.list.header.continue_token == token
    }
}

impl Pages {
    /// Takes in a page of `bytes` bytes that `who` asked for with `token` (`None` = the first). Gives the list
    /// when it is whole, nothing while further pages are to come, and an error when the page is of no use.
    pub(super) fn join(
        &self,
        who: &Identity,
        key: &CollectionKey,
        token: Option<&str>,
        page: List,
        bytes: usize,
        now: Instant,
    ) -> Result<Option<List>, NotKept> {
        let mut state = self.lock();
        let (list, bytes) = match token {
            None => (page, bytes),
            Some(token) => {
                let waiting = |b: &Begun| b.is(who, key) && b.awaits(who, token);
                let at = state.begun.iter().position(waiting).ok_or(NotKept::Partial)?;
                let before = state.begun.remove(at);
                (extend(before.list, page).ok_or(NotKept::PagesDiffer)?, before.bytes + bytes)
            }
        };
        if list.header.continue_token.is_empty() {
            return Ok(Some(list));
        }
        state.begun.retain(|b| !b.is(who, key));
        if bytes > MAX_BYTES {
            return Err(NotKept::TooLarge);
        }
        state.begun.push(Begun { who: who.clone(), key: key.clone(), list, bytes, at: now });
        state.make_room();
        Ok(None)
    }

    /// Whether a page is of use that `who` asks for with `token`.
    pub fn awaits(&self, who: &Identity, token: &str) -> bool {
        self.lock().begun.iter().any(|b| b.awaits(who, token))
    }

    /// The cloud has no page for this token: the list ends unfinished.
    pub fn end(&self, who: &Identity, token: &str) {
        self.lock().begun.retain(|b| !b.awaits(who, token));
    }

    /// The right to follow a list page by page, which one at a time has.
    pub fn turn(self: &Arc<Self>, who: &Identity, key: &CollectionKey) -> Option<Turn> {
        let mut state = self.lock();
        let mine = (who.clone(), key.clone());
        if state.turns.contains(&mine) {
            return None;
        }
        state.turns.push(mine.clone());
        Some(Turn { pages: Arc::clone(self), mine })
    }

    /// Looks for abandoned lists as long as there are any.
    pub(super) fn watch_over(self: &Arc<Self>, metrics: &Arc<Metrics>) {
        if std::mem::replace(&mut self.lock().swept, true) {
            return;
        }
        let (pages, metrics) = (Arc::clone(self), Arc::clone(metrics));
        tasks::spawn("abandoned pages", tasks::Failure::Local, async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let (dropped, left) = pages.sweep(clock::monotonic());
                (0..dropped).for_each(|_| metrics.not_kept("abandoned"));
                if left == 0 {
                    return;
                }
            }
        });
    }

    /// Drops what nobody goes on with; how many lists went, and how many are left.
    fn sweep(&self, now: Instant) -> (usize, usize) {
        let mut state = self.lock();
        let before = state.begun.len();
        state.begun.retain(|b| now.duration_since(b.at) < PATIENCE);
        let left = state.begun.len();
        state.swept = left > 0;
        (before - left, left)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever did, the lists are still each in order.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The list that has waited for longest gives way.
    fn make_room(&mut self) {
        while self.begun.len() > MAX_LISTS || self.begun.iter().map(|b| b.bytes).sum::<usize>() > MAX_BYTES {
            self.begun.remove(0);
        }
    }
}

/// The right to follow a list; given back when it is dropped.
pub struct Turn {
    pages: Arc<Pages>,
    mine: (Identity, CollectionKey),
}

impl Turn {
    /// The token of the page that comes next; `None` when no list has begun.
    pub fn next(&self) -> Option<String> {
        let state = self.pages.lock();
        let begun = state.begun.iter().find(|b| b.is(&self.mine.0, &self.mine.1));
        begun.map(|b| b.list.header.continue_token.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pages.lock().turns.retain(|turn| *turn != self.mine);
    }
}

/// The list with one more page; `None` when the cloud went on with another version or another type.
fn extend(mut list: List, page: List) -> Option<List> {
    let (have, more) = (&mut list.header, page.header);
    if have.resource_version != more.resource_version || have.type_meta != more.type_meta {
        return None;
    }
    have.continue_token = more.continue_token;
    if list.items.is_empty() {
        (have.item_type, have.typed_items) = (more.item_type, more.typed_items);
    } else if !page.items.is_empty()
        && (&have.item_type, have.typed_items) != (&more.item_type, more.typed_items)
    {
        return None;
    }
    list.items.extend(page.items);
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use yurt_api::list::ListHeader;
    use yurt_api::representation::Representation;
    use yurt_api::resource::TypeMeta;

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
            type_meta: TypeMeta::new("v1", "PodList"),
            resource_version: version,
            continue_token: next.to_owned(),
            ..ListHeader::default()
        };
        List { header, items: vec![Bytes::from_static(b"{}"); items] }
    }

    /// One caller's pages of one list.
    struct Story {
        pages: Arc<Pages>,
        who: Identity,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            Story { pages: Arc::default(), who: Identity::Node, now: clock::monotonic() }
        }

        fn join(&self, of: &str, token: Option<&str>, page: List) -> Result<Option<usize>, NotKept> {
            let whole = self.pages.join(&self.who, &key(of), token, page, 1 << 20, self.now)?;
            Ok(whole.map(|list| list.items.len()))
        }
    }

    #[test]
    fn pages_become_one_list_with_the_last() {
        let s = Story::new();
        assert_eq!(s.join("a", None, page(5, "x", 2)), Ok(None));
        assert_eq!(s.join("b", Some("x"), page(5, "", 1)), Err(NotKept::Partial), "another list's token");
        assert_eq!(s.join("a", Some("x"), page(5, "y", 2)), Ok(None));
        assert_eq!(s.join("a", Some("x"), page(5, "y", 2)), Err(NotKept::Partial), "read already");
        assert_eq!(s.join("a", Some("y"), page(5, "", 1)), Ok(Some(5)));
        assert_eq!(s.join("a", Some("y"), page(5, "", 1)), Err(NotKept::Partial), "it is over");
        assert_eq!(s.join("a", None, page(6, "", 1)), Ok(Some(1)), "one page is whole");
    }

    #[test]
    fn pages_of_two_callers_are_two_lists() {
        let (s, mut other) = (Story::new(), Story::new());
        other.pages = Arc::clone(&s.pages);
        other.who = Identity::Anonymous;
        assert_eq!(s.join("a", None, page(5, "x", 2)), Ok(None));
        assert_eq!(other.join("a", Some("x"), page(5, "", 1)), Err(NotKept::Partial));
        assert!(s.pages.awaits(&s.who, "x") && !s.pages.awaits(&other.who, "x"));
        other.pages.end(&other.who, "x");
        assert_eq!(s.join("a", Some("x"), page(5, "", 1)), Ok(Some(3)));
    }

    #[test]
    fn what_does_not_fit_together_is_given_up() {
        let s = Story::new();
        let other_type = |mut page: List| {
            page.header.type_meta = TypeMeta::new("v1", "SecretList");
            page
        };
        let typed = |mut page: List| {
            page.header.typed_items = true;
            page
        };
        for wrong in [page(7, "", 1), other_type(page(5, "", 1)), typed(page(5, "", 1))] {
            assert_eq!(s.join("a", None, page(5, "x", 2)), Ok(None));
            assert_eq!(s.join("a", Some("x"), wrong), Err(NotKept::PagesDiffer));
            assert_eq!(s.join("a", Some("x"), page(5, "", 1)), Err(NotKept::Partial), "given up");
        }
        // An empty page says nothing about the type of items.
        assert_eq!(s.join("a", None, page(5, "x", 0)), Ok(None));
        assert_eq!(s.join("a", Some("x"), typed(page(5, "", 1))), Ok(Some(1)));
        assert_eq!(s.join("a", None, page(5, "x", 1)), Ok(None));
        s.pages.end(&s.who, "x");
        assert_eq!(s.join("a", Some("x"), page(5, "", 1)), Err(NotKept::Partial), "the cloud refused it");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut s = Story::new();
        for n in 0..=MAX_LISTS {
            assert_eq!(s.join(&n.to_string(), None, page(5, "x", 1)), Ok(None));
        }
        assert_eq!(s.join("0", Some("x"), page(5, "", 1)), Err(NotKept::Partial), "too many");
        assert_eq!(s.join("1", Some("x"), page(5, "", 1)), Ok(Some(2)));
        let large = s.pages.join(&s.who, &key("a"), None, page(5, "x", 1), MAX_BYTES + 1, s.now);
        assert_eq!(large, Err(NotKept::TooLarge));
        let rest = s.pages.join(&s.who, &key("b"), None, page(5, "x", 1), MAX_BYTES, s.now);
        assert_eq!(rest, Ok(None));
        assert_eq!(s.join("2", Some("x"), page(5, "", 1)), Err(NotKept::Partial), "it gave way");
        assert_eq!(s.pages.sweep(s.now + PATIENCE / 2), (0, 1));
        s.now += PATIENCE;
        assert_eq!(s.pages.sweep(s.now), (1, 0));
        assert_eq!(s.join("b", Some("x"), page(5, "", 1)), Err(NotKept::Partial), "too late");
    }

    #[test]
    fn one_at_a_time_follows_a_list() {
        let s = Story::new();
        let turn = s.pages.turn(&s.who, &key("a")).unwrap();
        assert!(s.pages.turn(&s.who, &key("a")).is_none());
        assert!(s.pages.turn(&s.who, &key("b")).is_some());
        assert_eq!(turn.next(), None);
        s.join("a", None, page(5, "x", 1)).unwrap();
        assert_eq!(turn.next().as_deref(), Some("x"));
        drop(turn);
        assert!(s.pages.turn(&s.who, &key("a")).is_some());
    }
}
