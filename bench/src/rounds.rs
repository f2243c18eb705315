//! Short rounds in which all contenders do the same work, and what is taken from them.

use std::time::Duration;

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value below which the part `at` of all lies; 0 of nothing.
pub fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * at) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&mut values.into_iter().collect::<Vec<_>>(), 0.5)
}

/// What one contender did in one round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Median latency in ms.
    pub p50: f64,
    /// 99th percentile in ms.
    pub p99: f64,
    /// CPU of its process per request in ms; 0 when it has none.
    pub cpu: f64,
}

/// The medians over all rounds of what `figure` makes of the contenders in one round.
pub fn over<const N: usize>(rounds: &[[Round; N]], figure: impl Fn(&[Round; N]) -> f64) -> f64 {
    median(rounds.iter().map(figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&mut values, 0.5), 3.0);
        assert_eq!(quantile(&mut values, 0.99), 5.0);
        assert_eq!(quantile(&mut values, 1.0), 5.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
