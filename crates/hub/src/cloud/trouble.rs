//! What is wrong with the link, in words: logged when it is news, not for every request that it fails.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Different words since the link last worked; beyond them nothing is logged, so that words that change with every
/// try (a port, a time) cannot fill a disk.
const MOST: usize = 8;

/// The words of the probe since it last worked.
#[derive(Default)]
pub struct Trouble(Mutex<Said>);

#[derive(Default)]
struct Said {
    all: Vec<String>,
    last: Option<String>,
}

impl Trouble {
    /// The probe failed with these words; true when they are logged.
    pub fn failed(&self, why: &str) -> bool {
        let mut said = self.lock();
        said.last = Some(why.to_owned());
        let news = said.all.len() < MOST && !said.all.iter().any(|w| w == why);
        if news {
            tracing::warn!(why, "the cloud cannot be reached");
            said.all.push(why.to_owned());
        }
        news
    }

    /// The probe worked: what goes wrong from now on is news again.
    pub fn worked(&self) {
        *self.lock() = Said::default();
    }

    /// What is wrong now.
    pub fn now(&self) -> Option<String> {
        self.lock().last.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_is_told_once_until_the_link_works() {
        let trouble = Trouble::default();
        let told = ["refused", "refused", "not trusted", "refused"].map(|why| trouble.failed(why));
        assert_eq!((told, trouble.now().as_deref()), ([true, false, true, false], Some("refused")));
        trouble.worked();
        assert_eq!((trouble.now(), trouble.failed("refused")), (None, true));
        let news = (0..100).filter(|n| trouble.failed(&n.to_string())).count();
        assert_eq!(news, MOST - 1);
    }
}
