//! Bodies made by rcgen, and ones that two readers could understand differently.

use rcgen::{CertificateParams, CustomExtension, DnType, DnValue, KeyPair, SanType};

use super::*;

const CLIENT: &[(DnType, &str)] =
    &[(DnType::CommonName, "system:node:edge-1"), (DnType::OrganizationName, "system:nodes")];

fn pem(subject: &[(DnType, &str)], change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, text) in subject {
        params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*text).to_owned()));
    }
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn read(pem: &str) -> Result<Asked, Malformed> {
    Asked::read(pem.as_bytes())
}

#[test]
fn subject_and_names_are_read() {
    let asked = read(&pem(CLIENT, |_| {})).unwrap();
    assert_eq!(asked.common_name, "system:node:edge-1");
    assert_eq!(asked.organizations, BTreeSet::from(["system:nodes".to_owned()]));
    assert!(asked.dns.is_empty() && asked.ips.is_empty());
    let asked = read(&pem(CLIENT, |params| {
        let address = |text: &str| SanType::IpAddress(text.parse().unwrap());
        params.subject_alt_names =
            vec![SanType::DnsName("edge-1".try_into().unwrap()), address("10.0.0.7"), address("fd00::7")];
    }));
    let asked = asked.unwrap();
    assert_eq!(asked.dns, ["edge-1"]);
    assert_eq!(asked.ips, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    let good = pem(CLIENT, |_| {});
    let other = pem(&[(DnType::CommonName, "admin")], |_| {});
    let body = |text: &str| text.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    let uri = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::URI("spiffe://a/b".try_into().unwrap())];
    };
    let broken_names = |params: &mut CertificateParams| {
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0x05, 0x01]);
        params.custom_extensions = vec![extension];
    };
    let two_lists = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("edge-1".try_into().unwrap())];
        // SEQUENCE { [2] "b" }: a list with one DNS name.
        let extension =
            CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0x03, 0x82, 0x01, b'b']);
        params.custom_extensions = vec![extension];
    };
    let unit = (DnType::OrganizationalUnitName, "unit");
    let table = [
        (String::new(), Malformed::Pem),
        ("not PEM".to_owned(), Malformed::Pem),
        (format!("{other}{good}"), Malformed::Pem),
        (format!("text\n{good}"), Malformed::Pem),
        (format!("{good}text"), Malformed::Pem),
        (body(&good), Malformed::Pem),
        (good.replacen("\nMI", "\nAA", 1), Malformed::Pkcs10),
        (pem(&[], |_| {}), Malformed::Subject),
        (pem(&[(DnType::OrganizationName, "system:nodes")], |_| {}), Malformed::Subject),
        (pem(&[CLIENT, &[unit]].concat(), |_| {}), Malformed::Subject),
        (pem(CLIENT, broken_names), Malformed::Extensions),
        (pem(CLIENT, two_lists), Malformed::Extensions),
        (pem(CLIENT, uri), Malformed::Names),
    ];
    for (number, (text, expected)) in table.into_iter().enumerate() {
        assert_eq!(read(&text), Err(expected), "row {number}: {text}");
    }
}
