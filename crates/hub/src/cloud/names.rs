//! A server's addresses: what the resolver says, or what it said last when it does not say anything any more.
//!
//! A link without a name service is a link all the same. One lookup runs at a time, on tokio's blocking pool; who
//! gives up waiting does not stop it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::tasks;

/// A lookup is waited for so long when earlier addresses are known.
const KNOWN_BOUND: Duration = Duration::from_millis(500);

/// How the lookups of a name ended.
#[derive(Clone, Debug, Default)]
struct Known {
    rounds: u64,
    running: bool,
    addresses: Vec<SocketAddr>,
    error: Option<String>,
}

/// What is known of one name.
pub(super) struct Names(watch::Sender<Known>);

impl Default for Names {
    fn default() -> Self {
        Names(watch::Sender::new(Known::default()))
    }
}

impl Names {
    /// The addresses of `host`, a name or an address.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        self.look(async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await?;
            Ok(found.collect())
        })
        .await
    }

    /// What `lookup` finds, or what an earlier one found.
    async fn look(
        &self,
        lookup: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let mut ended = self.0.subscribe();
        let before = ended.borrow().rounds;
        self.start(lookup);
        let knows_nothing = self.0.borrow().addresses.is_empty();
        let waiting = async { drop(ended.wait_for(|known| known.rounds > before).await) };
        match knows_nothing {
            true => waiting.await,
            false => drop(tokio::time::timeout(KNOWN_BOUND, waiting).await),
        }
        let known = self.0.borrow().clone();
        match known.addresses.is_empty() {
            true => Err(io::Error::other(known.error.unwrap_or_else(|| "no address".to_owned()))),
            false => Ok(known.addresses),
        }
    }

    fn start(&self, lookup: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static) {
        let begins = self.0.send_if_modified(|known| !std::mem::replace(&mut known.running, true));
        if !begins {
            return;
        }
        let known = self.0.clone();
        tasks::spawn("name lookup", tasks::Failure::Local, async move {
            let found = lookup.await;
            known.send_modify(|known| {
                known.running = false;
                known.rounds += 1;
                match found {
                    Ok(addresses) if !addresses.is_empty() => {
                        (known.addresses, known.error) = (addresses, None);
                    }
                    Ok(_) => known.error = Some("the name has no address".to_owned()),
                    Err(error) => known.error = Some(error.to_string()),
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_known_serves_when_the_resolver_fails_or_hangs() {
        let names = Names::default();
        let failing = || async { Err(io::Error::other("no resolver")) };
        let error = names.look(failing()).await.unwrap_err();
        assert_eq!(error.to_string(), "no resolver");
        let address: SocketAddr = "10.0.0.1:6443".parse().unwrap();
        assert_eq!(names.look(async move { Ok(vec![address]) }).await.unwrap(), [address]);
        assert_eq!(names.look(failing()).await.unwrap(), [address]);
        assert_eq!(names.look(async { Ok(vec![]) }).await.unwrap(), [address]);
        assert_eq!(names.look(std::future::pending()).await.unwrap(), [address]);
        assert_eq!(names.look(failing()).await.unwrap(), [address], "while the other one hangs");
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let names = Names::default();
        assert_eq!(names.addresses("::1", 1).await.unwrap(), ["[::1]:1".parse::<SocketAddr>().unwrap()]);
    }
}
