//! What a request asks for, read from its method and its URL as the kube-apiserver reads it
//! (`k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`).
//!
//! Whatever has no place in that scheme - discovery, `/healthz`, methods and paths that no resource has - is
//! [`RequestKind::NonResource`]: a proxy passes it on and lets the apiserver say what it is.

use std::fmt;

use crate::collection::ObjectKey;
use crate::error::BadRequest;
use crate::query::{Query, decode_path};
use crate::resource::Resource;
use crate::selector::{FieldSelector, LabelSelector};

/// What a request does to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads a list.
    List,
    /// Follows a list.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes an object.
    Patch,
    /// Removes an object.
    Delete,
    /// Removes the objects of a list.
    DeleteCollection,
}

impl Verb {
    /// The name of the verb in authorization and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }

    /// Whether it is about a list, so that selectors count.
    fn selects(self) -> bool {
        matches!(self, Verb::List | Verb::Watch | Verb::DeleteCollection)
    }

    fn of_method(method: &str) -> Option<Self> {
        Some(match method {
            "GET" | "HEAD" => Verb::Get,
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            "DELETE" => Verb::Delete,
            _ => return None,
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path as it was sent.
    pub path: String,
    /// The query as it was sent, without the `?`; may be empty.
    pub query: String,
    /// What it is about.
    pub kind: RequestKind,
}

/// What a request is about.
// nearly every request is the large one, and there is one of it at a time
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// No resource: discovery, `/version`, `/healthz`, or nothing that the API has.
    NonResource,
    /// A resource.
    Resource(ResourceRequest),
}

/// A request for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRequest {
    /// What it does.
    pub verb: Verb,
    /// The resource.
    pub resource: Resource,
    /// The namespace; `None` = all, or a resource that has none (also `namespaces` itself).
    pub namespace: Option<String>,
    /// The name of the object, where the path gives it.
    pub name: Option<String>,
    /// The subresource without what follows it: `status`, `log`, `proxy`.
    pub subresource: Option<String>,
    /// What the query says.
    pub options: Options,
}

/// The query parameters of reads, and what says of a write that it is none.
///
/// Selectors and the parameters of lists are read for list, watch and deletecollection only; on the other
/// verbs the API passes over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `labelSelector`
    pub label_selector: LabelSelector,
    /// `fieldSelector`
    pub field_selector: FieldSelector,
    /// `resourceVersion`; `None` = not given, or empty.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`; `None` = not given, or empty.
    pub resource_version_match: Option<String>,
    /// `limit` in objects; `None` = not given, or not above 0.
    pub limit: Option<u64>,
    /// `continue`; `None` = not given, or empty.
    pub continue_token: Option<String>,
    /// Whether it is a watch.
    pub watch: bool,
    /// `allowWatchBookmarks`
    pub allow_bookmarks: bool,
    /// `sendInitialEvents`; `None` = not given.
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`; `None` = not given, or not above 0.
    pub timeout_seconds: Option<u64>,
    /// `dryRun`: nothing of it is to be stored.
    pub dry_run: bool,
}

impl RequestInfo {
    /// Reads a request: its method, the path of its URL (still percent-encoded), and the query without `?`.
    ///
    /// An error is what the apiserver answers with 400: a bad encoding, a parameter or selector that cannot
    /// be read.
    pub fn parse(method: &str, path: &str, query: &str) -> Result<RequestInfo, BadRequest> {
        let decoded = decode_path(path)?;
        let kind = match Target::parse(&decoded)? {
            Some(target) => target.request(method, query)?,
            None => RequestKind::NonResource,
        };
        Ok(RequestInfo { path: path.to_owned(), query: query.to_owned(), kind })
    }

    /// The request for a resource, when it is one.
    pub fn resource(&self) -> Option<&ResourceRequest> {
        match &self.kind {
            RequestKind::Resource(r) => Some(r),
            RequestKind::NonResource => None,
        }
    }
}

impl ResourceRequest {
    /// The object that the request names.
    pub fn object_key(&self) -> Option<ObjectKey> {
        let namespace = self.namespace.as_deref().unwrap_or("");
        self.name.as_deref().map(|name| ObjectKey::new(namespace, name))
    }

    /// The name that authorization looks at: a list or watch of one name is about that object
    /// (`k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`).
    pub fn authorization_name(&self) -> Option<&str> {
        let selected = || self.options.field_selector.exact("metadata.name");
        self.name.as_deref().or_else(selected)
    }

    /// The namespace that authorization looks at: as [`Self::namespace`], but a request for one namespace is
    /// in that namespace.
    pub fn authorization_namespace(&self) -> Option<&str> {
        let own = if self.resource.resource == NAMESPACES { self.name.as_deref() } else { None };
        self.namespace.as_deref().or(own)
    }
}

const NAMESPACES: &str = "namespaces";

/// What stands in the path.
struct Target<'a> {
    resource: Resource,
    legacy_watch: bool,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    subresource: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// `None` when the path is not of a resource.
    fn parse(path: &'a str) -> Result<Option<Self>, BadRequest> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Ok(None),
        };
        // an empty part is no name of anything
        if rest.is_empty() || parts.iter().any(|p| p.is_empty()) {
            return Ok(None);
        }
        let (legacy_watch, rest) = match rest {
            ["watch"] => return Err(BadRequest::new("unable to determine kind and namespace from url")),
            ["watch", rest @ ..] => (true, rest),
            // a verb that the API has no more
            ["proxy", ..] => return Ok(None),
            _ => (false, rest),
        };
        let (namespace, rest) = split_namespace(rest);
        let Some((resource, rest)) = rest.split_first() else { return Ok(None) };
        Ok(Some(Target {
            resource: Resource::new(group, version, resource),
            legacy_watch,
            namespace,
            name: rest.first().copied(),
            subresource: rest.get(1).copied(),
        }))
    }

    fn request(self, method: &str, query: &str) -> Result<RequestKind, BadRequest> {
        let Some(verb) = Verb::of_method(method) else { return Ok(RequestKind::NonResource) };
        let query = Query::parse(query);
        let verb = match verb {
            _ if self.legacy_watch => Verb::Watch,
            Verb::Get if self.name.is_none() => {
                if truth(query.get("watch")?) == Some(true) {
                    Verb::Watch
                } else {
                    Verb::List
                }
            }
            Verb::Delete if self.name.is_none() => Verb::DeleteCollection,
            other => other,
        };
        Ok(RequestKind::Resource(ResourceRequest {
            verb,
            resource: self.resource,
            namespace: self.namespace.map(str::to_owned),
            name: self.name.map(str::to_owned),
            subresource: self.subresource.map(str::to_owned),
            options: Options::read(verb, &query)?,
        }))
    }
}

/// Takes `namespaces/x` off, unless the request is for the namespace itself.
fn split_namespace<'p, 'a>(parts: &'p [&'a str]) -> (Option<&'a str>, &'p [&'a str]) {
    match parts {
        [NAMESPACES, _, "status" | "finalize", ..] => (None, parts),
        [NAMESPACES, namespace, rest @ ..] if !rest.is_empty() => (Some(namespace), rest),
        _ => (None, parts),
    }
}

impl Options {
    fn read(verb: Verb, query: &Query<'_>) -> Result<Self, BadRequest> {
        let text = |key| Ok::<_, BadRequest>(query.get(key)?.filter(|v| !v.is_empty()).map(str::to_owned));
        let resource_version = text("resourceVersion")?;
        let dry_run = text("dryRun")?.is_some();
        if !verb.selects() {
            return Ok(Options { resource_version, dry_run, ..Options::default() });
        }
        Ok(Options {
            label_selector: LabelSelector::parse(query.get("labelSelector")?.unwrap_or(""))?,
            field_selector: FieldSelector::parse(query.get("fieldSelector")?.unwrap_or(""))?,
            resource_version,
            resource_version_match: text("resourceVersionMatch")?,
            limit: number(query, "limit")?,
            continue_token: text("continue")?,
            watch: verb == Verb::Watch,
            allow_bookmarks: truth(query.get("allowWatchBookmarks")?).unwrap_or(false),
            send_initial_events: truth(query.get("sendInitialEvents")?),
            timeout_seconds: number(query, "timeoutSeconds")?,
            dry_run,
        })
    }
}

/// As `Convert_Slice_string_To_bool` of `k8s.io/apimachinery/pkg/runtime`: only `0` and `false` are false.
fn truth(value: Option<&str>) -> Option<bool> {
    value.map(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
}

/// A whole number; what is not above 0 counts as not given. What is none is refused in the words of Go's `strconv`.
fn number(query: &Query<'_>, key: &str) -> Result<Option<u64>, BadRequest> {
    let Some(value) = query.get(key)? else { return Ok(None) };
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    let read = value.parse::<i64>().ok().filter(|_| is_number);
    let read = read.ok_or_else(|| BadRequest::new(format!("strconv.ParseInt: parsing {value:?}: {why}")))?;
    Ok(u64::try_from(read).ok().filter(|n| *n > 0))
}

#[cfg(test)]
mod tests;
