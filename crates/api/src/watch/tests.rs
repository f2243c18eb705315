#![allow(clippy::unwrap_used)]
use super::*;
use crate::object;
use proptest::prelude::*;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

fn pod_type() -> TypeMeta {
    TypeMeta::new("v1", "Pod")
}

fn pod(enc: Encoding, name: &str) -> Bytes {
    let json = format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"5"}}}}"#);
    match enc {
        Encoding::Json => object::to_object(enc, json.as_bytes(), &pod_type()),
        Encoding::Protobuf => object::to_object(
            enc,
            &crate::proto::from_json(&pod_type(), json.as_bytes()).unwrap(),
            &pod_type(),
        ),
    }
}

fn all(decoder: &mut Decoder) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

fn decoder(enc: Encoding, bytes: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(enc, 1 << 20);
    decoder.push(Bytes::copy_from_slice(bytes));
    decoder
}

#[test]
fn frames_as_the_apiserver_writes_them() {
    let line = b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}}\n";
    let frames = all(&mut decoder(Encoding::Json, line));
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].kind, &frames[0].raw[..]), (EventType::Added, &line[..]));
    assert_eq!(frames[0].object, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#);
    assert_eq!(encode(Encoding::Json, EventType::Added, &frames[0].object), &line[..]);

    // length 16; type=1 "ADDED"; object=2 { raw=1 "k8s\0x" }
    let bytes = b"\0\0\0\x10\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x";
    let frames = all(&mut decoder(Encoding::Protobuf, bytes));
    assert_eq!((frames[0].kind, &frames[0].object[..]), (EventType::Added, &b"k8s\0x"[..]));
    assert_eq!(encode(Encoding::Protobuf, EventType::Added, b"k8s\0x"), &bytes[..]);
}

#[test]
fn blank_lines_are_passed_over() {
    let one = encode(Encoding::Json, EventType::Added, b"{}");
    let stream = [b"\n\r\n", &one[..], b"\n"].concat();
    let mut decoder = decoder(Encoding::Json, &stream);
    assert_eq!(all(&mut decoder).len(), 1);
    assert!(!decoder.is_mid_frame());
}

#[test]
fn an_event_of_a_pretty_object_is_one_line() {
    let frame = encode(Encoding::Json, EventType::Modified, b"{\n  \"a\": \"x\\ny\"\r\n}\n");
    assert_eq!(frame, &b"{\"type\":\"MODIFIED\",\"object\":{  \"a\": \"x\\ny\"}}\n"[..]);
}

#[test]
fn errors_carry_a_status() {
    for enc in BOTH {
        let status = crate::status::Status::failure(410, "Expired", "too old resource version");
        let frame = encode(enc, EventType::Error, &status.encode(enc));
        let frames = all(&mut decoder(enc, &frame));
        assert_eq!(frames[0].kind, EventType::Error);
        assert_eq!(crate::status::Status::parse(enc, &frames[0].object), Some(status));
    }
}

#[test]
fn bookmarks_carry_type_and_version() {
    for enc in BOTH {
        for end in [false, true] {
            let frames = all(&mut decoder(enc, &bookmark(enc, &pod_type(), 77, end)));
            let object = &frames[0].object;
            assert_eq!(frames[0].kind, EventType::Bookmark);
            assert_eq!(object::type_meta(enc, object).unwrap(), pod_type());
            let item = object::to_item(enc, object).unwrap();
            assert_eq!(object::meta(enc, &item).unwrap().resource_version, 77);
            let text = String::from_utf8_lossy(&item);
            assert_eq!(text.contains(INITIAL_EVENTS_END), end);
        }
    }
    let json = crate::proto::to_json(
        &pod_type(),
        &object::to_item(
            Encoding::Protobuf,
            &all(&mut decoder(Encoding::Protobuf, &bookmark(Encoding::Protobuf, &pod_type(), 77, true)))[0]
                .object,
        )
        .unwrap(),
    )
    .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["metadata"]["annotations"][INITIAL_EVENTS_END], "true");
}

#[test]
fn frames_over_the_limit_are_refused_before_they_are_whole() {
    let mut json = Decoder::new(Encoding::Json, 100);
    json.push(Bytes::from(vec![b'x'; 101]));
    let mut protobuf = Decoder::new(Encoding::Protobuf, 100);
    protobuf.push(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]));
    for decoder in [&mut json, &mut protobuf] {
        for _ in 0..2 {
            assert_eq!(decoder.next(), Err(DecodeError::TooLarge { limit: 100 }));
        }
    }
}

#[test]
fn nonsense_is_refused_again_and_again() {
    for bytes in [&b"<html>\n"[..], b"{}\n", b"{\"type\":\"NEW\",\"object\":{}}\n", b"{\"type\":\"ADDED\"}\n"]
    {
        let mut decoder = decoder(Encoding::Json, bytes);
        assert!(decoder.next().is_err() && decoder.next().is_err(), "{bytes:?}");
    }
    for bytes in [&b"\0\0\0\0"[..], b"\0\0\0\x02\x0a\x05", b"\0\0\0\x07\x0a\x05ADDED"] {
        assert!(decoder(Encoding::Protobuf, bytes).next().is_err(), "{bytes:?}");
    }
}

#[test]
fn an_idle_stream_holds_little() {
    for enc in BOTH {
        let mut decoder = decoder(enc, &encode(enc, EventType::Added, &pod(enc, &"x".repeat(500_000))));
        assert_eq!(all(&mut decoder).len(), 1);
        assert!(decoder.buffer.capacity() <= KEEP && !decoder.is_mid_frame());
    }
}

proptest! {
    #[test]
    fn chunks_do_not_matter(
        names in prop::collection::vec("[a-z]{1,40}", 1..8), cuts in prop::collection::vec(1usize..60, 1..40)
    ) {
        for enc in BOTH {
            let frames: Vec<Bytes> = names.iter().map(|n| encode(enc, EventType::Modified, &pod(enc, n))).collect();
            let mut rest = Bytes::from(frames.concat());
            let mut decoder = Decoder::new(enc, 4096);
            let mut got = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                decoder.push(rest.split_to((*cut).min(rest.len())));
                // sometimes several chunks wait before they are asked for
                if cut % 3 != 0 { got.extend(all(&mut decoder)); }
            }
            got.extend(all(&mut decoder));
            prop_assert_eq!(got.iter().map(|f| f.raw.clone()).collect::<Vec<_>>(), frames);
            for (frame, name) in got.iter().zip(&names) {
                prop_assert_eq!(&frame.object, &pod(enc, name));
            }
            prop_assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn random_bytes_never_panic(chunks: Vec<Vec<u8>>) {
        for enc in BOTH {
            let mut decoder = Decoder::new(enc, 64);
            for chunk in &chunks {
                decoder.push(chunk.clone().into());
                while let Ok(Some(_)) = decoder.next() {}
            }
        }
    }
}
