//! How keys of the API stand in columns.

use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::representation::Representation;
use yurt_api::resource::Resource;

use crate::error::{Result, StoreError};
use crate::records::Row;
use crate::seal::Place;

/// The column of "all namespaces"; no namespace has this name.
const ALL_NAMESPACES: &str = "*";

/// `namespace/name`, or `name` for a cluster-scoped object: sorts as the apiserver lists.
pub(crate) fn object_key(key: &ObjectKey) -> String {
    key.to_string()
}

pub(crate) fn parse_object_key(column: &str) -> ObjectKey {
    match column.split_once('/') {
        Some((namespace, name)) => ObjectKey { namespace: namespace.into(), name: name.into() },
        None => ObjectKey { namespace: String::new(), name: column.into() },
    }
}

/// The first and the first-beyond key of the objects of a namespace (`0` follows `/`).
pub(crate) fn namespace_range(namespace: &str) -> (String, String) {
    (format!("{namespace}/"), format!("{namespace}0"))
}

pub(crate) fn namespace_column(key: &CollectionKey) -> &str {
    key.namespace.as_deref().unwrap_or(ALL_NAMESPACES)
}

pub(crate) fn parse_namespace(column: String) -> Option<String> {
    (column != ALL_NAMESPACES).then_some(column)
}

pub(crate) fn parse_representation(column: &str) -> Result<Representation> {
    Representation::parse(column)
        .ok_or_else(|| StoreError::Damaged(format!("no representation is named {column:?}")))
}

/// Bodies of these are sealed.
pub(crate) fn is_secret(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.resource == "secrets"
}

/// The place of an object's body.
pub(crate) fn object_place(
    collection: i64,
    key: &str,
    rv: u64,
    applied: u64,
    since: u64,
    uid: &str,
) -> Place {
    let place = Place::new("objects").number(collection).text(key);
    let place = place.number(rv.cast_signed()).number(applied.cast_signed());
    // Rows of an earlier format do not say it.
    let place = if since == 0 { place } else { place.number(since.cast_signed()) };
    place.text(uid)
}

/// The place of the body of what an object was.
pub(crate) fn past_place(collection: i64, ended: u64, since: u64, row: &Row) -> Place {
    let place = Place::new("past").number(collection).number(ended.cast_signed()).text(&object_key(&row.key));
    place.number(row.resource_version.cast_signed()).number(since.cast_signed()).text(&row.uid)
}
