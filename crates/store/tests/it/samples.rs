//! Things to put into a store.

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::list::ListHeader;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_store::{
    CollectionId, CollectionRecord, CollectionState, NewEntry, Opened, Operation, Options, Reader, Row,
    SealKey, Writer,
};

pub fn options(dir: &Path) -> Options {
    Options::new(dir.join("store"), SealKey::from_bytes([7; 32]))
}

pub fn open(dir: &Path) -> Opened {
    yurt_store::open(options(dir)).unwrap()
}

pub fn key(resource: &str) -> CollectionKey {
    CollectionKey {
        resource: Resource::new("", "v1", resource),
        namespace: None,
        labels: String::new(),
        fields: String::new(),
        representation: Representation { encoding: Encoding::Protobuf, metadata_only: false },
    }
}

pub fn header(rv: u64) -> ListHeader {
    ListHeader {
        type_meta: TypeMeta::new("v1", "PodList"),
        resource_version: rv,
        item_type: Some(TypeMeta::new("v1", "Pod")),
        ..ListHeader::default()
    }
}

pub fn row(namespace: &str, name: &str, rv: u64, body: impl Into<Vec<u8>>) -> Row {
    let key = ObjectKey::new(namespace, name);
    Row { key, resource_version: rv, uid: format!("uid-{name}"), body: Bytes::from(body.into()) }
}

pub fn entry(slot: &str, body: &str) -> NewEntry {
    NewEntry {
        slot: slot.into(),
        operation: Operation::Status,
        resource: Resource::new("", "v1", "pods"),
        key: ObjectKey::new("default", slot),
        uid: format!("uid-{slot}"),
        body: body.into(),
        at: 100,
    }
}

pub fn replace(writer: &mut Writer, resource: &str, rv: u64, rows: &[Row]) -> CollectionId {
    writer.replace(&key(resource), &header(rv), CollectionState::Live, true, 10, rows).unwrap().0
}

pub fn list(reader: &Reader, id: CollectionId) -> (CollectionRecord, Vec<Row>) {
    list_in(reader, id, None)
}

pub fn list_in(reader: &Reader, id: CollectionId, namespace: Option<&str>) -> (CollectionRecord, Vec<Row>) {
    let mut rows = Vec::new();
    let mut take = |row| {
        rows.push(row);
        ControlFlow::Continue(())
    };
    let record = reader.list(id, namespace, &mut take).unwrap();
    (record, rows)
}
