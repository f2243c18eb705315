#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use super::*;
use proptest::prelude::*;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

fn joined(pieces: Vec<Bytes>) -> Bytes {
    pieces.concat().into()
}

fn split_json(body: &str) -> Result<List, DecodeError> {
    split(Encoding::Json, &Bytes::from(body.to_owned()))
}

#[test]
fn a_page_of_built_in_objects() {
    let list = split_json(
        r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1024","continue":"tok","remainingItemCount":7},"items":[{"metadata":{"name":"a"},"spec":{"x":{"kind":"keep"}}},{"metadata":{"name":"b"}}]}"#,
    )
    .unwrap();
    let expected = ListHeader {
        type_meta: TypeMeta::new("v1", "PodList"),
        resource_version: 1024,
        continue_token: "tok".into(),
        remaining: Some(7),
        typed_items: false,
        item_type: Some(TypeMeta::new("v1", "Pod")),
    };
    assert_eq!(list.header, expected);
    assert_eq!(list.items[0], r#"{"metadata":{"name":"a"},"spec":{"x":{"kind":"keep"}}}"#);
    assert_eq!(list.items.len(), 2);
}

#[test]
fn items_of_custom_resources_lose_their_type_and_get_it_back() {
    let body = r#"{"apiVersion":"a.io/v1","items":[{"apiVersion":"a.io/v1","kind":"Thing","metadata":{"name":"a"}}],"kind":"ThingList","metadata":{"continue":"","resourceVersion":"9"}}"#;
    let list = split_json(body).unwrap();
    assert!(list.header.typed_items);
    assert_eq!(list.header.item_type, Some(TypeMeta::new("a.io/v1", "Thing")));
    assert_eq!(list.items[0], r#"{"metadata":{"name":"a"}}"#);
    let again = joined(assemble(Encoding::Json, &list.header, &list.items));
    let value = |b: &[u8]| serde_json::from_slice::<serde_json::Value>(b).unwrap();
    assert_eq!(value(&again)["items"], value(body.as_bytes())["items"]);
}

#[test]
fn no_items_are_an_empty_list_but_no_list_is_an_error() {
    for items in ["[]", "null"] {
        let body = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":{items}}}"#
        );
        assert!(split_json(&body).unwrap().items.is_empty());
    }
    let none = [
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","code":500}"#,
        r#"{"kind":"PodList","apiVersion":"v1","metadata":{}}"#,
        r#"{"items":[]}"#,
        r#"{"kind":"PodList","items":{}}"#,
        r#"{"kind":"PodList","items":[1]}"#,
        r#"{"kind":"PodList","items":[{"kind":"A"},{"kind":"B"}]}"#,
        r#"{"kind":"PodList","items":[{"kind":"A"},{}]}"#,
        "<html>",
        "",
    ];
    for body in none {
        assert!(split_json(body).is_err(), "{body}");
    }
    let pod = crate::envelope::seal(&TypeMeta::new("v1", "Pod"), b"");
    assert!(split(Encoding::Protobuf, &pod.into()).is_err());
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    for enc in BOTH {
        let body = joined(assemble(enc, &header(3, None), &[object(enc, "a"), object(enc, "b")]));
        // the newline behind JSON, and the two empty texts that end an envelope, are not missed
        let spare = if enc == Encoding::Json { 1 } else { 4 };
        for end in 0..body.len() - spare {
            assert!(split(enc, &body.slice(..end)).is_err(), "{enc:?} {end}");
        }
    }
}

#[test]
fn protobuf_items_are_slices_of_the_body() {
    let body = joined(assemble(Encoding::Protobuf, &header(3, None), &[object(Encoding::Protobuf, "a")]));
    let list = split(Encoding::Protobuf, &body).unwrap();
    assert!(body.as_ptr_range().contains(&list.items[0].as_ptr()));
}

#[test]
fn pieces_are_about_64_kib() {
    for enc in BOTH {
        let items = vec![object(enc, &"x".repeat(1000)); 1000];
        let pieces = assemble(enc, &header(3, None), &items);
        assert!(pieces.len() > 10);
        assert!(pieces.iter().rev().skip(1).all(|p| (PIECE..PIECE * 2).contains(&p.len())));
        assert_eq!(split(enc, &joined(pieces)).unwrap().items, items);
    }
}

fn header(resource_version: u64, remaining: Option<i64>) -> ListHeader {
    ListHeader {
        type_meta: TypeMeta::new("v1", "PodList"),
        resource_version,
        continue_token: String::new(),
        remaining,
        typed_items: false,
        item_type: Some(TypeMeta::new("v1", "Pod")),
    }
}

fn object(enc: Encoding, name: &str) -> Bytes {
    let json = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"nodeName":"edge-1"}}}}"#);
    match enc {
        Encoding::Json => json.into(),
        Encoding::Protobuf => {
            crate::proto::from_json(&TypeMeta::new("v1", "Pod"), json.as_bytes()).unwrap().into()
        }
    }
}

proptest! {
    #[test]
    fn assembled_lists_come_apart_as_they_were(
        names in prop::collection::vec("[a-z]{1,9}", 0..20), rv: u64, token: String, remaining: Option<i64>, typed: bool
    ) {
        for enc in BOTH {
            let items: Vec<Bytes> = names.iter().map(|n| object(enc, n)).collect();
            // an empty list does not show what type its items would carry
            let typed_items = typed && enc == Encoding::Json && !items.is_empty();
            let header = ListHeader { continue_token: token.clone(), typed_items, ..header(rv, remaining) };
            let body = joined(assemble(enc, &header, &items));
            let list = split(enc, &body).unwrap();
            prop_assert_eq!((&list.header, &list.items), (&header, &items));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let _ = split(Encoding::Json, &bytes.clone().into());
        let _ = split(Encoding::Protobuf, &crate::envelope::seal(&TypeMeta::new("v1", "PodList"), &bytes).into());
        let _ = split(Encoding::Protobuf, &bytes.into());
    }
}
