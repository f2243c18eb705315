//! The outcome as a table for people.

use super::rows::Row;
use super::wave::Outcome;

/// Prints the cells of the matrix and the rows beside it, and a closing line; how many are not as expected.
pub fn print(outcomes: &[Outcome], rows: &[Row]) -> usize {
    println!(
        "       {:8}  {:11}  {:23}  {:20}  {:34}  got",
        "autonomy", "the node is", "what runs there", "the controller is", "expected"
    );
    for Outcome { cell, got } in outcomes {
        println!(
            "       {:8}  {:11}  {:23}  {:20}  {:34}  {got}{}",
            cell.autonomy,
            cell.failure,
            cell.workload,
            cell.disturbance,
            cell.expected(),
            mark(got.is(cell.expected()))
        );
    }
    for Row { name, expected, got } in rows {
        let said = got.as_ref().map_or_else(|error| format!("{error:#}"), |()| "as expected".to_string());
        println!("       {name:68}  {expected:34}  {said}{}", mark(got.is_ok()));
    }
    let cells = outcomes.iter().map(|outcome| outcome.got.is(outcome.cell.expected()));
    let all: Vec<bool> = cells.chain(rows.iter().map(|row| row.got.is_ok())).collect();
    let failed = all.iter().filter(|ok| !**ok).count();
    println!("       {} passed, {failed} failed", all.len() - failed);
    failed
}

fn mark(ok: bool) -> &'static str {
    if ok { "" } else { "  <-- FAILED" }
}
