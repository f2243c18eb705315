//! Names of what the API serves: resources as they stand in paths, types as they stand in objects.

use std::fmt;

/// A resource as the path of a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version, such as `v1`.
    pub version: String,
    /// The plural lower-case name, such as `pods`.
    pub resource: String,
}

impl Resource {
    /// A resource of these three names.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Resource { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// Group and version as objects carry them: `apps/v1`, and `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether this is the resource of that group (empty = core) and name, of any version.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
}

impl fmt::Display for Resource {
    /// `apps/v1/deployments`, `v1/pods`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        write!(f, "{}/{}", self.version, self.resource)
    }
}

/// What an object says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeMeta {
    /// Group and version: `apps/v1`, `v1`.
    pub api_version: String,
    /// The kind: `Deployment`.
    pub kind: String,
}

impl TypeMeta {
    /// A type of this `apiVersion` and `kind`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        TypeMeta { api_version: api_version.into(), kind: kind.into() }
    }

    /// The group of `apiVersion`; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The version of `apiVersion`.
    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(self.api_version.as_str(), |(_, version)| version)
    }

    /// The type of the items when this is the type of a list (`PodList` to `Pod`).
    pub fn item(&self) -> Option<TypeMeta> {
        let kind = self.kind.strip_suffix("List").filter(|k| !k.is_empty())?;
        Some(TypeMeta::new(&self.api_version, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_in_paths() {
        assert_eq!(Resource::new("apps", "v1", "deployments").to_string(), "apps/v1/deployments");
        assert_eq!(Resource::new("", "v1", "pods").to_string(), "v1/pods");
        assert_eq!(Resource::new("", "v1", "pods").api_version(), "v1");
        assert_eq!(Resource::new("apps", "v1", "deployments").api_version(), "apps/v1");
    }

    #[test]
    fn types_come_apart() {
        let t = TypeMeta::new("apps/v1", "DeploymentList");
        assert_eq!((t.group(), t.version()), ("apps", "v1"));
        assert_eq!(t.item(), Some(TypeMeta::new("apps/v1", "Deployment")));
        let t = TypeMeta::new("v1", "List");
        assert_eq!((t.group(), t.version(), t.item()), ("", "v1", None));
    }
}
