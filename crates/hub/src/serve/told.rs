//! What the client of a passed watch was told: up to which version, and whether anything stands half told.

use bytes::Bytes;
use yurt_api::object::{self, Meta};
use yurt_api::representation::Encoding;
use yurt_api::request::ResourceRequest;
use yurt_api::table;
use yurt_api::watch::{Decoder, EventType, Frame};

use super::upstream::MAX_OBJECT;
use crate::cache::version;

/// Up to where a client was told everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// Nobody knows: the objects that a watch begins with come in no order, and nothing comes after an error.
    Unknown,
    /// Objects of one name, nobody knows in how many namespaces; none was seen yet.
    Named,
    /// Events come in the order of their versions; none was seen yet.
    Ordered,
    /// Everything up to this version.
    Version(u64),
}

impl Reached {
    /// Before the first event of such a watch.
    fn at_start(request: &ResourceRequest) -> Self {
        let is_named = is_named(request);
        match version::start_of_watch(&request.options) {
            Ok((0, false)) => Reached::Ordered,
            Ok((version, false)) => Reached::Version(version),
            // The bookmark at the end of a streaming list has to come from here, however little is listed.
            _ if request.options.send_initial_events == Some(true) => Reached::Unknown,
            // One object has no order.
            Ok(_) if is_named && request.namespace.is_some() => Reached::Ordered,
            Ok(_) if is_named => Reached::Named,
            _ => Reached::Unknown,
        }
    }

    /// After an event whose object has this version, 0 for one that has none.
    fn after(self, kind: EventType, version: u64) -> Self {
        match (kind, self) {
            (EventType::Error, _) => Reached::Unknown,
            // One ends the unordered beginning (KEP-3157), and none comes in the middle of it.
            (EventType::Bookmark, _) if version > 0 => Reached::Version(version),
            (_, Reached::Ordered | Reached::Version(_)) if version > 0 => Reached::Version(version),
            _ => Reached::Unknown,
        }
    }
}

fn is_named(request: &ResourceRequest) -> bool {
    request.options.field_selector.exact("metadata.name").is_some()
}

/// Where another stream can go on for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Where this one began: the client was told nothing.
    Start,
    /// After this version.
    After(u64),
    /// After this version, which is also that of all that the client was told: of one object.
    Object(u64),
}

/// What a client was told of a stream.
pub(super) struct Told {
    encoding: Encoding,
    decoder: Decoder,
    /// Whether all of it could be read.
    sound: bool,
    /// It begins with the present state, of which nothing came yet: that may as well begin once more.
    unbegun: bool,
    reached: Reached,
    one: Option<One>,
    tables: Option<Tables>,
}

/// A watch of one object that began with its present state: between two versions of the object nothing happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum One {
    /// It does not exist.
    Absent,
    /// It exists, as it was told last.
    Present,
}

/// What it was told in tables, which it asked for.
#[derive(Default)]
struct Tables {
    /// What came are objects: whoever answers knows no tables.
    are_objects: bool,
    /// The last `columnDefinitions`.
    columns: Option<Bytes>,
}

impl Told {
    /// Of a watch of this encoding that was asked for so, if that is known; `tables` when it asked for tables.
    pub(super) fn new(encoding: Encoding, request: Option<&ResourceRequest>, tables: bool) -> Self {
        let reached = request.map_or(Reached::Unknown, Reached::at_start);
        let unbegun = request.is_some_and(|r| matches!(version::start_of_watch(&r.options), Ok((_, true))));
        let one = (unbegun && request.is_some_and(is_named)).then_some(One::Absent);
        let decoder = Decoder::new(encoding, MAX_OBJECT);
        Told { encoding, decoder, sound: true, unbegun, reached, one, tables: tables.then(Tables::default) }
    }

    /// Takes note of bytes that go by.
    pub(super) fn saw(&mut self, chunk: &Bytes) {
        self.unbegun &= chunk.is_empty();
        if !self.sound {
            return;
        }
        self.decoder.push(chunk.clone());
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => self.heard(&frame),
                Ok(None) => return,
                Err(_) => return self.sound = false,
            }
        }
    }

    fn heard(&mut self, frame: &Frame) {
        if let Some(tables) = self.tables.as_mut().filter(|_| frame.kind != EventType::Error) {
            tables.saw(&frame.object);
        }
        if self.reached == Reached::Named && self.object(frame).is_some_and(|o| o.namespace.is_empty()) {
            self.reached = Reached::Ordered;
        }
        let version = self.meta(frame).map_or(0, |meta| meta.resource_version);
        self.reached = self.reached.after(frame.kind, version);
        self.one = self.one.and(match frame.kind {
            EventType::Added | EventType::Modified => Some(One::Present),
            EventType::Deleted => Some(One::Absent),
            // Its version is that of the cloud, and as good as any.
            EventType::Bookmark | EventType::Error => None,
        });
    }

    /// The metadata of what stands in a frame; that of a table has the version of its object.
    fn meta(&self, frame: &Frame) -> Option<Meta> {
        let item = object::to_item(self.encoding, &frame.object).ok()?;
        object::meta(self.encoding, &item).ok()
    }

    /// The metadata of the object that a frame is about, if it is there.
    fn object(&self, frame: &Frame) -> Option<Meta> {
        match self.are_tables() {
            true => table::object_of(&frame.object),
            false => self.meta(frame),
        }
    }

    /// Whether the client has got whole events and nothing else.
    pub(super) fn is_between_events(&self) -> bool {
        self.sound && !self.decoder.is_mid_frame()
    }

    /// The version from which another stream could go on now.
    pub(super) fn version_now(&self) -> Option<u64> {
        match self.reached {
            Reached::Version(version) if self.is_between_events() => Some(version),
            _ => None,
        }
    }

    /// Where another stream could go on now.
    pub(super) fn next(&self) -> Option<Next> {
        if self.unbegun {
            return Some(Next::Start);
        }
        self.version_now().map(|version| match self.one {
            Some(One::Absent) => Next::Start,
            Some(One::Present) => Next::Object(version),
            None => Next::After(version),
        })
    }

    /// Whether the client gets tables, as far as anything came.
    pub(super) fn are_tables(&self) -> bool {
        self.tables.as_ref().is_some_and(|tables| !tables.are_objects)
    }

    /// The columns that it was told of.
    pub(super) fn columns(&self) -> Option<Bytes> {
        self.tables.as_ref()?.columns.clone()
    }
}

impl Tables {
    fn saw(&mut self, object: &Bytes) {
        match table::definitions(object) {
            Ok(Some("null")) => {}
            // Not each table is written with them.
            Ok(Some(told)) if self.columns.as_deref() != Some(told.as_bytes()) => {
                self.columns = Some(Bytes::copy_from_slice(told.as_bytes()));
            }
            Ok(Some(_)) => {}
            // One that cannot be made a row of stands as it is between others.
            Ok(None) | Err(_) => self.are_objects |= self.columns.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventType::{Added, Bookmark, Deleted, Error, Modified};
    use Reached::{Named, Ordered, Unknown, Version};
    use yurt_api::request::RequestInfo;

    #[test]
    fn a_version_is_known_once_events_come_in_order() {
        type Case = (Reached, &'static [(EventType, u64)], Reached);
        let cases: [Case; 10] = [
            (Version(7), &[], Version(7)),
            (Version(7), &[(Modified, 9), (Deleted, 12)], Version(12)),
            (Ordered, &[(Added, 9)], Version(9)),
            // The objects at the beginning are in the order of their names.
            (Unknown, &[(Added, 9), (Added, 4)], Unknown),
            (Named, &[(Added, 9)], Unknown),
            (Unknown, &[(Added, 9), (Added, 4), (Bookmark, 11)], Version(11)),
            (Unknown, &[(Added, 9), (Bookmark, 11), (Modified, 14)], Version(14)),
            // Who is told an error begins anew.
            (Version(7), &[(Error, 0)], Unknown),
            (Version(7), &[(Modified, 0)], Unknown),
            (Version(7), &[(Modified, 0), (Modified, 9)], Unknown),
        ];
        for (start, events, expected) in cases {
            let reached =
                events.iter().fold(start, |reached, (kind, version)| reached.after(*kind, *version));
            assert_eq!(reached, expected, "{start:?} {events:?}");
        }
    }

    fn watch(path: &str, query: &str) -> ResourceRequest {
        let info = RequestInfo::parse("GET", path, &format!("watch=true{query}")).unwrap();
        info.resource().unwrap().clone()
    }

    const MAPS: &str = "/api/v1/namespaces/d/configmaps";
    const INITIAL: &str = "&resourceVersionMatch=NotOlderThan&sendInitialEvents";
    const NAME: &str = "&resourceVersion=0&fieldSelector=metadata.name%3Da";

    #[test]
    fn a_watch_begins_where_its_options_say() {
        let cases = [
            (MAPS, "&resourceVersion=7".to_owned(), Version(7)),
            (MAPS, format!("&resourceVersion=7{INITIAL}=false"), Version(7)),
            (MAPS, format!("&resourceVersion=7{INITIAL}=true"), Unknown),
            (MAPS, "&resourceVersion=0".to_owned(), Unknown),
            (MAPS, String::new(), Unknown),
            (MAPS, format!("{INITIAL}=true"), Unknown),
            (MAPS, format!("{INITIAL}=false"), Ordered),
            (MAPS, "&resourceVersion=x".to_owned(), Unknown),
            (MAPS, NAME.to_owned(), Ordered),
            (MAPS, format!("&fieldSelector=metadata.name%3Da{INITIAL}=true"), Unknown),
            ("/api/v1/nodes", format!("&fieldSelector=metadata.name%3Da{INITIAL}=true"), Unknown),
            ("/api/v1/nodes", NAME.to_owned(), Named),
        ];
        for (path, query, expected) in cases {
            assert_eq!(Reached::at_start(&watch(path, &query)), expected, "{path} {query}");
        }
    }

    /// `kubectl wait` takes nothing for true before the end of the beginning, also of one object.
    #[test]
    fn a_streaming_list_of_one_object_is_told_whole_before_another_stream_goes_on() {
        let listed =
            watch(MAPS, &format!("&fieldSelector=metadata.name%3Da&allowWatchBookmarks=true{INITIAL}=true"));
        let added =
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"d","resourceVersion":"9"}}}"#;
        let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"11"}}}"#;
        assert_eq!(told(&listed, false, &format!("{added}\n")).next(), None);
        assert_eq!(told(&listed, false, &format!("{added}\n{end}\n")).version_now(), Some(11));
    }

    fn told(request: &ResourceRequest, tables: bool, stream: &str) -> Told {
        let mut told = Told::new(Encoding::Json, Some(request), tables);
        told.saw(&Bytes::copy_from_slice(stream.as_bytes()));
        told
    }

    fn table(namespace: &str, version: u64, columns: &str) -> String {
        format!(
            r#"{{"type":"ADDED","object":{{"kind":"Table","metadata":{{"resourceVersion":"{version}"}},"columnDefinitions":{columns},"rows":[{{"cells":["a"],"object":{{"metadata":{{"name":"a"{namespace}}}}}}}]}}}}"#
        ) + "\n"
    }

    /// `kubectl get node NAME --watch` begins with the node and names no version.
    #[test]
    fn what_is_of_one_name_and_in_no_namespace_is_one_object() {
        let node = watch("/api/v1/nodes", NAME);
        let everywhere = r#","namespace":"d""#;
        assert_eq!(told(&node, true, &table("", 9, "[]")).next(), Some(Next::Object(9)));
        assert_eq!(told(&node, true, &table(everywhere, 9, "[]")).next(), None);
        let plain = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"9"}}}"#;
        assert_eq!(told(&node, false, &format!("{plain}\n")).next(), Some(Next::Object(9)));
        let gone = plain.replace("ADDED", "DELETED");
        assert_eq!(told(&node, false, &format!("{plain}\n{gone}\n")).next(), Some(Next::Start));
        assert_eq!(told(&node, false, plain).next(), None, "the event is half told");
        assert_eq!(told(&node, false, "").next(), Some(Next::Start));
        let from_now = watch(MAPS, "&resourceVersionMatch=NotOlderThan&sendInitialEvents=false");
        assert_eq!(told(&from_now, false, "").next(), None, "nobody knows when that was");
    }

    #[test]
    fn the_columns_are_the_last_that_were_told() {
        let maps = watch(MAPS, "&resourceVersion=7");
        let two = format!("{}{}", table("", 9, r#"[{"name":"A"}]"#), table("", 10, "null"));
        let seen = told(&maps, true, &two);
        assert!(seen.are_tables());
        assert_eq!(seen.columns().as_deref(), Some(&br#"[{"name":"A"}]"#[..]));
        let plain = r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9"}}}"#;
        assert!(!told(&maps, true, &format!("{plain}\n")).are_tables(), "the cloud knows no tables");
        assert!(told(&maps, true, "").are_tables(), "nothing came yet");
        assert!(!told(&maps, false, &two).are_tables());
    }
}
