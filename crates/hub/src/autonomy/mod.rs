//! Would this node carry its pods through a power cut with no cloud? The answer, as the condition `Autonomy` of the
//! node and in `/v1/status`.
//!
//! [`survey`](survey) gathers what a kubelet would need and whether it is held, [`condition`](condition) decides
//! (pure), the [`worker`](worker) writes, with the node's identity and only when the answer changes.

mod condition;
mod needs;
mod survey;
mod volumes;
mod worker;

pub use condition::Verdict;
pub use worker::{Autonomy, Shown};
