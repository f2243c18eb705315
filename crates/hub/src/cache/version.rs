//! What `resourceVersion` asks of an answer from the store. Pure.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/apis/meta/internalversion/validation` and of the
//! table in the API's documentation ("resourceVersion Parameter").

use yurt_api::request::{Options, ResourceRequest, Verb};

use super::ring::is_local;

/// Why a view that is held is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is older than the asked version.
    TooLarge {
        /// The asked version.
        asked: u64,
        /// The version that is held.
        held: u64,
    },
    /// An old version, or the next page of a list that the cloud began.
    Expired,
    /// The parameters contradict each other.
    Invalid(&'static str),
}

/// Checks a list or get against the view: `cloud` is the version of the cloud's state in it, `view`
/// that of the last local write over it (or the same).
pub fn fits(request: &ResourceRequest, cloud: u64, view: u64) -> Result<(), Unfit> {
    let options = &request.options;
    if options.continue_token.is_some() {
        return Err(Unfit::Expired);
    }
    let exact = is_exact(request)?;
    let Some(asked) = asked_version(options)? else { return Ok(()) };
    reached(asked, cloud, view)?;
    if exact && asked != view { Err(Unfit::Expired) } else { Ok(()) }
}

/// Whether the request is content with any state not older than a version, and with which.
pub fn not_older_than(request: &ResourceRequest) -> Option<u64> {
    let options = &request.options;
    if options.continue_token.is_some() || is_exact(request) != Ok(false) {
        return None;
    }
    asked_version(options).ok().flatten()
}

/// Checks what a watch asks for (`ValidateListOptions`); returns the version (0 = any) and whether the
/// present state comes first.
pub fn start_of_watch(options: &Options) -> Result<(u64, bool), Unfit> {
    let version = asked_version(options)?.unwrap_or(0);
    match (options.send_initial_events, options.resource_version_match.as_deref()) {
        (None, None) => Ok((version, version == 0)),
        (Some(initial), Some("NotOlderThan")) => Ok((version, initial)),
        (None, Some(_)) => Err(Unfit::Invalid(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), _) => {
            Err(Unfit::Invalid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        }
    }
}

/// Whether a view is at least of version `asked`.
pub fn reached(asked: u64, cloud: u64, view: u64) -> Result<(), Unfit> {
    let held = if is_local(asked) { view } else { cloud };
    // What the node wrote is in the cloud when no local write stands over the view any more.
    let pushed = is_local(asked) && !is_local(view);
    if asked > held && !pushed { Err(Unfit::TooLarge { asked, held: view }) } else { Ok(()) }
}

fn asked_version(options: &Options) -> Result<Option<u64>, Unfit> {
    let version = options.resource_version.as_deref().map(str::parse::<u64>).transpose();
    version.map_err(|_| Unfit::Invalid("resourceVersion: must be a number"))
}

/// A page of a version, without a match, is of exactly that version.
fn is_exact(request: &ResourceRequest) -> Result<bool, Unfit> {
    let options = &request.options;
    let version = options.resource_version.as_deref();
    match (options.resource_version_match.as_deref(), version) {
        (None, Some(v)) => Ok(request.verb == Verb::List && options.limit.is_some() && v != "0"),
        (None, None) => Ok(false),
        (Some(_), None) => {
            Err(Unfit::Invalid("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        (Some("Exact"), Some("0")) => Err(Unfit::Invalid(
            "resourceVersionMatch: Forbidden: \"Exact\" is forbidden for resourceVersion \"0\"",
        )),
        (Some("Exact"), Some(_)) => Ok(true),
        (Some("NotOlderThan"), Some(_)) => Ok(false),
        (Some(_), Some(_)) => {
            Err(Unfit::Invalid("resourceVersionMatch: supported values: \"Exact\", \"NotOlderThan\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::LOCAL;
    use super::*;
    use yurt_api::request::RequestInfo;

    fn list(query: &str) -> ResourceRequest {
        RequestInfo::parse("GET", "/api/v1/pods", query).unwrap().resource().unwrap().clone()
    }

    #[test]
    fn a_version_is_honoured_or_its_lack_is_said() {
        let local = LOCAL + 3;
        let large = |asked, held| Err(Unfit::TooLarge { asked, held });
        let cases = [
            ("", 7, 7, Ok(())),
            ("resourceVersion=0", 7, 7, Ok(())),
            ("resourceVersion=0&limit=500", 7, 7, Ok(())),
            ("resourceVersion=7", 7, 7, Ok(())),
            ("resourceVersion=6&resourceVersionMatch=NotOlderThan", 7, 7, Ok(())),
            ("resourceVersion=8", 7, 7, large(8, 7)),
            ("resourceVersion=8", 7, local, large(8, local)),
            ("resourceVersion=6&limit=5", 7, 7, Err(Unfit::Expired)),
            ("resourceVersion=6&resourceVersionMatch=Exact", 7, 7, Err(Unfit::Expired)),
            ("resourceVersion=7&resourceVersionMatch=Exact", 7, 7, Ok(())),
            ("resourceVersion=7&resourceVersionMatch=Exact", 7, local, Err(Unfit::Expired)),
            ("resourceVersion=8&resourceVersionMatch=Exact", 7, 7, large(8, 7)),
            ("resourceVersion=4611686018427387907", 7, local, Ok(())),
            ("resourceVersion=4611686018427387908", 7, local, large(LOCAL + 4, local)),
            ("resourceVersion=4611686018427387907", 9, 9, Ok(())),
            ("continue=abc", 7, 7, Err(Unfit::Expired)),
        ];
        for (query, cloud, view, expected) in cases {
            assert_eq!(fits(&list(query), cloud, view), expected, "{query} {cloud} {view}");
        }
        for wrong in [
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=x",
        ] {
            assert!(matches!(fits(&list(wrong), 7, 7), Err(Unfit::Invalid(_))), "{wrong}");
        }
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
            assert_eq!(not_older_than(&list(query)), expected, "{query}");
        }
    }
}
