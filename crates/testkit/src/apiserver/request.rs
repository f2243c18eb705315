//! The path and query of a request, read independently of the code under test.
//! Source: k8s.io/apiserver/pkg/endpoints/request/requestinfo.go.

use super::error::Refusal;

/// What a path points at below `/api` and `/apis`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name.
    pub plural: String,
    /// Namespace; none when the request is for all or the resource is cluster-scoped.
    pub namespace: Option<String>,
    /// Object name.
    pub name: Option<String>,
    /// Subresource.
    pub subresource: Option<String>,
    /// The path was `/api/v1/watch/...`.
    pub legacy_watch: bool,
}

impl Target {
    /// Reads a path; nothing when it is no resource path.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let mut target = Self::default();
        match parts.first().map(String::as_str) {
            Some("api") if parts.len() > 2 => target.version = parts.remove(1),
            Some("apis") if parts.len() > 3 => {
                target.group = parts.remove(1);
                target.version = parts.remove(1);
            }
            _ => return None,
        }
        parts.remove(0);
        if parts[0] == "watch" && parts.len() > 1 {
            target.legacy_watch = true;
            parts.remove(0);
        }
        target.locate(parts);
        Some(target)
    }

    fn locate(&mut self, mut parts: Vec<String>) {
        let inside = |p: &[String]| p.len() > 2 && !matches!(p[2].as_str(), "status" | "finalize");
        if parts[0] == "namespaces" && self.group.is_empty() && inside(&parts)
            || parts[0] == "namespaces" && !self.group.is_empty()
        {
            self.namespace = parts.get(1).cloned();
            parts.drain(..2.min(parts.len()));
        }
        let mut parts = parts.into_iter();
        self.plural = parts.next().unwrap_or_default();
        self.name = parts.next();
        self.subresource = parts.next();
    }
}

/// The query, in order, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a raw query.
    pub fn parse(raw: &str) -> Self {
        let pair = |p: &str| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        };
        Self(raw.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// The first value of a name, "" when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A boolean as Go reads it.
    pub fn flag(&self, name: &str) -> bool {
        let present = self.0.iter().any(|(n, _)| n == name);
        present && !matches!(self.get(name), "0" | "f" | "F" | "false" | "False" | "FALSE")
    }

    /// A number, where one below 0 counts as none; 400 when it is no number, or given without one.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some((_, text)) = self.0.iter().find(|(n, _)| n == name) else { return Ok(None) };
        let number: i64 = text.parse().map_err(|_| {
            Refusal::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        Ok(u64::try_from(number).ok())
    }

    /// `resourceVersion`: unset, or a number. A real server answers 500 without a reason to gets and watches.
    pub fn resource_version(&self) -> Result<Option<u64>, Refusal> {
        let text = self.get("resourceVersion");
        if text.is_empty() {
            return Ok(None);
        }
        let problem = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        let wrong = || Refusal::new(500, "", format!("resourceVersion: Invalid value: {text:?}: {problem}"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// The same for a list, where a wrong one is 400.
    pub fn list_resource_version(&self) -> Result<Option<u64>, Refusal> {
        let wrong = |e: Refusal| Refusal::bad_request(format!("invalid resource version: {}", e.message));
        self.resource_version().map_err(wrong)
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_the_server_reads_them() {
        let read = |path: &str| {
            let t = Target::parse(path).unwrap();
            [
                t.group,
                t.plural,
                t.namespace.unwrap_or_default(),
                t.name.unwrap_or_default(),
                t.subresource.unwrap_or_default(),
            ]
            .join("|")
        };
        assert_eq!(read("/api/v1/namespaces/a/pods/b/status"), "|pods|a|b|status");
        assert_eq!(read("/api/v1/namespaces/a"), "|namespaces||a|");
        assert_eq!(read("/api/v1/namespaces/a/finalize"), "|namespaces||a|finalize");
        assert_eq!(read("/api/v1/nodes"), "|nodes|||");
        assert_eq!(read("/apis/apps/v1/namespaces/a/deployments"), "apps|deployments|a||");
        assert!(Target::parse("/apis/apps/v1").is_none());
        assert!(Target::parse("/version").is_none());
    }

    #[test]
    fn the_query_is_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=1&x&limit=abc");
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert!(query.flag("watch") && query.flag("x") && !query.flag("y"));
        assert_eq!(query.number("limit").unwrap_err().code, 400);
    }
}
