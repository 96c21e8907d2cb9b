//! The scale of a logarithmic quantizer. Knows no values, only their histogram.

use super::REPQ_QUANTILES;
use super::error::log_error;
use crate::quantizers::{Base, LevelRule, Log, QuantizerError};
use crate::stats::LogHistogram;

/// The scale of least mean squared error among the quantiles [`REPQ_QUANTILES`], as RepQ-ViT chooses it; the first of
/// equal ones, 1 if no quantile is above 0. An error only where `bits` is none of a logarithmic quantizer.
pub fn log_scale(histogram: &LogHistogram, bits: u8, base: Base, rule: LevelRule) -> Result<f32, QuantizerError> {
    let mut best = (Log::new(bits, base, 1.0, rule)?.scale(), f64::INFINITY);
    for p in REPQ_QUANTILES {
        let Ok(candidate) = Log::new(bits, base, histogram.quantile(p), rule) else { continue };
        let error = log_error(histogram, &candidate);
        if error < best.1 {
            best = (candidate.scale(), error);
        }
    }
    Ok(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::uniform;

    #[test]
    fn takes_the_best_of_three_quantiles() {
        let values: Vec<f32> = uniform(1, 50_000).into_iter().map(|u| (-9.0 * u).exp()).collect();
        let mut histogram = LogHistogram::new();
        histogram.observe(&values);
        for (bits, base) in [(3, Base::Two), (4, Base::SqrtTwo)] {
            let scale = log_scale(&histogram, bits, base, LevelRule::Strict).unwrap();
            let squared = |scale: f32| {
                let mut fake = values.clone();
                Log::new(bits, base, scale, LevelRule::Strict).unwrap().fake(&mut fake);
                values.iter().zip(&fake).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
            };
            for p in REPQ_QUANTILES {
                assert!(squared(scale) <= 1.01 * squared(crate::rows::quantile(&values, p)));
            }
        }
    }

    #[test]
    fn without_positive_values_the_scale_is_one() {
        let mut histogram = LogHistogram::new();
        assert_eq!(log_scale(&histogram, 4, Base::Two, LevelRule::Paper), Ok(1.0));
        histogram.observe(&[0.0; 10]);
        assert_eq!(log_scale(&histogram, 4, Base::Two, LevelRule::Paper), Ok(1.0));
        assert_eq!(log_scale(&histogram, 1, Base::Two, LevelRule::Paper), Err(QuantizerError::LogBits(1)));
    }
}
