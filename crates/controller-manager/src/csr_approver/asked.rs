//! What a certificate request asks for: its PKCS#10 body (RFC 2986), read strictly.
//!
//! The signer reads the same bytes with Go's crypto/x509. Whatever two readers could understand differently, such as
//! two lists of names, is refused here instead of being read in one of two ways.

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_PKCS9_EXTENSION_REQUEST, OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME,
};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// The label of the one PEM block.
const LABEL: &str = "CERTIFICATE REQUEST";

/// The names that a certificate is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations: groups, for Kubernetes.
    pub organizations: BTreeSet<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
}

/// Why a request cannot be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not exactly one PEM block of the right kind.
    #[error("it is not one PEM block of a certificate request")]
    Pem,
    /// Not PKCS#10.
    #[error("it is not a PKCS#10 certificate request")]
    Pkcs10,
    /// The subject has other parts than one common name and organizations, or text that is not plain.
    #[error("its subject has other parts than one common name and organizations")]
    Subject,
    /// Two lists of names, or attributes that cannot be read.
    #[error("its extensions cannot be read in one way only")]
    Extensions,
    /// Names of another kind, such as URIs.
    #[error("it asks for names that are neither DNS names nor IP addresses")]
    Names,
}

impl Asked {
    /// Reads the PEM text of `spec.request`.
    pub fn read(pem: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(pem).map_err(|_| Malformed::Pem)?.trim();
        if !text.starts_with("-----BEGIN ") || text.matches("-----BEGIN ").count() != 1 {
            return Err(Malformed::Pem);
        }
        let (rest, block) = parse_x509_pem(text.as_bytes()).map_err(|_| Malformed::Pem)?;
        if block.label != LABEL || !rest.iter().all(u8::is_ascii_whitespace) {
            return Err(Malformed::Pem);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|_| Malformed::Pkcs10)?;
        if !rest.is_empty() {
            return Err(Malformed::Pkcs10);
        }
        let info = &request.certification_request_info;
        let mut asked = Self::default();
        asked.take_subject(&info.subject)?;
        let mut lists = info.iter_attributes().filter(|a| a.oid == OID_PKCS9_EXTENSION_REQUEST);
        let list = lists.next();
        if lists.next().is_some() {
            return Err(Malformed::Extensions);
        }
        match list.map(|list| list.parsed_attribute()) {
            None => {}
            Some(ParsedCriAttribute::ExtensionRequest(list)) => asked.take_names(&list.extensions)?,
            Some(_) => return Err(Malformed::Extensions),
        }
        Ok(asked)
    }

    fn take_subject(&mut self, subject: &X509Name<'_>) -> Result<(), Malformed> {
        let mut common_names = 0;
        for part in subject.iter_attributes() {
            let text = part.as_str().map_err(|_| Malformed::Subject)?.to_owned();
            if *part.attr_type() == OID_X509_COMMON_NAME {
                self.common_name = text;
                common_names += 1;
            } else if *part.attr_type() == OID_X509_ORGANIZATION_NAME {
                self.organizations.insert(text);
            } else {
                return Err(Malformed::Subject);
            }
        }
        if common_names == 1 { Ok(()) } else { Err(Malformed::Subject) }
    }

    fn take_names(
        &mut self,
        extensions: &[x509_parser::extensions::X509Extension<'_>],
    ) -> Result<(), Malformed> {
        let mut lists = 0;
        for extension in extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    lists += 1;
                    names.general_names.iter().try_for_each(|name| self.take_name(name))?;
                }
                ParsedExtension::ParseError { .. } | ParsedExtension::Unparsed => {
                    return Err(Malformed::Extensions);
                }
                // Key usages and the like: the signer takes those of `spec.usages`.
                _ => {}
            }
        }
        if lists <= 1 { Ok(()) } else { Err(Malformed::Extensions) }
    }

    fn take_name(&mut self, name: &GeneralName<'_>) -> Result<(), Malformed> {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let sixteen = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                self.ips.push(four.or_else(|_| sixteen()).map_err(|_| Malformed::Names)?);
            }
            _ => return Err(Malformed::Names),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
