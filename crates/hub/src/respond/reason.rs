//! Why a request went where it went: one text for the log field, the metric label and the header.

/// The reason of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The cloud answers and is asked.
    Online,
    /// A live collection answers what needs no newer state.
    Live,
    /// The cloud did not answer within the bound.
    Slow,
    /// The cloud cannot be reached.
    Offline,
    /// The process has just started and has not heard from the cloud yet.
    Starting,
    /// The node's writes are being pushed.
    Recovering,
    /// The cloud does not accept the node's certificate.
    Refused,
    /// Nothing is held that could answer.
    NotHeld,
    /// The history that is held does not reach back to the asked version.
    TooOld,
    /// No credential, or one that was never seen online.
    UnknownCaller,
    /// The cloud never allowed this read to this caller.
    NotGranted,
    /// A certificate that the hub cannot speak for.
    ForeignCertificate,
    /// A write that only the cloud can take.
    CloudOnly,
    /// A write that the node owns, kept in the journal.
    Journal,
    /// The request itself is wrong.
    BadRequest,
    /// The body of the request is larger than the apiserver takes.
    TooLarge,
    /// The body of the request did not come in time.
    SlowClient,
    /// A bound of the hub is reached.
    Overload,
    /// The store cannot keep what must be kept.
    StoreFailed,
    /// The hub itself failed.
    Failed,
}

impl Reason {
    /// The text.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Online => "online",
            Reason::Live => "live",
            Reason::Slow => "slow",
            Reason::Offline => "offline",
            Reason::Starting => "starting",
            Reason::Recovering => "recovering",
            Reason::Refused => "refused",
            Reason::NotHeld => "not-held",
            Reason::TooOld => "too-old",
            Reason::UnknownCaller => "unknown-caller",
            Reason::NotGranted => "not-granted",
            Reason::ForeignCertificate => "foreign-certificate",
            Reason::CloudOnly => "cloud-only",
            Reason::Journal => "journal",
            Reason::BadRequest => "bad-request",
            Reason::Overload => "overload",
            Reason::StoreFailed => "store-failed",
            Reason::TooLarge => "too-large",
            Reason::SlowClient => "slow-client",
            Reason::Failed => "failed",
        }
    }
}
