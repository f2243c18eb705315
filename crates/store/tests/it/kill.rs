//! kill -9 at any moment: nothing acknowledged is lost, and no state is a mixture.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::story::{self, Said};

const ROUNDS: u64 = 12;

#[test]
fn killed_at_any_moment_it_holds_what_it_said() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, mut lines) = story::start(&mut story::command(dir.path(), 10_000));
        let mut said = Said::default();
        // Killed while it works on what follows this line.
        let after = u64::from(seed).wrapping_mul(round + 1) % 600;
        lines.by_ref().take(after as usize).for_each(|line| said.hear(&line));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| said.hear(&line));
        println!("round {round}: killed after {after} lines");
        said.check(dir.path(), false);
    }
}
