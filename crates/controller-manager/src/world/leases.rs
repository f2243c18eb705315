//! Looks at the leases of all nodes, at a steady pace. They are listed and not watched: a list that was answered says
//! that a lease had not changed by then, while a silent watch says nothing.

use kube::api::{Api, ListParams};
use std::time::Duration;

use super::SharedWorld;
use crate::controllers::Context;
use crate::wire::Lease;

/// Where nodes keep their leases (`NamespaceNodeLease` of core/v1).
pub const NAMESPACE: &str = "kube-node-lease";

/// Leases in one page of a list.
const PAGE: u32 = 500;
/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists all leases once and notes them. Errors: no answer, or a refusal; then nothing is noted.
pub async fn look(context: &Context, world: &SharedWorld) -> anyhow::Result<()> {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
    let mut renewed: Vec<(String, String)> = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = tokio::time::timeout(PATIENCE, api.list(&page)).await??;
        renewed.extend(list.items.into_iter().map(|lease| {
            (lease.metadata.name.unwrap_or_default(), lease.spec.renew_time.unwrap_or_default())
        }));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let (now, period) = (context.clock.now().since_start, context.config.nodes.node_monitor_period);
    world.lock().leases.note(renewed.iter().map(|(n, r)| (n.as_str(), r.as_str())), now, period);
    Ok(())
}
