//! What `resourceVersion`, `limit` and `continue` ask of an answer from the store. Pure.
//!
//! The rules and the words are those of `k8s.io/apimachinery/pkg/apis/meta/internalversion/validation` and of
//! `k8s.io/apiserver/pkg/storage` (`ValidateListOptions`, `DecodeContinue`, `ParseResourceVersion`).

use yurt_api::continuation::Continuation;
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
    /// A list of a version that is not held any more.
    OldList,
    /// The next page of such a list; with a token that goes on in the newest state.
    OldPage(String),
    /// A watch from a version that the history does not reach back to.
    OldWatch {
        /// The asked version.
        asked: u64,
        /// The oldest one from which a watch could start.
        oldest: u64,
    },
    /// A `resourceVersion` of a get or watch that is no number.
    NoNumber(String),
    /// Something that cannot be read.
    Bad(String),
    /// The parameters contradict each other.
    Invalid(Vec<Problem>),
}

/// What is wrong with one parameter (`k8s.io/apimachinery/pkg/util/validation/field`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The parameter.
    pub field: &'static str,
    /// For machines.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The state that a list is to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Whatever is newest.
    Newest,
    /// Any that is not older.
    AtLeast(u64),
    /// This one.
    Exactly(u64),
}

/// What a list asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which state.
    pub state: State,
    /// From which key on; `None` = from the first.
    pub start: Option<Continuation>,
    /// At most so many objects.
    pub limit: Option<u64>,
    /// No selector leaves open how many are left behind a page.
    pub countable: bool,
}

impl Wanted {
    /// What is said when the state is not held: a page can go on in the newest one.
    pub fn old(&self, namespace: Option<&str>) -> Unfit {
        match self.start.clone() {
            Some(start) => Unfit::OldPage(start.in_the_newest().encode(namespace)),
            None => Unfit::OldList,
        }
    }
}

/// What a list asks for, or what is wrong with it.
pub fn of_list(request: &ResourceRequest) -> Result<Wanted, Unfit> {
    let options = &request.options;
    valid(options)?;
    let version = options.resource_version.as_deref();
    let countable = options.label_selector.is_empty() && options.field_selector.is_empty();
    if let Some(token) = &options.continue_token {
        let start = Continuation::parse(token, request.namespace.as_deref());
        let start = start.map_err(|bad| Unfit::Bad(bad.message))?;
        if version.is_some_and(|v| v != "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Unfit::Bad(why.to_owned()));
        }
        let state = start.version.map_or(State::Newest, State::Exactly);
        return Ok(Wanted { state, start: Some(start), limit: options.limit, countable });
    }
    let wrong = |why| Unfit::Bad(format!("invalid resource version: {why}"));
    let asked = version.map(number).transpose().map_err(wrong)?;
    // A list of any version comes from the apiserver's watch cache, which knows no limit.
    let limit = options.limit.filter(|_| asked != Some(0));
    let state = match asked {
        None => State::Newest,
        Some(v) if options.resource_version_match.as_deref() == Some("Exact") => State::Exactly(v),
        // A page of a version, without a match, is of exactly that version.
        Some(v) if options.resource_version_match.is_none() && limit.is_some() => State::Exactly(v),
        Some(v) => State::AtLeast(v),
    };
    Ok(Wanted { state, start: None, limit, countable })
}

/// Checks a get against the object's view: `cloud` is the version of the cloud's state in it, `view` that of the last
/// local write over it (or the same).
pub fn fits(request: &ResourceRequest, cloud: u64, view: u64) -> Result<(), Unfit> {
    match request.options.resource_version.as_deref().map(number).transpose() {
        Ok(asked) => reached(asked.unwrap_or(0), cloud, view),
        Err(why) => Err(Unfit::NoNumber(why)),
    }
}

/// Whether the request is content with any state not older than a version, and with which.
pub fn not_older_than(request: &ResourceRequest) -> Option<u64> {
    match request.verb {
        Verb::List => match of_list(request).ok()? {
            Wanted { state: State::AtLeast(version), .. } => Some(version),
            _ => None,
        },
        _ => number(request.options.resource_version.as_deref()?).ok(),
    }
}

/// The version of this node's own that a page is to be of.
pub fn local_page(request: &ResourceRequest) -> Option<Wanted> {
    let wanted = of_list(request).ok()?;
    let local = matches!(wanted.state, State::Exactly(version) if is_local(version));
    (local && wanted.start.is_some()).then_some(wanted)
}

/// Checks what a watch asks for; returns the version (0 = any) and whether the present state comes first.
pub fn start_of_watch(options: &Options) -> Result<(u64, bool), Unfit> {
    valid(options)?;
    let version = options.resource_version.as_deref().map(number).transpose().map_err(Unfit::NoNumber)?;
    let version = version.unwrap_or(0);
    Ok((version, options.send_initial_events.unwrap_or(version == 0)))
}

/// Whether a view is at least of version `asked`.
pub fn reached(asked: u64, cloud: u64, view: u64) -> Result<(), Unfit> {
    let held = if is_local(asked) { view } else { cloud };
    // What the node wrote is in the cloud when no local write stands over the view any more.
    let pushed = is_local(asked) && !is_local(view);
    if asked > held && !pushed { Err(Unfit::TooLarge { asked, held: view }) } else { Ok(()) }
}

/// Reads a version as Go's `strconv` does; an error has its words.
fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    // Rust takes a sign that Go does not.
    let read = text.parse().ok().filter(|_| digits);
    read.ok_or_else(|| {
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}")
    })
}

const MATCH: &str = "resourceVersionMatch";
const INITIAL: &str = "sendInitialEvents";
const IS_CONTINUED: &str = "resourceVersionMatch is forbidden when continue is provided";

/// `ValidateListOptions`.
fn valid(options: &Options) -> Result<(), Unfit> {
    let problems = if options.watch { of_watch(options) } else { of_pages(options) };
    if problems.is_empty() { Ok(()) } else { Err(Unfit::Invalid(problems)) }
}

fn of_pages(options: &Options) -> Vec<Problem> {
    let version = options.resource_version.as_deref();
    let mut found = Vec::new();
    if let Some(matched) = options.resource_version_match.as_deref() {
        if version.is_none() {
            found.push(forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if options.continue_token.is_some() {
            found.push(forbidden(MATCH, IS_CONTINUED));
        }
        if !matches!(matched, "Exact" | "NotOlderThan") {
            found.push(unsupported(matched, r#""Exact", "NotOlderThan", """#));
        }
        if matched == "Exact" && version == Some("0") {
            found.push(forbidden(
                MATCH,
                r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#,
            ));
        }
    }
    if options.send_initial_events.is_some() {
        found.push(forbidden(INITIAL, "sendInitialEvents is forbidden for list"));
    }
    found
}

fn of_watch(options: &Options) -> Vec<Problem> {
    let matched = options.resource_version_match.as_deref();
    let mut found = Vec::new();
    if options.send_initial_events.is_some() && matched != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        found.push(forbidden(MATCH, why));
    }
    if let Some(matched) = matched {
        if options.send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            found.push(forbidden(MATCH, why));
        }
        if matched != "NotOlderThan" {
            found.push(unsupported(matched, r#""NotOlderThan""#));
        }
        if options.continue_token.is_some() {
            found.push(forbidden(MATCH, IS_CONTINUED));
        }
    }
    found
}

fn forbidden(field: &'static str, why: &str) -> Problem {
    Problem { field, reason: "FieldValueForbidden", message: format!("Forbidden: {why}") }
}

fn unsupported(value: &str, supported: &str) -> Problem {
    let message = format!("Unsupported value: {value:?}: supported values: {supported}");
    Problem { field: MATCH, reason: "FieldValueNotSupported", message }
}

#[cfg(test)]
mod tests;
