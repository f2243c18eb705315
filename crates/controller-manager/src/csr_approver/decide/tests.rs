//! The table of `table.yaml`: each request differs from one that is approved in what its name says.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Which request it starts from.
    from: String,
    #[serde(default)]
    with: Changes,
    expect: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    signer: Option<String>,
    username: Option<String>,
    groups: Option<Vec<String>>,
    usages: Option<Vec<String>>,
    common_name: Option<String>,
    organizations: Option<Vec<String>>,
    dns: Option<Vec<String>>,
    ips: Option<Vec<IpAddr>>,
    malformed: Option<bool>,
    no_node: Option<bool>,
    taken: Option<Vec<String>>,
    /// Further host names in the node's status.
    hosts: Option<Vec<String>>,
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn start(from: &str) -> (Facts, Asked) {
    let mut facts = Facts {
        signer: CLIENT_SIGNER.to_owned(),
        username: "system:node:edge-1".to_owned(),
        groups: set(&[NODES, "system:authenticated"]),
        usages: set(&["digital signature", "client auth"]),
        asked: Err(Malformed::Pem),
        node: Some(Addresses {
            dns: set(&["edge-1.shop"]),
            ips: BTreeSet::from(["10.0.0.7".parse().unwrap()]),
        }),
        taken: set(&["10.0.0.8", "10.96.0.1", "127.0.0.1"]),
    };
    let mut asked = Asked {
        common_name: "system:node:edge-1".to_owned(),
        organizations: set(&[NODES, YURTHUB]),
        ..Asked::default()
    };
    match from {
        "client" => {}
        "serving" => {
            facts.signer = SERVING_SIGNER.to_owned();
            facts.usages = set(&["digital signature", "server auth", "key encipherment"]);
            asked.organizations = set(&[NODES]);
            asked.dns = vec!["edge-1".to_owned(), "edge-1.shop".to_owned(), "localhost".to_owned()];
            asked.ips = ["10.0.0.7", "127.0.0.1", "169.254.2.1"].map(|ip| ip.parse().unwrap()).to_vec();
        }
        other => panic!("no request {other}"),
    }
    (facts, asked)
}

fn facts(case: Case) -> Facts {
    let (mut facts, mut asked) = start(&case.from);
    let with = case.with;
    facts.signer = with.signer.unwrap_or(facts.signer);
    facts.username = with.username.unwrap_or(facts.username);
    facts.groups = with.groups.map_or(facts.groups, |texts| texts.into_iter().collect());
    facts.usages = with.usages.map_or(facts.usages, |texts| texts.into_iter().collect());
    facts.taken.extend(with.taken.into_iter().flatten());
    if let Some(node) = &mut facts.node {
        node.dns.extend(with.hosts.into_iter().flatten());
    }
    facts.node = facts.node.filter(|_| with.no_node.is_none());
    asked.common_name = with.common_name.unwrap_or(asked.common_name);
    asked.organizations = with.organizations.map_or(asked.organizations, |texts| texts.into_iter().collect());
    asked.dns = with.dns.unwrap_or(asked.dns);
    asked.ips = with.ips.unwrap_or(asked.ips);
    facts.asked = if with.malformed.is_some() { Err(Malformed::Extensions) } else { Ok(asked) };
    facts
}

#[test]
fn every_row_of_the_table_is_decided_as_it_says() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("table.yaml")).unwrap();
    assert!(cases.len() > 30, "{} rows", cases.len());
    for case in cases {
        let (name, expect) = (case.name.clone(), case.expect.clone());
        let got = match decide(&facts(case)) {
            Decision::Approve(_) => "approve".to_owned(),
            Decision::NotOurs => "not ours".to_owned(),
            Decision::Leave(reason) => format!("left: {}", reason.label()),
        };
        assert_eq!(got, expect, "{name}");
    }
}
