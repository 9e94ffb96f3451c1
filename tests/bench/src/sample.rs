// SPDX-License-Identifier: GPL-2.0

//! Order statistics.

/// The `n`-th decile; NaN of nothing.
pub(crate) fn decile(values: &[f64], n: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = last as f64 * n as f64 / 10.0;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    decile(values, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deciles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(decile(&[1.0, 2.0], 0), 1.0);
        assert_eq!(decile(&[1.0, 2.0], 10), 2.0);
        assert!(median(&[]).is_nan());
    }
}
