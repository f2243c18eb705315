use yurt_api::collection::ObjectKey;
use yurt_api::request::RequestInfo;

use super::super::ring::LOCAL;
use super::*;

fn asked(query: &str) -> ResourceRequest {
    RequestInfo::parse("GET", "/api/v1/namespaces/a/pods", query).unwrap().resource().unwrap().clone()
}

fn token(version: Option<u64>) -> String {
    Continuation::after(version, &ObjectKey::new("a", "p")).encode(Some("a"))
}

#[test]
fn lists_say_of_which_state_they_are_to_be() {
    use State::{AtLeast, Exactly, Newest};
    let cases = [
        ("", Newest, None),
        ("limit=5", Newest, Some(5)),
        ("resourceVersion=0", AtLeast(0), None),
        ("resourceVersion=0&limit=5", AtLeast(0), None),
        ("resourceVersion=7", AtLeast(7), None),
        ("resourceVersion=7&limit=5", Exactly(7), Some(5)),
        ("resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan", AtLeast(7), Some(5)),
        ("resourceVersion=7&resourceVersionMatch=Exact", Exactly(7), None),
    ];
    for (query, state, limit) in cases {
        assert_eq!(
            of_list(&asked(query)),
            Ok(Wanted { state, start: None, limit, countable: true }),
            "{query}"
        );
    }
    for (version, state) in [(Some(7), Exactly(7)), (None, Newest)] {
        for more in ["", "&resourceVersion=0"] {
            let wanted = of_list(&asked(&format!("limit=2&continue={}{more}", token(version)))).unwrap();
            assert_eq!((wanted.state, wanted.limit), (state, Some(2)));
            assert_eq!(wanted.start.as_ref().unwrap().start, "a/p\0");
            assert_eq!(wanted.old(Some("a")), Unfit::OldPage(token(None)));
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_the_apiservers_words() {
    let messages = |query: &str| match of_list(&asked(query)) {
        Err(Unfit::Invalid(problems)) => problems.into_iter().map(|p| p.message).collect(),
        Err(Unfit::Bad(message) | Unfit::NoNumber(message)) => vec![message],
        other => panic!("{query}: {other:?}"),
    };
    let cases: [(&str, &[&str]); 8] = [
        ("resourceVersionMatch=Exact", &["unless resourceVersion is provided"]),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            &["\"exact\" is forbidden for resourceVersion \"0\""],
        ),
        ("resourceVersionMatch=Most", &["unless resourceVersion", "Unsupported value: \"Most\""]),
        ("sendInitialEvents=true", &["forbidden for list"]),
        ("resourceVersion=x", &["invalid resource version: resourceVersion: Invalid value: \"x\""]),
        ("resourceVersion=99999999999999999999", &["value out of range"]),
        ("resourceVersion=-1", &["invalid syntax"]),
        ("continue=nonsense", &["invalid continue token: continue key is not valid"]),
    ];
    for (query, expected) in cases {
        let found: Vec<String> = messages(query);
        assert_eq!(found.len(), expected.len(), "{query}: {found:?}");
        assert!(found.iter().zip(expected).all(|(f, e)| f.contains(e)), "{query}: {found:?}");
    }
    let both = format!("resourceVersion=7&continue={}", token(Some(7)));
    assert!(messages(&both)[0].starts_with("specifying resource version is not allowed"));
    let watch = |query| start_of_watch(&asked(&format!("watch=true&{query}")).options);
    assert_eq!(watch(""), Ok((0, true)));
    assert_eq!(watch("resourceVersion=7"), Ok((7, false)));
    assert_eq!(
        watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7"),
        Ok((7, true))
    );
    assert_eq!(watch("sendInitialEvents=false&resourceVersionMatch=NotOlderThan"), Ok((0, false)));
    assert!(matches!(watch("sendInitialEvents=true"), Err(Unfit::Invalid(p)) if p.len() == 1));
    assert!(matches!(watch("resourceVersionMatch=Exact"), Err(Unfit::Invalid(p)) if p.len() == 2));
    assert!(matches!(watch("resourceVersion=x"), Err(Unfit::NoNumber(_))));
}

#[test]
fn a_version_is_honoured_or_its_lack_is_said() {
    let local = LOCAL + 3;
    let large = |asked, held| Err(Unfit::TooLarge { asked, held });
    let cases = [
        (0, 7, 7, Ok(())),
        (7, 7, 7, Ok(())),
        (8, 7, 7, large(8, 7)),
        (8, 7, local, large(8, local)),
        (LOCAL + 3, 7, local, Ok(())),
        (LOCAL + 4, 7, local, large(LOCAL + 4, local)),
        (LOCAL + 3, 9, 9, Ok(())),
    ];
    for (version, cloud, view, expected) in cases {
        assert_eq!(reached(version, cloud, view), expected, "{version} {cloud} {view}");
    }
    let get = RequestInfo::parse("GET", "/api/v1/namespaces/a/pods/p", "resourceVersion=x").unwrap();
    assert!(matches!(fits(get.resource().unwrap(), 7, 7), Err(Unfit::NoNumber(_))));
}

#[test]
fn relaxed_reads_name_the_oldest_state_that_will_do() {
    let cases = [
        ("resourceVersion=0", Some(0)),
        ("resourceVersion=5", Some(5)),
        ("resourceVersion=5&resourceVersionMatch=NotOlderThan&limit=5", Some(5)),
        ("resourceVersion=5&limit=5", None),
        ("resourceVersion=5&resourceVersionMatch=Exact", None),
        ("resourceVersion=5&continue=x", None),
        ("", None),
    ];
    for (query, expected) in cases {
        assert_eq!(not_older_than(&asked(query)), expected, "{query}");
    }
    let page = |version| asked(&format!("continue={}", token(Some(version))));
    assert!(local_page(&page(LOCAL + 1)).is_some());
    assert!(local_page(&page(7)).is_none() && local_page(&asked("limit=5")).is_none());
}
